"""What networks are not sure of, edges tell: the right side of an untextured object in a place that is known."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import torch

from pnp_ros.alignment.aligner import start_at
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import box_from_pose
from pnp_ros.geometry import so3
from pnp_ros.objects.symmetry import ContinuousSymmetry, Symmetry
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.pipeline.views import Views
from pnp_ros.sources.templates import TemplateSearchConfig, TemplateSource
from pnp_ros.types import Correspondences, Pose
from synthetic.cad_parts import bracket, flange
from synthetic.scenes import EXACT, Scene, scenes

MESH = bracket()
ELSEWHERE = Box(-9000.0, 0.0, 50.0, 50.0)


@pytest.fixture(scope="module")
def views() -> Views:
    few = TemplateSearchConfig(views=100, coarse=40, filters=32)
    return Views(MESH, Symmetry(), TemplateSource(MESH, config=few))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return next(scenes(MESH, 1, 5, EXACT))


def place(scene: Scene) -> Box:
    return box_from_pose(scene.camera, scene.pose, torch.from_numpy(MESH.extreme_points))


def estimated(pose: Pose, explained: float, score: float = 0.9) -> ObjectEstimate:
    points = torch.zeros(0, 2), torch.zeros(0, 3), torch.zeros(0, 2, 2)
    start = start_at(pose, 0.01, 0.1)
    none = Correspondences(*points)
    return ObjectEstimate(
        ObjectState.VALID, start, None, name="bracket", score=score, explained=explained, correspondences=none
    )


def reversed_(pose: Pose) -> Pose:
    turn = torch.eye(4)
    turn[:3, :3] = so3.exp(torch.tensor([0.0, np.pi, 0.0])).float()
    return Pose.from_matrix(pose.matrix() @ turn)


def test_the_side_that_shows_is_among_the_first_guesses(views: Views, scene: Scene) -> None:
    box = place(scene)
    looked = [(ELSEWHERE, estimated(scene.pose, 0.0, 0.95)), (box, estimated(scene.pose, 0.0))]
    guesses = views.guesses(scene.image, scene.camera, looked)
    assert 1 <= len(guesses) <= 4
    assert all(where == box for _, where in guesses)  # nothing is out of the image
    assert any(not views.apart(pose, scene.pose) for pose, _ in guesses)


def test_a_wrong_side_gives_way_to_the_right_one(views: Views, scene: Scene) -> None:
    wrong = estimated(reversed_(scene.pose), 0.75)
    found, _ = views.likeliest(scene.image, scene.camera, wrong, lambda pose: (estimated(scene.pose, 0.95), None))
    assert found.estimate is not None
    assert not views.apart(found.estimate.pose, scene.pose)


def test_the_side_with_the_same_outline_is_compared(
    views: Views, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "poses", lambda image, camera, box: [])  # no template is like the image
    wrong = reversed_(scene.pose)
    others = views.others(scene.image, scene.camera, wrong)
    assert any(not views.apart(other, scene.pose) for other in others)
    assert all(views.apart(other, wrong) for other in others)


def test_turns_that_a_symmetry_calls_the_same_are_compared_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = flange()
    views = Views(mesh, Symmetry(continuous=(ContinuousSymmetry((0.0, 0.0, 1.0)),)), TemplateSource(mesh))
    monkeypatch.setattr(views, "poses", lambda image, camera, box: [])
    assert len(views.others(scene.image, scene.camera, scene.pose)) == 1  # from below


def test_the_right_side_stays(views: Views, scene: Scene) -> None:
    right, other = estimated(scene.pose, 0.75), estimated(reversed_(scene.pose), 0.75)
    assert views.likeliest(scene.image, scene.camera, right, lambda pose: (other, None))[0] is right


def test_what_shows_nearly_all_is_not_compared(views: Views, scene: Scene) -> None:
    plain, asked = estimated(reversed_(scene.pose), 0.95), []
    assert views.likeliest(scene.image, scene.camera, plain, asked.append)[0] is plain
    assert not asked


def test_sides_that_fit_alike_are_uncertain(views: Views, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "likelihoods", lambda image, camera, poses, where: torch.zeros(len(poses)).double())
    monkeypatch.setattr(views, "others", lambda image, camera, pose: [reversed_(pose)])
    one = estimated(scene.pose, 0.75)
    found, _ = views.likeliest(scene.image, scene.camera, one, lambda pose: (estimated(pose, 0.75), None))
    assert found.state is ObjectState.UNCERTAIN
    assert "another view" in found.reason


def test_poses_are_compared_in_one_window(views: Views, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    compared, likelihoods = [], views.likelihoods

    def told(image: np.ndarray, camera: Camera, poses: Sequence[Pose], where: Box) -> torch.Tensor:
        compared.append((poses, where))
        return likelihoods(image, camera, poses, where)

    monkeypatch.setattr(views, "likelihoods", told)
    far = Pose(scene.pose.rotation, 2.0 * scene.pose.translation)
    one, other = estimated(far, 0.75), estimated(reversed_(scene.pose), 0.75)
    views.likeliest(scene.image, scene.camera, one, lambda pose: (other, None))
    poses, where = compared[-1]
    assert len(poses) > 1
    assert torch.equal(poses[0].translation, far.translation)
    for pose in poses:
        box = box_from_pose(scene.camera, pose, torch.from_numpy(MESH.extreme_points))
        assert where.joined(box) == where


def test_what_is_half_as_large_says_half_as_much(views: Views, scene: Scene) -> None:
    small = cv2.warpAffine(scene.image, np.array([[0.5, 0.0, 160.0], [0.0, 0.5, 120.0]]), (640, 480), borderMode=1)
    fx, fy, cx, cy = scene.camera.intrinsics.tolist()
    wide = Camera.pinhole(fx / 2.0, fy / 2.0, cx / 2.0 + 160.0, cy / 2.0 + 120.0, 640, 480)
    near, far = (
        float(views.likelihoods(image, camera, [scene.pose], place(scene))[0])
        for image, camera in ((scene.image, scene.camera), (small, wide))
    )
    assert 0.2 * near < far < 0.75 * near


def test_a_pose_around_the_camera_is_compared_with_none(views: Views, scene: Scene) -> None:
    one, around = estimated(scene.pose, 0.75), estimated(Pose(reversed_(scene.pose).rotation, torch.zeros(3)), 0.75)
    assert views.likeliest(scene.image, scene.camera, one, lambda pose: (around, None))[0] is one
