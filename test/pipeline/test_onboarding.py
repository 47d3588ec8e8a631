import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pnp_ros.alignment.aligner import Aligner
from pnp_ros.cameras.camera import Camera
from pnp_ros.cli.main import main
from pnp_ros.geometry import se3, so3
from pnp_ros.io.checkpoints import serialised
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import ObjectPackage, ObjectPackageError
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.onboarding import onboard
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.sources.feature_table import FeatureTable
from pnp_ros.types import Pose
from synthetic.printed_box import printed_box

CAMERA = Camera.pinhole(600.0, 600.0, 319.5, 239.5, 640, 480)
ALONE = EstimatorConfig(align=False)


def _image(mesh: TriangleMesh, x: float, others: int = 0) -> tuple[np.ndarray, Pose]:
    pose = Pose(so3.exp(torch.tensor([0.4, 0.6, 0.2])), torch.tensor([x, 0.01, 0.42]))
    background = np.random.default_rng(others).integers(0, 255, (480, 640, 3), np.uint8)
    with Renderer() as renderer:
        return renderer.render([(renderer.add(mesh), pose)], CAMERA, background=background).rgb, pose


def test_an_onboarded_package_gives_poses_without_training(onboarded: ObjectPackage) -> None:
    estimator = PoseEstimator(onboarded, ALONE)
    assert estimator.sources == ("features",)
    assert estimator.models is None
    for step, x in enumerate((-0.02, 0.0, 0.02)):
        image, truth = _image(onboarded.mesh, x)
        found = estimator.estimate(image, CAMERA)
        assert (found.state, found.source) == (ObjectState.VALID, "features")
        assert found.estimate is not None
        assert float((found.estimate.pose.translation - truth.translation).norm()) < 0.005
        assert float(so3.angle_between(found.estimate.pose.rotation, truth.rotation)) < 0.02
        assert (found.latency["detect"] == 0.0) == (step > 0)  # followed, not searched
    empty = np.random.default_rng(5).integers(0, 255, (480, 640, 3), np.uint8)
    lost = estimator.estimate(empty, CAMERA)
    assert (lost.state, lost.estimate) == (ObjectState.LOST, None)


def test_another_print_on_the_same_shape_is_no_pose(onboarded: ObjectPackage) -> None:
    image, _ = _image(printed_box(seed=1), 0.0)
    assert PoseEstimator(onboarded, ALONE).estimate(image, CAMERA).state is ObjectState.LOST


def test_a_plain_mesh_is_told_to_need_training(tmp_path: Path) -> None:
    box = printed_box()
    made = onboard(tmp_path / "plain", "plain", TriangleMesh(box.vertices, box.faces))
    assert made.package.features_path is None
    assert "hardly any texture" in made.verdict
    with pytest.raises(ObjectPackageError, match="pnp-ros train"):
        PoseEstimator(made.package, ALONE)
    image, truth = _image(made.package.mesh, 0.0)
    estimator = PoseEstimator(made.package, EstimatorConfig(sources=("keypoints", "features")))
    unknown = estimator.estimate(image, CAMERA)
    assert (unknown.state, unknown.estimate) == (ObjectState.LOST, None)
    assert "train" in unknown.reason
    estimator.follow(truth)
    assert estimator.estimate(image, CAMERA).source == "tracking"


def test_networks_of_the_package_stay(untrained_package: Callable[..., ObjectPackage], tmp_path: Path) -> None:
    trained = untrained_package(tmp_path / "box", "box", printed_box())
    assert trained.weights_path is not None
    weights = trained.weights_path.read_bytes()
    both = onboard(tmp_path / "box", "box", printed_box()).package
    assert both.weights_path is not None
    assert both.weights_path.read_bytes() == weights
    assert (both.network, both.keypoints.tolist()) == (trained.network, trained.keypoints.tolist())
    assert PoseEstimator(both, ALONE).sources == ("keypoints", "features")
    assert PoseEstimator(both, dataclasses.replace(ALONE, sources=("features",))).sources == ("features",)
    with pytest.raises(ObjectPackageError, match="another mesh"):
        onboard(tmp_path / "box", "box", printed_box(size=(0.1, 0.1, 0.1)))
    (tmp_path / "box" / "object.yaml").write_text("torn")
    with pytest.raises(ObjectPackageError, match="has trained networks: choose another folder"):
        onboard(tmp_path / "box", "box", printed_box())
    assert (tmp_path / "box" / "weights.safetensors").read_bytes() == weights


