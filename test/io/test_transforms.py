"""The transforms of a robot: the same as by following every edge, at the cost of the one path that is asked for."""

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pnp_ros.geometry import se3, so3
from pnp_ros.io.transforms import Edge, PoseSeries, TransformTree, pose_from_fields
from pnp_ros.types import Pose

STEP_NS = 20_000_000


def _pose(generator: torch.Generator) -> Pose:
    vector = torch.randn(6, generator=generator, dtype=torch.float64)
    return Pose(so3.exp(vector[3:]), vector[:3])


def _plain_lookup(
    static: dict[Edge, Pose], moving: dict[Edge, dict[int, Pose]], target: str, source: str, stamp_ns: int
) -> Pose | None:
    """By all edges that are known at the time, with nothing spared."""
    known = dict(static)
    for edge, poses in moving.items():
        before, after = (
            max((s for s in poses if s <= stamp_ns), default=None),
            min((s for s in poses if s >= stamp_ns), default=None),
        )
        if before is not None and after is not None and after - before <= 5 * STEP_NS and edge not in known:
            share = (stamp_ns - before) / max(after - before, 1)
            known[edge] = se3.retract(poses[before], share * se3.local(poses[before], poses[after]))
    reached = {target: Pose(torch.eye(3).double(), torch.zeros(3).double())}
    waiting = [target]
    while waiting and source not in reached:
        frame = waiting.pop(0)
        for (parent, child), pose in known.items():
            if parent == frame and child not in reached:
                reached[child] = se3.compose(reached[frame], pose)
                waiting.append(child)
            elif child == frame and parent not in reached:
                reached[parent] = se3.compose(reached[frame], se3.inverse(pose))
                waiting.append(parent)
    return reached.get(source)


@pytest.mark.parametrize("seed", range(5))
def test_any_frame_in_any_other_is_as_by_following_every_edge(seed: int) -> None:
    """Of a tree of 20 frames: some edges hold always, some have gaps, and some frames change their parents."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    static: dict[Edge, Pose] = {}
    moving: dict[Edge, dict[int, Pose]] = {}
    tree = TransformTree(5 * STEP_NS)
    for child in range(1, 20):
        edge = (f"f{draw.randrange(child)}", f"f{child}")
        if draw.random() < 0.4:
            static[edge] = _pose(generator)
            tree.add_static(edge, static[edge])
            continue
        for k in range(30):
            if k == 15 and draw.random() < 0.2:
                edge = (f"f{draw.randrange(child)}", f"f{child}")
            if draw.random() < 0.6:
                pose = _pose(generator)
                moving.setdefault(edge, {})[k * STEP_NS] = pose
                tree.series(edge).add(k * STEP_NS, pose)
    answered = 0
    for _ in range(100):
        target, source = (f"f{draw.randrange(20)}" for _ in range(2))
        stamp_ns = draw.randrange(-STEP_NS, 31 * STEP_NS) if draw.random() < 0.7 else draw.randrange(30) * STEP_NS
        found, expected = tree.lookup(target, source, stamp_ns), _plain_lookup(static, moving, target, source, stamp_ns)
        assert (found is None) is (expected is None)
        if found is not None and expected is not None:
            torch.testing.assert_close(found.matrix(), expected.matrix(), atol=1e-9, rtol=0.0)
            answered += 1
        else:
            assert f"no pose of {source} in {target}" in tree.why_not(target, source, stamp_ns)
    assert answered >= 20


def test_only_the_path_between_two_frames_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = TransformTree()
    joints = [("odom", "base"), ("base", "arm"), ("arm", "camera"), *(("base", f"wheel{k}") for k in range(30))]
    for k in range(2):
        fields = SimpleNamespace(translation=SimpleNamespace(x=0.1, y=0.2, z=0.3))
        fields.rotation = SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)
        transforms = []
        for parent, child in joints:
            header = SimpleNamespace(frame_id=parent, stamp=SimpleNamespace(sec=0, nanosec=k * STEP_NS))
            transforms.append(SimpleNamespace(header=header, child_frame_id=child, transform=fields))
        tree.add_message(SimpleNamespace(transforms=transforms), static=False)
    asked: list[Any] = []
    at = PoseSeries.at

    def counted(self: PoseSeries, stamp_ns: int) -> Pose | None:
        asked.append(self)
        return at(self, stamp_ns)

    monkeypatch.setattr(PoseSeries, "at", counted)
    found = tree.lookup("odom", "camera", STEP_NS // 2)
    assert found is not None
    torch.testing.assert_close(found.translation, torch.tensor([0.3, 0.6, 0.9]).double())
    assert len(asked) == 3


def test_what_is_missing_is_said_of_the_edge_that_lacks_most() -> None:
    tree, pose = TransformTree(), Pose(torch.eye(3).double(), torch.zeros(3).double())
    for stamp in (0, 1, 2):
        tree.series(("odom", "base")).add(stamp * 300_000_000, pose)
        tree.series(("base", "camera")).add(stamp * 290_000_000, pose)
    tree.add_static(("world", "island"), pose)
    asked = "no pose of camera in odom at the time of the image: of "
    assert tree.why_not("odom", "camera", 700_000_000) == asked + "base to camera the last one is 0.120 s older"
    assert tree.why_not("odom", "camera", -1_000_000) == asked + "odom to base the first one is 0.001 s newer"
    gap = "odom to base a gap of 0.300 s, expected 0.1 s or less"
    assert tree.why_not("odom", "camera", 299_000_000) == asked + gap
    assert tree.why_not("odom", "island", 0) == "TF does not connect island with odom"
    assert tree.why_not("odom", "mars", 0) == "nothing of mars was received"


def test_a_quaternion_of_any_length_is_a_rotation() -> None:
    generator = torch.Generator().manual_seed(0)
    for quat in torch.randn(20, 4, generator=generator, dtype=torch.float64):
        w, x, y, z = quat.tolist()
        rotation = SimpleNamespace(x=x, y=y, z=z, w=w)
        pose = pose_from_fields(SimpleNamespace(x=1.0, y=2.0, z=3.0), rotation)
        torch.testing.assert_close(pose.rotation, so3.matrix_from_quat_wxyz(quat), atol=1e-14, rtol=0.0)
        assert pose.translation.tolist() == [1.0, 2.0, 3.0]
    zero = pose_from_fields(SimpleNamespace(x=0.0, y=0.0, z=0.0), SimpleNamespace(x=0.0, y=0.0, z=0.0, w=0.0))
    assert not bool(torch.isfinite(zero.rotation).all())
