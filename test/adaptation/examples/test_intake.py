"""True references are learnt from; wrong ones, and images that show nothing, are refused with the reason."""

import dataclasses
import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.examples.example import WINDOW, Example
from pnp_ros.adaptation.examples.intake import Intake, Refusal
from pnp_ros.adaptation.observation import Observation
from pnp_ros.adaptation.supervision import OWN
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.models import load_networks
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.rendering.domain_shift import ShiftedScene, strong_shift
from pnp_ros.rendering.simulation import SimulatedFrame, SimulationConfig
from pnp_ros.types import Pose

Observe = Callable[..., Observation]


@pytest.fixture
def intake(demo: ObjectPackage) -> Intake:
    return Intake(demo, AdaptationConfig())


def moved(pose: Pose, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Pose:
    return Pose(pose.rotation, pose.translation + torch.tensor([x, y, z], dtype=torch.float64))


def refused(intake: Intake, seen: Observation) -> str:
    examined = intake.examine(seen)
    assert isinstance(examined, Refusal)
    return examined.reason


def kept(intake: Intake, seen: Observation) -> Example:
    examined = intake.examine(seen)
    assert isinstance(examined, Example), examined
    return examined


def test_true_references_pass_and_say_where_the_keypoints_are(
    intake: Intake, observe: Observe, frames: list[SimulatedFrame], demo: ObjectPackage
) -> None:
    for index in range(len(frames)):
        seen = observe(index)
        example = kept(intake, seen)
        assert example.window.shape == (WINDOW, WINDOW, 3)
        in_image = seen.camera.project(example.pose.transform(torch.from_numpy(demo.keypoints)))
        fx, fy, cx, cy = example.camera.intrinsics.tolist()
        back = (example.keypoints - torch.tensor([cx, cy])) / torch.tensor([fx, fy]) * 600.0
        torch.testing.assert_close(back + torch.tensor([320.0, 240.0]), in_image, atol=1e-2, rtol=0.0)


def test_the_detector_frame_and_the_window_show_the_same_place(intake: Intake, observe: Observe) -> None:
    example = kept(intake, observe(0))
    scale, x, y = example.to_window
    left, top, width, height = (float(value) for value in example.box)
    corners = [left * scale + x, top * scale + y, width * scale, height * scale]
    low, high = corners[:2], [corners[0] + corners[2], corners[1] + corners[3]]
    middle = [(a + b) / 2 for a, b in zip(low, high)]
    assert middle == pytest.approx([WINDOW / 2, WINDOW / 2], abs=2.5)
    assert max(corners[2:]) == pytest.approx(WINDOW / 2.0, rel=0.03)


def test_what_is_learnt_is_where_the_image_shows_the_object(demo: ObjectPackage, observe: Observe) -> None:
    """References a little off, each another way: neither the pose nor the cut-out follows them."""
    reference = observe(0).reference
    turn = so3.exp(torch.tensor([0.0, 0.05, 0.0], dtype=torch.float64))
    for wrong in (
        moved(reference, x=0.006),
        moved(reference, z=0.015),
        Pose(turn @ reference.rotation, reference.translation),
    ):
        example = kept(Intake(demo, AdaptationConfig()), observe(0, wrong))
        off = se3.local(Pose(reference.rotation.float(), reference.translation.float()), example.pose)
        assert float(off[:2].norm()) < 0.0015
        assert abs(float(off[2])) < 0.006
        assert float(off[3:].norm()) < math.radians(1.0)
        middle = np.argwhere(example.coverage > 127).mean(0)[::-1]
        corners = example.camera.project(example.pose.transform(torch.from_numpy(demo.mesh.extreme_points)))
        assert np.abs(middle - 0.5 * (corners.amin(0) + corners.amax(0)).numpy()).max() < 20.0


@pytest.mark.parametrize("offset", [(0.05, 0.0, 0.0), (-0.03, 0.04, 0.0), (0.0, -0.05, 0.0)])
def test_references_beside_the_object_are_refused(intake: Intake, observe: Observe, offset: tuple[float, ...]) -> None:
    for index in range(6):
        reason = refused(intake, observe(index, moved(observe(index).reference, *offset)))
        assert "from where the image shows the object" in reason or "does not show" in reason


def test_references_too_far_are_refused_for_good(intake: Intake, observe: Observe) -> None:
    for index in [*range(14), *range(8)]:
        intake.examine(observe(index, moved(observe(index).reference, z=0.025)))
    assert "too far" in intake.bias
    assert "too far" in refused(intake, observe(12))


def test_what_the_estimators_own_poses_have_in_common_is_learnt_away(demo: ObjectPackage, observe: Observe) -> None:
    own = Intake(demo, AdaptationConfig(self_overlap=0.3), OWN)
    for index in range(12):
        seen = observe(index, moved(observe(index).reference, z=0.015))
        example = kept(own, seen)
        assert abs(float(example.pose.translation[2] - observe(index).reference.translation[2])) < 0.007
    assert own.bias == ""


def test_a_camera_slightly_off_calibration_is_no_bias(demo: ObjectPackage, camera: Camera) -> None:
    """Overexposed, blurred, and its focal length 1.2 % off: true references fit, 5 cm more do not."""
    scene = ShiftedScene(demo.mesh, camera, strong_shift(3), SimulationConfig(seed=203))
    made = [scene.frame(index, 1.5) for index in range(22)]
    true, far = (Intake(demo, AdaptationConfig()) for _ in range(2))
    for index, frame in enumerate(made):
        assert frame.pose is not None
        seen = Observation(
            index, 667_000_000 * index, frame.rgb, camera, state=ObjectState.LOST, estimate=None, reference=frame.pose
        )
        kept(true, seen)
        far.examine(dataclasses.replace(seen, reference=moved(frame.pose, z=0.05)))
    assert true.bias == ""
    assert "too far" in far.bias or "contradict" in far.bias


def test_references_of_another_time_are_refused(intake: Intake, observe: Observe, frames: list[SimulatedFrame]) -> None:
    for index in range(7):
        refused(intake, observe(index, frames[index + 7].pose))


def test_images_without_the_object_are_refused(intake: Intake, observe: Observe) -> None:
    blank = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    assert "does not show the object" in refused(intake, dataclasses.replace(observe(0), rgb=blank))


def test_constant_and_repeated_images_are_refused(intake: Intake, observe: Observe) -> None:
    flat = np.full((480, 640, 3), 90, np.uint8)
    assert "shows nothing" in refused(intake, dataclasses.replace(observe(0), rgb=flat))
    kept(intake, observe(0))
    assert "same as the one before" in refused(intake, dataclasses.replace(observe(0), stamp_ns=7))


def test_references_that_are_no_poses_are_refused(intake: Intake, observe: Observe) -> None:
    pose = observe(0).reference
    nan = Pose(pose.rotation, pose.translation * math.nan)
    assert "not finite" in refused(intake, observe(0, nan))
    assert "rotation" in refused(intake, observe(0, Pose(0.0 * pose.rotation, pose.translation)))
    assert "no reference" in refused(intake, dataclasses.replace(observe(0), reference=None))
    behind = Pose(pose.rotation, -pose.translation)
    assert "in front of the camera" in refused(intake, observe(0, behind))
    assert "wholly in the image" in refused(intake, observe(1, moved(pose, x=2.0)))


def test_of_reference_and_valid_estimate_the_image_believes_one(intake: Intake, observe: Observe) -> None:
    pose = observe(0).reference
    turned = Pose(so3.exp(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)) @ pose.rotation, pose.translation)
    kept(intake, observe(0, pose, turned))
    assert refused(intake, observe(1, moved(observe(1).reference, x=0.02), observe(1).reference))


