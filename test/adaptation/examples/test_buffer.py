"""The buffer is bounded, keeps what differs, and never learns from what it checks with."""

import numpy as np
import torch

from pnp_ros.adaptation.examples.buffer import ReplayBuffer, is_held_back
from pnp_ros.adaptation.examples.example import Example
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.types import Pose

CAMERA = Camera.pinhole(300.0, 300.0, 104.0, 104.0, 208, 208)
BLANK = np.zeros((8, 8, 3), np.uint8)


def example(angle: float, stamp_ns: int = 0) -> Example:
    pose = Pose(so3.exp(torch.tensor([0.0, angle, 0.0])), torch.tensor([0.0, 0.0, 0.5]))
    box = torch.tensor([1.0, 1.0, 2.0, 2.0])
    return Example(stamp_ns, BLANK, BLANK[..., 0], CAMERA, pose, torch.zeros(4, 2), None, BLANK, box, (1.0, 0.0, 0.0))


def test_times_are_held_back_in_whole_stretches() -> None:
    stamps = np.arange(0, 400_000_000_000, 100_000_000)
    held_back = np.array([is_held_back(int(stamp)) for stamp in stamps])
    assert held_back.mean() == 0.25
    assert np.count_nonzero(np.diff(held_back.astype(int))) < len(stamps) / 35


def test_what_is_held_back_is_never_learnt_from() -> None:
    buffer = ReplayBuffer(50, 50)
    for index in range(100):
        buffer.add(example(0.01 * index, 200_000_000 * index))
    assert {e.stamp_ns for e in buffer.learnt}.isdisjoint(e.stamp_ns for e in buffer.held_back)
    assert all(is_held_back(e.stamp_ns) for e in buffer.held_back)
    assert buffer.held_back


def test_of_two_alike_the_older_goes() -> None:
    buffer = ReplayBuffer(4, 1)
    for stamp, angle in enumerate([0.0, 1.0, 2.0, -1.0, 1.02]):
        buffer.add(example(angle, stamp))
    assert [e.stamp_ns for e in buffer.learnt] == [0, 2, 3, 4]
    assert (len(buffer), buffer.added) == (4, 5)


def test_many_of_one_view_do_not_push_out_the_others() -> None:
    buffer = ReplayBuffer(20, 1)
    for stamp in range(10):
        buffer.add(example(0.3 * stamp - 1.5, stamp))
    rng = np.random.default_rng(0)
    for stamp in range(10, 200):
        buffer.add(example(float(rng.normal(0.0, 0.01)), stamp))
    assert {e.stamp_ns for e in buffer.learnt} >= {0, 1, 2, 3, 7, 8, 9}


def test_cleared() -> None:
    buffer = ReplayBuffer(4, 1)
    buffer.add(example(0.0))
    buffer.clear()
    assert len(buffer) == 0
