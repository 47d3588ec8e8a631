"""A source of the user's own: the estimator asks it as ``docs/how_to/own_network.md`` says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import crop_from_box, crop_from_pose
from pnp_ros.detection.detector import Detection
from pnp_ros.geometry import so3
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.sources.source import Sighting
from pnp_ros.types import Correspondences, Pose

CAMERA = Camera.pinhole(500.0, 500.0, 160.0, 120.0, 320, 240)
TRUTH = Pose(so3.exp(torch.tensor([0.4, -0.3, 1.0])), torch.tensor([0.02, 0.01, 0.5]))


class Knowing:
    """Knows the truth, and looks twice as the example of the page does."""

    name = "my_network"
    crop_margin = 1.3

    def __init__(self, package: ObjectPackage) -> None:
        self._keypoints, self._extent = (
            torch.from_numpy(package.keypoints),
            torch.from_numpy(package.mesh.extreme_points),
        )
        self.asked: list[str] = []

    def places(self, image: np.ndarray, count: int) -> Sequence[Detection]:
        self.asked.append("places")
        height, width = image.shape[:2]
        return [Detection(Box(0.0, 0.0, float(width), float(height)), 1.0)]

    def look(self, image: np.ndarray, camera: Camera, where: Box | Pose) -> Sighting:
        self.asked.append("pose" if isinstance(where, Pose) else "box")
        if isinstance(where, Pose):
            crop = crop_from_pose(image, camera, where, self._extent, 128, self.crop_margin)
        else:
            crop = crop_from_box(image, camera, where, 128, 1.0)
        points = crop.to_image(crop.camera.project(TRUTH.transform(self._keypoints)))
        return Sighting(Correspondences.from_sigma(points, self._keypoints, crop.scale), 1.0, crop.box)


def test_a_source_of_ones_own(untrained_package: Callable[..., ObjectPackage], tmp_path: Path) -> None:
    package = untrained_package(tmp_path / "thing")
    source = Knowing(package)
    estimator = PoseEstimator(package, EstimatorConfig(align=False), sources=[source])
    assert (estimator.sources, estimator.models) == (("my_network",), None)
    image = np.zeros((240, 320, 3), np.uint8)
    for asked in (["places", "box", "pose"], ["pose"]):  # searched and looked at again, then followed
        source.asked.clear()
        found = estimator.estimate(image, CAMERA)
        assert (found.state, found.source) == (ObjectState.VALID, "my_network")
        assert found.estimate is not None
        torch.testing.assert_close(found.estimate.pose.matrix(), TRUTH.matrix(), atol=1e-3, rtol=0.0)
        assert source.asked == asked
    aligned = PoseEstimator(package, sources=[source]).estimate(image, CAMERA)  # a black image shows nothing
    assert aligned.state is not ObjectState.VALID
    assert aligned.reason


class Coarse(Knowing):
    """Sees nothing that makes a pose but by a finer look."""

    def look(self, image: np.ndarray, camera: Camera, where: Box | Pose) -> Sighting:
        closely = super().look(image, camera, where)

        def finer() -> Sighting:
            self.asked.append("finer")
            return closely

        random = torch.rand(closely.correspondences.image_points.shape, generator=torch.Generator().manual_seed(1))
        wrong = Correspondences.from_sigma(200.0 * random, closely.correspondences.object_points, 1.0)
        return Sighting(wrong, 1.0, closely.box, finer=finer)


def test_a_finer_look_is_taken_where_the_first_makes_no_pose(
    untrained_package: Callable[..., ObjectPackage], tmp_path: Path
) -> None:
    package = untrained_package(tmp_path / "thing")
    source = Coarse(package)
    found = PoseEstimator(package, EstimatorConfig(align=False), sources=[source]).estimate(
        np.zeros((240, 320, 3), np.uint8), CAMERA
    )
    assert "finer" in source.asked
    assert found.state is ObjectState.VALID
    assert found.estimate is not None
    torch.testing.assert_close(found.estimate.pose.translation, TRUTH.translation, atol=1e-3, rtol=0.0)
