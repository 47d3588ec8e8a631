"""Which of several poses an image likes best, by the object drawn at each of them.

All poses are told from the same pixels: a window of the image about the first of them, or about a given box.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import CropError, box_from_pose, crop_from_box
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.types import Pose


class PoseLikeness(ABC):
    """An object whose poses are compared with images. For one thread.

    Args:
        mesh: in metres.
        side: of the window, pixels.
        margin: of the window over the object's box.
    """

    def __init__(self, mesh: TriangleMesh, side: int, margin: float) -> None:
        self._mesh, self._extent = RayMesh(mesh), torch.from_numpy(mesh.extreme_points)
        self._side, self._margin = side, margin

    @abstractmethod
    def _compared(self, window: NDArray[np.uint8]) -> Callable[[Pose, Camera], float]:
        """What a window (S, S, 3) of an image tells of a pose, by the window's camera: its log-likelihood."""

    def box(self, camera: Camera, pose: Pose) -> Box:
        """Around the object at a pose, in the image.

        Raises:
            CropError: where it is not in front of the camera.
        """
        return box_from_pose(camera, pose, self._extent)

    def log_likelihoods(
        self, image: NDArray[np.uint8], camera: Camera, poses: Sequence[Pose], where: Box | None = None
    ) -> Tensor:
        """(K,) float64 of the poses, but for a constant; zeros where the image tells nothing.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: of the image.
            poses: ``T_camera_object``, float32.
            where: the part of the image that tells, for several objects to be told from the same pixels; None: that
                around the first pose.
        """
        try:
            where = self.box(camera, poses[0]) if where is None else where
            crop = crop_from_box(image, camera, where, self._side, self._margin)
        except CropError:
            return torch.zeros(len(poses), dtype=torch.float64)
        log_likelihood = self._compared(crop.image)
        return torch.tensor([log_likelihood(pose, crop.camera) for pose in poses], dtype=torch.float64)
