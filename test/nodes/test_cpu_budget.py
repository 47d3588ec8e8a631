"""``cpu_budget`` holds the node's share of a core, and ``max_rate`` counts what it leaves out."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytest.importorskip("rclpy")

from rclpy.parameter import Parameter

from pnp_ros.nodes.cpu_budget import CpuBudget
from pnp_ros.nodes.frame_queue import FrameQueue
from pnp_ros.nodes.pose_estimator_node import PoseEstimatorNode

IMAGES, BUSY_S = 6, 0.02


def _calculate() -> None:
    end = time.thread_time() + BUSY_S
    while time.thread_time() < end:
        pass


@pytest.fixture
def node(ros: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One that calculates for a while in place of estimating."""
    monkeypatch.setattr(PoseEstimatorNode, "autostart", lambda self: None)

    monkeypatch.setattr(PoseEstimatorNode, "_process", lambda *_: _calculate())
    made = PoseEstimatorNode()
    yield made
    made.destroy_node()


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What arrives between two images costs as much as an image."""
    rest = FrameQueue.rest

    def calculate(self: FrameQueue, seconds: float) -> None:
        _calculate()
        rest(self, seconds - BUSY_S)

    monkeypatch.setattr(FrameQueue, "rest", calculate)


def _worked_off(node: Any) -> tuple[float, float, FrameQueue]:
    """Seconds by the clock and of CPU time that a few images took, and their queue."""
    frames = FrameQueue(keep_all=True)
    for stamp in range(IMAGES):
        frames.put_info(stamp, "info")
        frames.put_image(stamp, "image")
    waited = frames.get

    def get() -> Any:
        return waited() if frames.counts.taken < IMAGES else None

    frames.get = get  # type: ignore[method-assign]
    begin, used = time.monotonic(), time.process_time()
    node._work(frames)
    return time.monotonic() - begin, time.process_time() - used, frames


def test_the_budget_is_kept_on_average(node: Any) -> None:
    node.set_parameters([Parameter("cpu_budget", value=0.25)])
    elapsed, used, frames = _worked_off(node)
    assert used >= IMAGES * BUSY_S
    assert elapsed >= 0.9 * used / 0.25
    assert frames.counts.taken == IMAGES


def test_what_arrives_between_images_is_in_the_budget(node: Any, busy: None) -> None:
    node.set_parameters([Parameter("cpu_budget", value=0.5)])
    elapsed, used, _ = _worked_off(node)
    assert used >= 2 * IMAGES * BUSY_S
    assert elapsed >= 0.8 * used / 0.5  # the last rest's own is not paid for any more


def test_without_a_budget_nothing_rests(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrameQueue, "rest", lambda *_: pytest.fail("rested"))
    _worked_off(node)


def test_what_was_used_without_a_budget_is_not_paid_for_later() -> None:
    budget = CpuBudget()
    for _ in range(5):
        _calculate()
        assert budget.rest(0.0) <= 0.0
    _calculate()
    assert 0.0 < budget.rest(0.25) < 6.0 * BUSY_S  # of one image 3, of all 18


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
