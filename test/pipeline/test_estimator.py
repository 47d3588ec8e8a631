import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from pnp_ros.alignment.aligner import Aligner, Alignment
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import crop_around
from pnp_ros.detection.detector import Detection
from pnp_ros.io.camera_info import CameraInfo
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig, KeypointPrediction
from pnp_ros.objects.object_package import ObjectPackage, ObjectPackageError
from pnp_ros.pipeline.calibration import CovarianceCalibration
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.models import load_models
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.sources import crop_network
from pnp_ros.sources.keypoints import KeypointSource
from pnp_ros.types import Pose

torch.set_num_threads(1)
CAMERA = Camera.pinhole(500.0, 500.0, 160.0, 120.0, 320, 240)
EVERYTHING = EstimatorConfig(align=False, detector_threshold=0.0, lost_presence=0.0, valid_presence=0.0)


@pytest.fixture(scope="module")
def package(untrained_package: Callable[..., ObjectPackage], tmp_path_factory: pytest.TempPathFactory) -> ObjectPackage:
    """A package whose networks know nothing."""
    return untrained_package(tmp_path_factory.mktemp("objects") / "tetrahedron")


def _image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (240, 320, 3), np.uint8)


def _bytes(estimate: ObjectEstimate) -> list[bytes]:
    assert estimate.correspondences is not None
    values = [estimate.correspondences.image_points, estimate.correspondences.weights]
    if estimate.estimate is not None:
        values += [estimate.estimate.pose.matrix(), estimate.estimate.covariance]
    return [value.numpy().tobytes() for value in values] + [str((estimate.state, estimate.reason)).encode()]


def test_the_same_images_give_the_same_bytes(package: ObjectPackage) -> None:
    runs = []
    for _ in range(2):
        estimator = PoseEstimator(package, EVERYTHING)
        runs.append([_bytes(estimator.estimate(_image(seed), CAMERA, 0.1 * seed)) for seed in range(5)])
    assert runs[0] == runs[1]


def test_a_path_is_no_package() -> None:
    with pytest.raises(TypeError, match=r"package: expected an ObjectPackage, got str; load_object\(folder\)"):
        PoseEstimator("out/object")  # type: ignore[arg-type]


def test_nothing_that_leaves_is_nan(package: ObjectPackage) -> None:
    estimator = PoseEstimator(package, EVERYTHING)
    for image in (_image(1), np.zeros((240, 320, 3), np.uint8), np.full((240, 320, 3), 255, np.uint8)):
        found = estimator.estimate(image, CAMERA, 0.0)
        assert (found.estimate is None) == (found.state is ObjectState.LOST)
        assert (found.reason == "") == (found.state is ObjectState.VALID)
        assert set(found.latency) == {"detect", "look", "solve", "total"}
        assert np.isfinite([found.score, *(found.box or ()), *found.latency.values()]).all()
        if found.estimate is not None:
            assert bool(torch.isfinite(found.estimate.pose.matrix()).all())
            assert bool(torch.isfinite(found.estimate.covariance).all())


def test_a_image_without_the_object_is_lost(package: ObjectPackage) -> None:
    found = PoseEstimator(package, EstimatorConfig(detector_threshold=1.0)).estimate(_image(0), CAMERA, 0.0)
    assert found.state is ObjectState.LOST
    assert found.estimate is None
    assert "detector score" in found.reason