def test_features_of_an_earlier_version_are_made_anew_as_it_says(tmp_path: Path) -> None:
    folder = tmp_path / "box"
    made = onboard(folder, "box", printed_box()).package
    path = made.features_path
    assert path is not None
    table = FeatureTable.read(path)
    old = {"descriptors": torch.from_numpy(table.descriptors), "points": torch.from_numpy(table.points)}
    path.write_bytes(serialised(old, {"kind": "sift", "format_version": 1, "views": table.views}))
    with pytest.raises(ValueError, match="version 2, got") as told:
        FeatureTable.read(path)
    mesh = re.search(r"pnp-ros onboard makes it anew of (.*), and keeps networks", str(told.value))
    assert mesh is not None
    assert main(["onboard", mesh[1], "--out", str(folder)]) == 0
    assert len(FeatureTable.read(path).sizes) == len(table.sizes)


def test_followed_by_its_motion_without_a_source_being_asked(onboarded: ObjectPackage) -> None:
    estimator = PoseEstimator(onboarded)
    for step in range(6):
        image, truth = _image(onboarded.mesh, -0.03 + 0.008 * step, others=step)
        found = estimator.estimate(image, CAMERA, step / 30)
        assert found.state is ObjectState.VALID, found.reason
        assert found.source == ("features" if step == 0 else "tracking")
        assert (found.latency["look"] == 0.0) == (step > 0)
        assert found.explained is not None
        assert found.explained > 0.5
        assert found.estimate is not None
        assert float((found.estimate.pose.translation - truth.translation).norm()) < 0.004
        assert float(so3.angle_between(found.estimate.pose.rotation, truth.rotation)) < 0.015


def test_what_is_done_between_images_changes_no_pose(onboarded: ObjectPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    draw = Aligner._draw
    monkeypatch.setattr(Aligner, "_draw", lambda self, *given: drawn.append("") or draw(self, *given))
    images = [_image(onboarded.mesh, -0.03 + 0.008 * step) for step in range(4)]
    runs, counts = [], []
    for rests in (False, True):
        estimator, run = PoseEstimator(onboarded), []
        estimator.follow(images[0][1], 0.0)
        for (image, _), stamp in zip(images, (0.03, 0.06, 0.0905, 0.15)):  # as foreseen, nearly so, and one is missing
            drawn.clear()
            found = estimator.estimate(image, CAMERA, stamp)
            assert (found.state, found.source) == (ObjectState.VALID, "tracking")
            assert found.estimate is not None
            run.append(found.estimate.pose.matrix().numpy().tobytes() + found.estimate.covariance.numpy().tobytes())
            counts.append(len(drawn))
            if rests:
                estimator.rest()
        runs.append(run)
    assert runs[0] == runs[1]
    assert [first - second for first, second in zip(counts[:4], counts[4:])] == [0, 1, 1, 0]


def test_a_pose_that_the_image_contradicts_is_not_valid(onboarded: ObjectPackage) -> None:
    image, truth = _image(onboarded.mesh, 0.0)
    noise = np.random.default_rng(9).integers(0, 255, (480, 640, 3), np.uint8)
    other, _ = _image(printed_box(seed=1), 0.0)  # the same shape at the same place, with another print
    estimator = PoseEstimator(onboarded)
    for contradicting in (noise, other):
        estimator.reset()
        estimator.follow(truth, 0.0)
        assert estimator.estimate(image, CAMERA, 1 / 30).state is ObjectState.VALID
        gone = estimator.estimate(contradicting, CAMERA, 2 / 30)
        assert gone.state is not ObjectState.VALID
        assert gone.reason
        back = estimator.estimate(image, CAMERA, 3 / 30)
        assert (back.state, back.source) == (ObjectState.VALID, "tracking")


def test_a_told_pose_is_aligned_from_a_little_beside(onboarded: ObjectPackage) -> None:
    image, truth = _image(onboarded.mesh, 0.0)
    estimator = PoseEstimator(onboarded)
    estimator.follow(se3.retract(truth, torch.tensor([0.003, -0.002, 0.006, 0.04, -0.03, 0.04])))
    found = estimator.estimate(image, CAMERA)
    assert (found.state, found.source) == (ObjectState.VALID, "tracking")
    assert found.estimate is not None
    assert float(so3.angle_between(found.estimate.pose.rotation, truth.rotation)) < 0.015


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_an_image_of_nothing_at_all_is_lost(onboarded: ObjectPackage, grey: int) -> None:
    for config in (ALONE, EstimatorConfig()):
        found = PoseEstimator(onboarded, config).estimate(np.full((480, 640, 3), grey, np.uint8), CAMERA)
        assert (found.state, found.estimate) == (ObjectState.LOST, None)
        assert "0 points found" in found.reason
