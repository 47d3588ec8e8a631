"""Recorded poses: whose they are, and what an image without one counts as."""

from __future__ import annotations

import numpy as np
import pytest

from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.frames import Frame
from pnp_ros.evaluation.told import IMAGE, recorded, recorded_scene
from pnp_ros.pipeline.result import FrameResult, ObjectState
from pnp_ros.types import Pose

CAMERA = Camera.pinhole(100.0, 100.0, 8.0, 8.0, 16, 16)


def _frame(stamp_ns: int) -> Frame:
    return Frame(0, stamp_ns, np.zeros((16, 16, 3), np.uint8), CAMERA)


def _told(*names: str) -> dict[str, FrameResult]:
    return {
        name: FrameResult(ObjectState.VALID, Pose.identity(), reason=name, latency={"total": 0.1, "align": 0.05})
        for name in names
    }


def test_of_one_object_by_its_name_or_the_only_one() -> None:
    second = 1_000_000_000
    pose_of = recorded({0: _told("cup", "mug"), second: _told(""), 2 * second: {}}, "mug")
    assert pose_of(_frame(400_000)).reason == "mug"
    assert pose_of(_frame(second)).reason == ""
    assert [pose_of(_frame(at)).state for at in (2 * second, 3 * second)] == [ObjectState.DROPPED] * 2


def test_of_many_by_name() -> None:
    poses_of = recorded_scene({0: _told("mug_0"), 1_000_000_000: _told("mug_0", "mug_1")})
    assert {name: each.latency for name, each in poses_of(_frame(0)).items()} == {"mug_0": {IMAGE: 0.1}}
    dropped = poses_of(_frame(5_000_000_000))
    assert {name: (each.name, each.state) for name, each in dropped.items()} == {
        name: (name, ObjectState.DROPPED) for name in ("mug_0", "mug_1")
    }
    with pytest.raises(ValueError, match="poses: expected named instances"):
        recorded_scene({0: _told("")})
