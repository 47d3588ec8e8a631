"""Several cameras, several instances, poses that each leaves open."""

import math

import pytest
import torch

from pnp_ros.filtering.cell import Cell, Sighting
from pnp_ros.geometry import covariance, se3, so3
from pnp_ros.types import Pose, PoseEstimate

SIGMA = torch.tensor([0.001, 0.001, 0.006, 0.02, 0.02, 0.008], dtype=torch.float64)
CAMERAS = ("left", "middle", "right")
HALF = Pose(so3.exp(torch.tensor([0.0, 0.0, math.pi], dtype=torch.float64)), torch.zeros(3, dtype=torch.float64))
QUARTER = Pose(so3.exp(torch.tensor([0.0, 0.0, math.pi / 2]).double()), torch.zeros(3, dtype=torch.float64))


def _place(index: int) -> Pose:
    eye = 0.8 * torch.tensor([math.cos(2.1 * index), math.sin(2.1 * index), 0.6], dtype=torch.float64)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    return se3.look_at(eye, torch.zeros(3, dtype=torch.float64), up).inverse()


def _truth(x: float, y: float = 0.0) -> Pose:
    return Pose(so3.exp(torch.tensor([0.2, -0.1, 0.3]).double()), torch.tensor([x, y, 0.0], dtype=torch.float64))


class Seen:
    """Poses as the cameras would tell them in the common frame."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)

    def by(self, camera: str, truth: Pose) -> PoseEstimate:
        place = _place(CAMERAS.index(camera))
        noise = SIGMA * torch.randn(6, generator=self._generator, dtype=torch.float64)
        seen = PoseEstimate.of(se3.retract(place.inverse() @ truth, noise), torch.diag(SIGMA**2))
        return covariance.in_frame(place, seen)


def _off(told: PoseEstimate | None, truth: Pose) -> float:
    assert told is not None
    return float(se3.local(truth, told.pose).norm())


def test_instances_that_cameras_tell_in_any_order_are_fused_by_place() -> None:
    cell, seen = Cell(CAMERAS), Seen()
    names: dict[str, int] = {}
    for k in range(60):
        truths = [_truth(-0.12 + 0.002 * k, 0.08), _truth(0.0, -0.1)]  # one passes the other one
        camera = CAMERAS[k % 3]
        order = truths if k % 2 else truths[::-1]
        told = cell.update(camera, [Sighting("mug", (seen.by(camera, truth),)) for truth in order], k / 30.0)
        assert len(told) == 2
        for name, pose in told.items():
            assert pose.fused.estimate is not None
            away = [float((pose.fused.estimate.pose.translation - t.translation).norm()) for t in truths]
            which = away.index(min(away))
            assert names.setdefault(name, which) == which
            if k > 10:
                assert away[which] < 0.006
                assert pose.fused.trusted == CAMERAS
    assert set(names) == {"mug_0", "mug_1"}
    assert cell.object_of("mug_1") == "mug"


def test_what_one_camera_leaves_open_another_one_decides() -> None:
    cell, seen, truth = Cell(CAMERAS), Seen(), _truth(0.0)
    cell.update("left", [Sighting("mug", (seen.by("left", truth),))], 0.0)
    both = (seen.by("right", truth @ HALF), seen.by("right", truth))
    told = cell.update("right", [Sighting("mug", both, (0.7, 0.3))], 0.01)
    assert told["mug_0"].fused.trusted == ("left", "right")
    assert _off(told["mug_0"].fused.estimate, truth) < 0.1


def test_two_cameras_that_leave_it_open_decide_together_or_wait() -> None:
    """Left: as it is or turned by half; right: as it is or turned by a quarter. Only one pose is among both."""
    seen, truth = Seen(), _truth(0.0)
    left = Sighting("mug", (seen.by("left", truth @ HALF), seen.by("left", truth)), (0.5, 0.5))
    right = Sighting("mug", (seen.by("right", truth @ QUARTER), seen.by("right", truth)), (0.5, 0.5))
    cell = Cell(CAMERAS)
    assert cell.update("left", [left], 0.0) == {}
    told = cell.update("right", [right], 0.02)
    assert _off(told["mug_0"].fused.estimate, truth) < 0.1
    cell = Cell(CAMERAS)
    assert cell.update("left", [left], 0.0) == {}
    assert cell.update("right", [left], 0.02) == {}  # both turns agree: nobody knows


def test_a_symmetric_object_is_fused_though_cameras_choose_other_turns() -> None:
    def nearest(pose: Pose, reference: Pose) -> Pose:
        return min((pose, pose @ HALF), key=lambda each: float(so3.angle_between(each.rotation, reference.rotation)))

    seen, truth = Seen(), _truth(0.0)
    for choose, trusted in ((None, None), ({"mug": nearest}, ("left", "right"))):
        cell = Cell(CAMERAS, choose=choose)
        cell.update("left", [Sighting("mug", (seen.by("left", truth),))], 0.0)
        told = cell.update("right", [Sighting("mug", (seen.by("right", truth @ HALF),))], 0.01)
        assert (told["mug_0"].fused.estimate is None) == (trusted is None)


def test_an_instance_is_forgotten_and_its_number_free_again() -> None:
    cell, seen = Cell(CAMERAS), Seen()
    assert set(cell.update("left", [Sighting("mug", (seen.by("left", _truth(0.0)),))], 0.0)) == {"mug_0"}
    assert set(cell.update("left", [Sighting("mug", (seen.by("left", _truth(0.3)),))], 0.1)) == {"mug_1"}
    assert set(cell.update("left", [Sighting("mug", (seen.by("left", _truth(-0.3)),))], 2.0)) == {"mug_0"}


def test_a_sighting_without_poses_is_refused() -> None:
    with pytest.raises(ValueError, match="poses: expected one or more"):
        Sighting("mug", ())
