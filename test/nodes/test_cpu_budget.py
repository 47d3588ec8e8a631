"""``cpu_budget`` holds the node's share of a core, and ``max_rate`` counts what it leaves out."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytest.importorskip("rclpy")

from rclpy.parameter import Parameter

from pnp_ros.nodes import cpu_budget
from pnp_ros.nodes.cpu_budget import CpuBudget
from pnp_ros.nodes.frame_queue import FrameQueue
from pnp_ros.nodes.pose_estimator_node import PoseEstimatorNode

IMAGES, BUSY_S = 6, 0.02


class Clock:
    """Time that passes by what is calculated and rested alone, however busy the machine is."""

    def __init__(self) -> None:
        self.elapsed = self.used = 0.0

    def monotonic(self) -> float:
        return self.elapsed

    def process_time(self) -> float:
        return self.used

    def calculate(self) -> None:
        self.elapsed += BUSY_S
        self.used += BUSY_S

    def rest(self, seconds: float) -> None:
        self.elapsed += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(cpu_budget, "time", made)
    return made


@pytest.fixture
def node(ros: None, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Any:
    """One that calculates for a while in place of estimating."""
    monkeypatch.setattr(PoseEstimatorNode, "autostart", lambda self: None)
    monkeypatch.setattr(PoseEstimatorNode, "_process", lambda *_: clock.calculate())
    made = PoseEstimatorNode()
    yield made
    made.destroy_node()


def _worked_off(node: Any, clock: Clock, between_images: bool = False) -> FrameQueue:
    """The queue of a few images, worked off; what arrives ``between_images`` may cost as much as an image."""
    frames = FrameQueue(keep_all=True)
    for stamp in range(IMAGES):
        frames.put_info(stamp, "info")
        frames.put_image(stamp, "image")
    waited = frames.get

    def get() -> Any:
        return waited() if frames.counts.taken < IMAGES else None

    def rest(seconds: float) -> None:
        if between_images:
            clock.calculate()
            seconds -= BUSY_S
        clock.rest(seconds)

    frames.get = get  # type: ignore[method-assign]
    frames.rest = rest  # type: ignore[method-assign]
    node._work(frames)
    return frames


def test_the_budget_is_kept_on_average(node: Any, clock: Clock) -> None:
    node.set_parameters([Parameter("cpu_budget", value=0.25)])
    frames = _worked_off(node, clock)
    assert clock.used == pytest.approx(IMAGES * BUSY_S)
    assert clock.elapsed == pytest.approx(clock.used / 0.25)
    assert frames.counts.taken == IMAGES


def test_what_arrives_between_images_is_in_the_budget(node: Any, clock: Clock) -> None:
    node.set_parameters([Parameter("cpu_budget", value=0.25)])
    _worked_off(node, clock, between_images=True)
    assert clock.used == pytest.approx(2 * IMAGES * BUSY_S)
    assert clock.elapsed == pytest.approx((clock.used - BUSY_S) / 0.25)  # the last rest's own is not paid for any more


def test_without_a_budget_nothing_rests(node: Any, clock: Clock) -> None:
    _worked_off(node, clock)
    assert clock.elapsed == clock.used == pytest.approx(IMAGES * BUSY_S)


def test_what_was_used_without_a_budget_is_not_paid_for_later(clock: Clock) -> None:
    budget = CpuBudget()
    for _ in range(5):
        clock.calculate()
        assert budget.rest(0.0) <= 0.0
    clock.calculate()
    assert budget.rest(0.25) == pytest.approx(3.0 * BUSY_S)


def test_closing_ends_a_rest() -> None:
    frames = FrameQueue(keep_all=False)
    frames.close()
    begin = time.monotonic()
    frames.rest(60.0)
    assert time.monotonic() - begin < 30.0


def test_max_rate_counts_what_is_skipped() -> None:
    frames = FrameQueue(keep_all=True)
    for index in range(30):  # a second at 30 Hz
        stamp = index * 33_333_333
        frames.put_info(stamp, "info", max_rate=10.0)
        frames.put_image(stamp, "image", max_rate=10.0)
    counts = frames.counts
    assert counts.skipped == 20
    assert counts.received == counts.paired == 30
    assert len(frames._ready) == 10
