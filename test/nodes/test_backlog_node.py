"""When a run is over: as long as images are being answered for, it is not."""

import pytest

pytest.importorskip("rclpy")

from pnp_ros.nodes.backlog_node import Backlog
from pnp_ros.nodes.frame_queue import FrameQueue

PATIENCE_S = 20.0


def _report(received: int, taken: int) -> dict[str, str]:
    figures = {"images received": received, "images taken up": taken, "images waiting": received - taken}
    return {name: str(count) for name, count in {**figures, "messages lost on the way": 0}.items()}


def test_a_slow_estimator_is_waited_for_until_it_has_rested() -> None:
    backlog = Backlog(PATIENCE_S, now=0.0)
    for second in range(1, 600):  # an image in ten seconds
        now = float(second)
        backlog.report(_report(60, second // 10), now)
        assert not backlog.is_done
        assert not backlog.is_stuck(now)
    done = []
    for second in range(600, 604):
        backlog.report(_report(60, 60), float(second))
        done.append(backlog.is_done)
    assert done == [False, False, True, True]


def test_one_that_does_not_go_on_is_not_waited_for_longer_than_that() -> None:
    backlog = Backlog(PATIENCE_S, now=0.0)
    for second in range(100):
        backlog.report(_report(60, min(second, 7)), float(second))
        assert not backlog.is_done
        assert backlog.is_stuck(float(second)) == (second > 7 + PATIENCE_S)
    assert backlog.waiting == 53
    assert Backlog(PATIENCE_S, now=0.0).is_stuck(PATIENCE_S + 1.0)  # nothing has come at all


def test_the_image_in_hand_still_waits() -> None:
    queue, waiting = FrameQueue(keep_all=True), []
    for stamp in range(2):
        queue.put_image(stamp, "image")
        queue.put_info(stamp, "info")
    for _ in range(2):
        waiting.append(queue.waiting)
        queue.get()
    waiting.append(queue.waiting)
    queue.close()
    assert queue.get() is None
    assert [*waiting, queue.waiting] == [2, 2, 1, 0]