def test_what_was_followed_is_looked_for_near_and_everywhere_in_turn(
    package: ObjectPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both in one image took as long as four images; thirty looks around it, again and again, took longer still."""
    estimator, looked = PoseEstimator(package, EstimatorConfig(detector_threshold=1.0)), list[str]()
    align, (source,) = Aligner.align, estimator._sources

    def near(self: Aligner, *given: Any) -> Alignment:
        looked.append("widely" if given[3] else "near")
        return align(self, *given)

    def everywhere(*_: object) -> list[Detection]:
        looked.append("everywhere")
        return []

    monkeypatch.setattr(Aligner, "align", near)
    monkeypatch.setattr(source, "places", everywhere)
    estimator.follow(Pose(torch.eye(3), torch.tensor([0.0, 0.0, 0.5])), 0.0)
    for index in range(5):
        assert estimator.estimate(_image(index), CAMERA, 0.1 * index).state is ObjectState.LOST
    assert looked == ["widely", "near", "everywhere", "near", "near", "everywhere", "near"]
    estimator.follow(Pose(torch.eye(3), torch.tensor([0.0, 0.0, 0.5])), 0.5)
    estimator.estimate(_image(5), CAMERA, 0.5)
    assert looked[7:] == ["widely"]
    estimator.estimate(_image(5), CAMERA, 2.0)  # nothing is expected anywhere any more
    assert looked[8:] == ["everywhere"]


class _Oracle:
    """Stands in for the keypoint network: knows where the true pose projects to in the crop that is looked at."""

    def __init__(self, estimator: PoseEstimator, truth: Pose) -> None:
        self.config = estimator.models.network.config  # type: ignore[union-attr]
        self._estimator, self._truth = estimator, truth
        self.window = (0, 0, 64)
        self.crops = 0

    def predict(self, images: torch.Tensor) -> KeypointPrediction:
        self.crops += 1
        pixels = CAMERA.project(self._truth.transform(torch.from_numpy(self._estimator.package.keypoints)))
        x, y, side = self.window
        points = (pixels + 0.5 - torch.tensor([x, y])) * (64 / side) - 0.5
        return KeypointPrediction(points[None], torch.ones(1, 8, 2), torch.ones(1, 8), torch.ones(1))


@pytest.fixture
def oracle(package: ObjectPackage, monkeypatch: pytest.MonkeyPatch) -> tuple[PoseEstimator, _Oracle, Pose]:
    estimator = PoseEstimator(package, EVERYTHING)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2)))[0]
    truth = Pose(rotation * torch.linalg.det(rotation).sign(), torch.tensor([0.03, -0.02, 0.5]))
    oracle = _Oracle(estimator, truth)
    (source,) = estimator._sources
    assert isinstance(source, KeypointSource)
    monkeypatch.setattr(source, "network", oracle)

    def cropped(*arguments):  # type: ignore[no-untyped-def]
        crop = crop_around(*arguments)
        oracle.window = crop.window
        return crop

    monkeypatch.setattr(crop_network, "crop_around", cropped)
    return estimator, oracle, truth


def test_perfect_keypoints_give_the_true_pose_and_are_followed(
    oracle: tuple[PoseEstimator, _Oracle, Pose],
) -> None:
    estimator, network, truth = oracle
    first = estimator.estimate(_image(0), CAMERA, 0.0, roi=(100.0, 60.0, 120.0, 120.0))
    assert first.state is ObjectState.VALID
    assert first.estimate is not None
    torch.testing.assert_close(first.estimate.pose.matrix(), truth.matrix(), atol=1e-3, rtol=0.0)
    assert network.crops == 2  # the box, then the pose
    second = estimator.estimate(_image(1), CAMERA, 0.1)
    assert second.latency["detect"] == 0.0
    assert network.crops == 3
    assert second.box is not None
    estimator.reset()
    assert estimator.estimate(_image(2), CAMERA, 0.2).latency["detect"] > 0.0


def test_a_place_where_the_network_sees_nothing_is_not_solved(
    oracle: tuple[PoseEstimator, _Oracle, Pose], monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator, network, _ = oracle
    predict, nothing = network.predict, torch.full((1,), 0.01)
    monkeypatch.setattr(network, "predict", lambda crops: dataclasses.replace(predict(crops), presence=nothing))
    monkeypatch.setattr("pnp_ros.pipeline.settling.solve", lambda *_: pytest.fail("solved"))
    estimator._settling._config = dataclasses.replace(EVERYTHING, lost_presence=0.2, valid_presence=0.5)
    found = estimator.estimate(_image(0), CAMERA, 0.0, roi=(100.0, 60.0, 120.0, 120.0))
    assert found.state is ObjectState.LOST
    assert "presence 0.01 is below 0.20" in found.reason
    assert network.crops == 1


def test_a_pose_that_does_not_settle_is_uncertain(
    oracle: tuple[PoseEstimator, _Oracle, Pose], monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator, network, _truth = oracle
    predict = network.predict

    def shrinking(images: torch.Tensor) -> KeypointPrediction:  # each look sees a smaller object
        found = predict(images)
        centre = found.image_points.mean(1, keepdim=True)
        return dataclasses.replace(found, image_points=centre + 0.7**network.crops * (found.image_points - centre))

    monkeypatch.setattr(network, "predict", shrinking)
    found = estimator.estimate(_image(0), CAMERA, 0.0, roi=(100.0, 60.0, 120.0, 120.0))
    assert found.state is ObjectState.UNCERTAIN
    assert "settle" in found.reason
    assert network.crops == EVERYTHING.max_passes


def test_keypoints_are_reported_in_image_pixels(oracle: tuple[PoseEstimator, _Oracle, Pose]) -> None:
    estimator, network, truth = oracle
    found = estimator.estimate(_image(0), CAMERA, 0.0, roi=(100.0, 60.0, 120.0, 120.0))
    assert found.correspondences is not None
    pixels = CAMERA.project(truth.transform(found.correspondences.object_points))
    torch.testing.assert_close(found.correspondences.image_points, pixels, atol=1e-2, rtol=0.0)
    weight = 64 / network.window[2]  # one crop pixel of sigma
    torch.testing.assert_close(found.correspondences.weights, torch.full((8, 2), weight))


def test_the_calibration_of_the_package_is_applied(
    oracle: tuple[PoseEstimator, _Oracle, Pose], package: ObjectPackage
) -> None:
    wide = PoseEstimator(dataclasses.replace(package, calibration={"scale": 4.0}), EVERYTHING)
    assert wide.models is not None
    assert wide.models.calibration == CovarianceCalibration(4.0)
    estimator, _network, _truth = oracle
    assert estimator.models is not None
    covariances = []
    for calibration in (CovarianceCalibration(), wide.models.calibration):
        estimator.reset()
        estimator._settling.calibrations["keypoints"] = calibration
        found = estimator.estimate(_image(0), CAMERA, 0.0, roi=(100.0, 60.0, 120.0, 120.0)).estimate
        assert found is not None
        covariances.append(found.covariance)
    torch.testing.assert_close(4.0 * covariances[0], covariances[1])


def test_a_roi_outside_the_image_is_lost(package: ObjectPackage) -> None:
    found = PoseEstimator(package).estimate(_image(0), CAMERA, 0.0, roi=(900.0, 0.0, 10.0, 10.0))
    assert found.state is ObjectState.LOST
    assert "box" in found.reason


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((240, 320), np.uint8),
        np.zeros((240, 320, 3), np.float32),
        np.zeros((120, 320, 3), np.uint8),
        np.zeros((0, 320, 3), np.uint8),
    ],
)
def test_images_of_another_form_are_refused(package: ObjectPackage, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="image"):
        PoseEstimator(package).estimate(image, CAMERA, 0.0)


def test_a_calibration_is_no_camera(package: ObjectPackage) -> None:
    info = CameraInfo(240, 320, "plumb_bob", (0.0,) * 5, (300.0, 0, 160, 0, 300.0, 120, 0, 0, 1))
    with pytest.raises(TypeError, match="camera: expected a Camera, got CameraInfo"):
        PoseEstimator(package).estimate(np.zeros((240, 320, 3), np.uint8), info)  # type: ignore[arg-type]


def test_packages_without_fitting_weights_are_refused(package: ObjectPackage, tmp_path: Path) -> None:
    with pytest.raises(ObjectPackageError, match="train"):
        PoseEstimator(dataclasses.replace(package, weights_path=None), EstimatorConfig(align=False))
    with pytest.raises(ObjectPackageError, match="do not fit"):
        PoseEstimator(dataclasses.replace(package, network={**package.network, "width": 16}))
    with pytest.raises(ObjectPackageError, match=r"calibration\.growth"):
        PoseEstimator(dataclasses.replace(package, calibration={"growth": -1.0}))
    with pytest.raises(ObjectPackageError, match=r"network\.colour"):
        PoseEstimator(dataclasses.replace(package, network={**package.network, "colour": 1}))
    torn = tmp_path / "weights.safetensors"
    torn.write_bytes(b"torn")
    with pytest.raises(ObjectPackageError, match="safetensors"):
        PoseEstimator(dataclasses.replace(package, weights_path=torn))


def _other_weights(package: ObjectPackage, folder: Path) -> ObjectPackage:
    """The package with each number of its weights moved a little, and another calibration."""
    assert package.weights_path is not None
    tensors = safetensors.torch.load_file(package.weights_path)
    moved = {name: tensor * 1.05 if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    path = folder / "other.safetensors"
    path.write_bytes(safetensors.torch.save(moved))
    return dataclasses.replace(package, weights_path=path, calibration={"scale": 4.0, "growth": 0.5})


def test_the_same_weights_again_change_no_byte(package: ObjectPackage) -> None:
    one, other = PoseEstimator(package, EVERYTHING), PoseEstimator(package, EVERYTHING)
    for seed in range(6):
        if seed == 3:
            other.use(load_models(package, other.device))
        expected, found = (e.estimate(_image(seed), CAMERA, 0.0) for e in (one, other))
        assert _bytes(expected) == _bytes(found)


def test_other_weights_are_used_from_the_next_image_on(package: ObjectPackage, tmp_path: Path) -> None:
    adapted = _other_weights(package, tmp_path)
    swapped, fresh = PoseEstimator(package, EVERYTHING), PoseEstimator(adapted, EVERYTHING)
    before = swapped.estimate(_image(0), CAMERA, 0.0)
    swapped.use(load_models(adapted, swapped.device))
    for estimator in (swapped, fresh):
        estimator.reset()
    after, expected = (e.estimate(_image(0), CAMERA, 0.0) for e in (swapped, fresh))
    assert _bytes(after) == _bytes(expected)
    assert _bytes(after) != _bytes(before)


def test_a_swap_keeps_the_track(
    oracle: tuple[PoseEstimator, _Oracle, Pose], package: ObjectPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator, network, _truth = oracle
    roi = (100.0, 60.0, 120.0, 120.0)
    assert estimator.estimate(_image(0), CAMERA, 0.0, roi=roi).state is ObjectState.VALID
    models = load_models(package, estimator.device)
    estimator.use(dataclasses.replace(models, network=network))  # type: ignore[arg-type]
    followed = estimator.estimate(_image(1), CAMERA, 0.1)
    assert followed.state is ObjectState.VALID
    assert followed.latency["detect"] == 0.0  # not searched


def test_models_of_another_object_are_refused(package: ObjectPackage) -> None:
    estimator = PoseEstimator(package, EVERYTHING)
    stranger = KeypointNetwork(KeypointNetworkConfig(9, crop_size=64, width=4))
    with pytest.raises(ValueError, match="8 keypoints, got 9"):
        estimator.use(dataclasses.replace(load_models(package, estimator.device), network=stranger))
