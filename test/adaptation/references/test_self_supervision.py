import math

import numpy as np
import pytest
import torch

from pnp_ros.adaptation.observation import Observation
from pnp_ros.adaptation.references.self_supervision import SelfReference
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.types import Pose

CAMERA = Camera.pinhole(100.0, 100.0, 3.5, 3.5, 8, 8)
RGB = np.zeros((8, 8, 3), np.uint8)
STEP_NS = 33_000_000
START_NS = 1_700_000_000_000_000_000
V, U, L = ObjectState.VALID, ObjectState.UNCERTAIN, ObjectState.LOST


def _truth(i: float) -> Pose:
    """Of image ``i``: a steady turn of 60 deg/s and a wavy way of 0.3 m/s, 0.8 m away."""
    time = i * STEP_NS * 1e-9
    turn = torch.tensor([0.3, 1.0 * time, 0.2 * math.sin(2.0 * time)], dtype=torch.float64)
    place = torch.tensor([0.1 * math.sin(3.0 * time), 0.05 * math.cos(2.0 * time), 0.8 + 0.1 * time])
    return Pose(so3.exp(turn), place.double())


def _moved(pose: Pose, *delta: float) -> Pose:
    return se3.retract(pose, torch.tensor(delta, dtype=torch.float64))


def _seen(i: int, state: ObjectState = V, pose: Pose | None = None, stamp_ns: int | None = None) -> Observation:
    estimate = None if state is L else pose or _truth(i)
    stamp_ns = START_NS + i * STEP_NS if stamp_ns is None else stamp_ns
    return Observation(i, stamp_ns, RGB, CAMERA, state=state, estimate=estimate)


def _index(observation: Observation) -> int:
    return (observation.stamp_ns - START_NS) // STEP_NS


def _run(observations: list[Observation], **settings: float) -> dict[int, Observation]:
    reference = SelfReference(**settings)  # type: ignore[arg-type]
    found = [confirmed for seen in observations for confirmed in reference.confirmed(seen)]
    assert [f.stamp_ns for f in found] == sorted(f.stamp_ns for f in found)
    return {_index(f): f for f in found}


def test_all_but_the_ends_of_a_steady_path_are_confirmed() -> None:
    found = _run([_seen(i) for i in range(20)])
    assert list(found) == list(range(1, 19))
    for i, f in found.items():
        assert f.reference is not None
        assert float((f.reference.translation - _truth(i).translation).norm()) < 0.001


def test_neighbours_that_are_near_say_where_it_is_and_far_ones_only_confirm() -> None:
    """One pose is off by 10 mm: near neighbours are right about it, far ones cannot know."""
    off = _moved(_truth(4), 0.01, 0, 0, 0, 0, 0)
    near = _run([_seen(i, pose=off if i == 4 else None) for i in range(9)])[4]
    assert near.reference is not None
    assert float((near.reference.translation - _truth(4).translation).norm()) < 0.001
    slow = [_seen(4 * i, pose=_moved(_truth(0), 0.002 * i, 0, 0, 0, 0, 0)) for i in range(5)]
    for f in _run(slow).values():
        assert f.reference is f.estimate


def test_noise_within_the_bounds_passes_and_beyond_does_not() -> None:
    def path(metres: float, radians: float) -> list[Observation]:
        return [_seen(i, pose=_moved(_truth(i), metres * (-1) ** i, 0, 0, 0, radians * (-1) ** i, 0)) for i in range(9)]

    assert len(_run(path(0.015, math.radians(2.5)))) == 7  # off from the neighbours by twice that: 4 %, 5 deg
    assert not _run(path(0.03, 0.0))
    assert not _run(path(0.0, math.radians(4.0)))
    assert len(_run(path(0.03, 0.0), max_distance=0.2)) == 7


@pytest.mark.parametrize("delta", [(0, 0, 0, 0, 0, math.pi), (0, 0, 0.2, 0, 0, 0)], ids=["flip", "jump"])
def test_flip_or_jump_is_refused_with_its_neighbours(delta: tuple[float, ...]) -> None:
    found = _run([_seen(i, pose=_moved(_truth(i), *delta) if i == 6 else None) for i in range(14)])
    assert not {5, 6, 7} & set(found)
    assert set(found) == {1, 2, 3, 4, 8, 9, 10, 11, 12}


@pytest.mark.parametrize("states", [[U], [L], [U, L, U]])
def test_images_between_confirmed_poses_get_the_interpolated_pose(states: list[ObjectState]) -> None:
    wrong = _moved(_truth(0), 0.3, 0, 0, 0, 0, 2.0)
    middle = [_seen(6 + k, state, wrong) for k, state in enumerate(states)]
    after = 6 + len(states)
    found = _run([*(_seen(i) for i in range(6)), *middle, *(_seen(i) for i in range(after, after + 6))])
    assert list(found) == list(range(1, after + 5))
    for i in range(6, after):
        reference, truth = found[i].reference, _truth(i)
        assert reference is not None
        assert float((reference.translation - truth.translation).norm()) < 0.002
        assert float(so3.angle_between(reference.rotation, truth.rotation)) < math.radians(0.5)
        assert found[i].state is middle[i - 6].state


def test_too_many_missing_images_are_not_bridged() -> None:
    states = {i: L for i in range(6, 10)}
    found = _run([_seen(i, states.get(i, V)) for i in range(16)])
    assert set(found) == {1, 2, 3, 4, 11, 12, 13, 14}
    assert set(_run([_seen(i, states.get(i, V)) for i in range(16)], max_missing=4)) == set(range(1, 15))


def test_missing_images_beside_an_unconfirmed_pose_are_not_bridged() -> None:
    flip = _moved(_truth(7), 0, 0, 0, 0, 0, math.pi)
    path = [_seen(i, U if i == 6 else V, flip if i == 7 else None) for i in range(14)]
    assert not {5, 6, 7, 8} & set(_run(path))


def test_gap_in_time_breaks_the_chain() -> None:
    path = [_seen(i) for i in (*range(6), *range(16, 22))]
    assert set(_run(path)) == {1, 2, 3, 4, 17, 18, 19, 20}
    assert set(_run(path, max_gap_s=0.5)) == {*range(1, 6), *range(16, 21)}


def test_time_that_jumps_back_begins_anew() -> None:
    reference = SelfReference()
    first = [c for i in range(5) for c in reference.confirmed(_seen(i))]
    assert [_index(c) for c in first] == [1, 2, 3]
    again = [c for i in (2, 3, 4, 5) for c in reference.confirmed(_seen(i))]
    assert [_index(c) for c in again] == [3, 4]


def test_lost_and_uncertain_images_alone_confirm_nothing() -> None:
    assert not _run([_seen(i, U if i % 2 else L) for i in range(12)])


def test_poses_that_are_not_finite_confirm_nothing() -> None:
    nothing = Pose(torch.full((3, 3), math.nan).double(), torch.full((3,), math.nan).double())
    assert not _run([_seen(i, pose=nothing) for i in range(8)])


@pytest.mark.parametrize("field", ["max_gap_s", "max_distance", "max_angle", "max_missing"])
def test_wrong_settings_are_named(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        SelfReference(**{field: -1})
