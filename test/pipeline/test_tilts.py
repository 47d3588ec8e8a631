"""When is another tilt looked at, and which one is taken?"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from pnp_ros.alignment.aligner import Aligner, Alignment, start_at
from pnp_ros.alignment.config import FOLLOWED, Round
from pnp_ros.geometry import so3
from pnp_ros.geometry.single_pose import moved
from pnp_ros.pipeline.tilts import likeliest_tilt
from pnp_ros.types import Pose, PoseEstimate
from synthetic.printed_box import printed_box
from synthetic.scenes import EXACT, Scene, scenes

MESH = printed_box(0)
TRUTH = Pose(so3.exp(torch.tensor([0.7, 0.5, 0.3])), torch.tensor([0.01, 0.0, 0.75]))
TILT = np.array([0.0, 0.0, 0.0, 0.0, math.radians(22.0), 0.0])


def beside(pose: Pose) -> PoseEstimate:
    return start_at(pose, 0.05 * MESH.diameter, 0.1)


def start(degrees: float) -> PoseEstimate:
    """Of which the turn about y is known to so many degrees."""
    return PoseEstimate.of(TRUTH, np.diag([0.005, 0.005, 0.02, 0.03, math.radians(degrees), 0.03]) ** 2)


@pytest.fixture(scope="module")
def scene() -> Scene:
    (made,) = scenes(MESH, 1, 0, EXACT, lambda _: TRUTH)
    return made


@pytest.fixture
def aligner() -> Aligner:
    return Aligner(MESH)


def turn_off(found: Alignment) -> float:
    return math.degrees(float(so3.angle_between(found.estimate.pose.rotation, TRUTH.rotation)))


def tilted(one: Alignment, **evidence: float) -> Alignment:
    estimate = dataclasses.replace(one.estimate, pose=moved(one.estimate.pose, TILT))
    return dataclasses.replace(one, estimate=estimate, evidence=dataclasses.replace(one.evidence, **evidence))


@pytest.mark.parametrize(
    ("degrees", "contour", "looked"),
    [(20.0, 0.8, True), (3.0, 0.8, False), (3.0, 0.1, True)],
    ids=["the start leaves it open", "the start and the outline hold it", "little of the outline is found"],
)
def test_the_tilt_that_the_image_speaks_for_is_taken(
    aligner: Aligner, scene: Scene, degrees: float, contour: float, looked: bool
) -> None:
    one = aligner.align(scene.image, scene.camera, beside(TRUTH))
    assert one.evidence.supported
    wrong = tilted(one, contour=contour)
    found = likeliest_tilt(aligner, scene.image, scene.camera, start(degrees), wrong, beside)
    assert (found is not wrong) is looked
    if looked and degrees > 10.0:
        assert turn_off(found) < 1.0


def test_a_right_pose_stays_and_so_do_the_colours_that_it_taught(
    aligner: Aligner, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = aligner.align(scene.image, scene.camera, beside(TRUTH))
    assert likeliest_tilt(aligner, scene.image, scene.camera, start(20.0), one, beside) is one
    steps, look = list[Round](), Aligner._look
    monkeypatch.setattr(Aligner, "_look", lambda self, *given: steps.append(given[1].step) or look(self, *given))
    aligner.align(scene.image, scene.camera, beside(TRUTH))
    assert steps == [FOLLOWED[0]]


def test_nothing_is_looked_at_beside_a_pose_that_the_image_does_not_bear_out(aligner: Aligner, scene: Scene) -> None:
    one = aligner.align(np.zeros_like(scene.image), scene.camera, beside(TRUTH))
    assert likeliest_tilt(aligner, np.zeros_like(scene.image), scene.camera, start(20.0), one, beside) is one


def test_a_start_that_is_known_in_nothing_is_no_error(aligner: Aligner, scene: Scene) -> None:
    one = aligner.align(scene.image, scene.camera, beside(TRUTH))
    for variance in (1e30, math.inf, math.nan):
        open_start = PoseEstimate.of(TRUTH, np.diag([variance] * 6))
        assert turn_off(likeliest_tilt(aligner, scene.image, scene.camera, open_start, one, beside)) < 1.0
