"""What networks are not sure of, edges tell: the right side of an untextured object in a place that is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pnp_ros.alignment.aligner import start_at
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import box_from_pose
from pnp_ros.geometry import so3
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.pipeline.views import Views
from pnp_ros.sources.templates import TemplateSearchConfig, TemplateSource
from pnp_ros.types import Correspondences, Pose
from synthetic.cad_parts import bracket
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


def test_the_right_side_stays(views: Views, scene: Scene) -> None:
    right, other = estimated(scene.pose, 0.75), estimated(reversed_(scene.pose), 0.75)
    assert views.likeliest(scene.image, scene.camera, right, lambda pose: (other, None))[0] is right


def test_what_shows_nearly_all_is_not_compared(views: Views, scene: Scene) -> None:
    plain, asked = estimated(reversed_(scene.pose), 0.95), []
    assert views.likeliest(scene.image, scene.camera, plain, asked.append)[0] is plain
    assert not asked


def test_sides_that_fit_alike_are_uncertain(views: Views, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "likelihoods", lambda image, camera, poses: torch.zeros(len(poses)).double())
    monkeypatch.setattr(views, "others", lambda image, camera, pose: [reversed_(pose)])
    one = estimated(scene.pose, 0.75)
    found, _ = views.likeliest(scene.image, scene.camera, one, lambda pose: (estimated(pose, 0.75), None))
    assert found.state is ObjectState.UNCERTAIN
    assert "another view" in found.reason
