"""The dense network as a source: from a package, through the estimator, and refused by what needs keypoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from pnp_ros.adaptation.adapter import Adapter
from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import Crop, box_from_pose, crop_around
from pnp_ros.detection.detector_network import DetectorConfig, DetectorNetwork
from pnp_ros.geometry import so3
from pnp_ros.networks.dense_network import DenseNetwork, DenseNetworkConfig, DensePrediction, RawDense, best_cells
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import ObjectPackage, ObjectPackageError, write_object_package
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.models import load_models, weights_of
from pnp_ros.rendering.object_coordinates import object_coordinates
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.sources import crop_network
from pnp_ros.types import Pose

torch.set_num_threads(1)
CAMERA = Camera.pinhole(500.0, 505.0, 160.0, 120.0, 320, 240)
NETWORKS = EstimatorConfig(sources=("keypoints",), align=False, detector_threshold=0.0)


@pytest.fixture(scope="module")
def package(
    untrained_package: Callable[..., ObjectPackage], tmp_path_factory: pytest.TempPathFactory, box: TriangleMesh
) -> ObjectPackage:
    """Of a box, of which most views show several sides, with a dense network that knows nothing."""
    folder = tmp_path_factory.mktemp("objects") / "dense"
    known = untrained_package(folder, mesh=box)
    return _written(known, folder, DenseNetworkConfig(crop_size=64, width=4, count=100).to_plain())


def _written(known: ObjectPackage, folder: Path, network: dict) -> ObjectPackage:
    torch.manual_seed(0)
    layers = DenseNetwork(DenseNetworkConfig(crop_size=64, width=4, count=100), torch.from_numpy(known.mesh.bounds))
    weights = safetensors.torch.save(weights_of(layers, DetectorNetwork(DetectorConfig(160, 128, 4))))
    return write_object_package(
        folder,
        name="thing",
        mesh=known.mesh,
        keypoints=known.keypoints,
        network=network,
        detector=known.detector,
        weights=weights,
    )


class _Oracle:
    """Sees what is there, to a pixel, and nonsense that weighs little beside it."""

    def __init__(self, package: ObjectPackage, pose: Pose, seed: int) -> None:
        self.config = DenseNetworkConfig(crop_size=64, count=150)
        self._mesh, self._pose = RayMesh(package.mesh), pose
        self._generator = torch.Generator().manual_seed(seed)
        self.crop: Crop | None = None

    def predict(self, images: torch.Tensor) -> DensePrediction:
        assert self.crop is not None
        found = object_coordinates(self._mesh, self.crop.camera.intrinsics[None], self._pose.matrix()[None, :3], 16, 4)
        seen = torch.isfinite(found[:, :1])
        found = torch.where(seen, found, 0.05 * torch.randn(found.shape, generator=self._generator))
        found = found + 5e-4 * torch.randn(found.shape, generator=self._generator)
        weights = torch.where(seen, 1.0, 0.01).log().expand(-1, 2, -1, -1)
        return best_cells(RawDense(found, weights, torch.tensor([9.0])), self.config.count)


@pytest.mark.parametrize("seed", range(3))
def test_cells_become_a_pose_in_the_whole_image(
    package: ObjectPackage, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotation = so3.random_rotation(generator=torch.Generator().manual_seed(seed)).float()
    truth = Pose(rotation, package.diameter * torch.tensor([0.3, -0.2, 4.0 + seed]))
    estimator = PoseEstimator(package, NETWORKS, backend="torch")
    assert estimator.sources == ("dense",)
    oracle = _Oracle(package, truth, seed)

    def recorded(*arguments: object) -> Crop:
        oracle.crop = crop_around(*arguments)  # type: ignore[arg-type]
        return oracle.crop

    monkeypatch.setattr(crop_network, "crop_around", recorded)
    estimator._sources[0].network = oracle  # type: ignore[attr-defined]
    box = box_from_pose(CAMERA, truth, torch.from_numpy(package.mesh.extreme_points))
    found = estimator.estimate(np.zeros((240, 320, 3), np.uint8), CAMERA, roi=box)
    assert found.state == "valid", found.reason
    assert found.source == "dense"
    assert found.estimate is not None
    assert float((found.estimate.pose.translation - truth.translation).norm()) < 0.01 * float(truth.translation.norm())
    assert float(so3.angle_between(found.estimate.pose.rotation, truth.rotation)) < 0.06
    assert found.correspondences is not None
    assert found.correspondences.image_points.shape == (150, 2)


def test_an_untrained_one_finds_nothing_and_says_so(package: ObjectPackage) -> None:
    found = PoseEstimator(package, NETWORKS).estimate(np.zeros((240, 320, 3), np.uint8), CAMERA)
    assert found.state != "valid"
    assert found.reason


def test_what_needs_keypoints_refuses_in_one_line(
    package: ObjectPackage, untrained_package: Callable[..., ObjectPackage], tmp_path: Path
) -> None:
    with pytest.raises(ObjectPackageError, match="its network is dense; this works with keypoints alone"):
        Adapter(package, AdaptationConfig(), VersionStore(tmp_path / "versions", package))
    keypoints = untrained_package(tmp_path / "keypoints")
    estimator = PoseEstimator(keypoints, NETWORKS)
    with pytest.raises(ValueError, match="expected a network of the kind keypoints, got dense"):
        estimator.use(load_models(package, estimator.device))
    other = _written(keypoints, tmp_path / "other", {"kind": "sparse"})
    with pytest.raises(ObjectPackageError, match=r"network\.kind: expected keypoints or dense, got 'sparse'"):
        PoseEstimator(other, NETWORKS)
    mixed = _written(keypoints, tmp_path / "mixed", {"kind": "dense", "width": 4, "depth": 3})
    with pytest.raises(ObjectPackageError, match=r"network\.depth: unknown field of the dense network"):
        PoseEstimator(mixed, NETWORKS)
