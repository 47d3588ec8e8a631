"""A source of correspondences that is told the truth, for tests of what comes after it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.detector import Detection
from pnp_ros.sources.source import Sighting
from pnp_ros.types import Correspondences, Pose


class Eyes:
    """A source that knows where the object is, but for a turn, and is a pixel off."""

    name, crop_margin = "eyes", None

    def __init__(self, keypoints: np.ndarray, turn: torch.Tensor) -> None:
        self.points, self.turn = torch.from_numpy(keypoints), turn
        self.truth = Pose.identity()

    def places(self, image: np.ndarray, count: int) -> Sequence[Detection]:
        return [Detection(Box(0.0, 0.0, 640.0, 480.0), 1.0)]

    def look(self, image: np.ndarray, camera: Camera, where: Box | Pose) -> Sighting:
        seen = Pose.from_matrix(self.truth.matrix() @ self.turn)
        pixels = camera.project(seen.transform(self.points))
        pixels = pixels + torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
        return Sighting(Correspondences.from_sigma(pixels, self.points, 1.0), 1.0, Box(0.0, 0.0, 640.0, 480.0))