def test_another_objects_package_learns_nothing(demo: ObjectPackage, observe: Observe) -> None:
    """The same stream, and a package whose mesh is of another size and other colours."""
    rng = np.random.default_rng(1)
    texture = rng.integers(0, 255, (64, 64, 3), np.uint8)
    vertices = demo.mesh.vertices[:, [1, 0, 2]] * np.array([1.0, 1.0, -1.0], np.float32)
    mesh = dataclasses.replace(demo.mesh, vertices=vertices, texture=texture)
    other = Intake(dataclasses.replace(demo, mesh=mesh), AdaptationConfig())
    for index in range(7):
        refused(other, observe(index))


def test_the_place_beside_does_not_show_the_object(intake: Intake, observe: Observe, demo: ObjectPackage) -> None:
    found: list[Example] = [kept(intake, observe(index)) for index in range(6)]
    beside = [example.beside for example in found if example.beside is not None]
    network = load_networks(demo)[0].eval()
    images = torch.from_numpy(np.stack(beside)).permute(0, 3, 1, 2).float() / 255.0
    assert float(network.predict(images).presence.max()) < 0.2
    inner = [example.window[24:184, 24:184] for example in found]
    shown = [torch.from_numpy(cv2.resize(window, (128, 128))).permute(2, 0, 1).float() / 255.0 for window in inner]
    assert float(network.predict(torch.stack(shown)).presence.min()) > 0.5
