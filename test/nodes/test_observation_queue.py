import math
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")

from pnp_ros.nodes.observation_queue import ObservationQueue

SECOND = 1_000_000_000


def _put(queue: ObservationQueue, stamp_ns: int, order: str = "image info objects") -> None:
    for name in order.split():
        getattr(queue, f"put_{name}")(stamp_ns, _message(name, stamp_ns))


def _message(name: str, stamp_ns: int) -> Any:
    return SimpleNamespace(name=name, stamp_ns=stamp_ns)


def _all(queue: ObservationQueue) -> list[Any]:
    taken = []
    while (sample := queue.first()) is not None:
        taken.append(sample)
        queue.remove(sample)
    return taken


@pytest.mark.parametrize("order", ["image info objects", "objects info image", "info objects image"])
def test_the_three_messages_of_a_stamp_are_matched_in_any_order(order: str) -> None:
    queue = ObservationQueue(10.0, False, False)
    _put(queue, SECOND, order)
    _put(queue, 2 * SECOND, "image info")
    (sample,) = _all(queue)
    assert {message.stamp_ns for message in (sample.image, sample.info, sample.objects)} == {SECOND}
    assert [message.name for message in (sample.image, sample.info, sample.objects)] == ["image", "info", "objects"]


def test_no_more_images_a_second_than_asked_for() -> None:
    queue = ObservationQueue(4.0, False, False)
    for index in range(60):
        _put(queue, index * SECOND // 30)
        _all(queue) if index < 30 else None
    assert len(_all(queue)) == 4  # of the last second
    assert queue.counts.skipped == 51
    assert queue.counts.estimated == queue.counts.received == 60


def test_estimates_between_the_images_are_kept_without_their_image() -> None:
    queue = ObservationQueue(5.0, False, True)
    for index in range(9):
        _put(queue, index * SECOND // 15)
    taken = _all(queue)
    assert [sample.image is not None for sample in taken] == [True, False, False] * 3
    assert taken[1].rgb.size == 0


def test_time_that_jumps_back_is_gone_along_with() -> None:
    queue = ObservationQueue(1.0, False, False)
    for stamp_ns in (100 * SECOND, 3 * SECOND):
        _put(queue, stamp_ns)
    assert [sample.stamp_ns for sample in _all(queue)] == [100 * SECOND, 3 * SECOND]


def test_what_waits_is_bounded_and_what_is_given_up_is_counted() -> None:
    queue = ObservationQueue(10.0, False, False, capacity=3)
    for index in range(5):
        _put(queue, index * SECOND)
    oldest = queue.first()
    assert oldest is not None
    assert (queue.counts.dropped, oldest.stamp_ns) == (2, 2 * SECOND)
    for index in range(5, 105):
        _put(queue, index * SECOND, "image info")
        _put(queue, (index + 1000) * SECOND, "info")
    assert 85 <= queue.counts.unmatched <= 100
    assert queue.first() is oldest
    _put(queue, 200 * SECOND)
    assert queue.first() is not oldest
    queue.remove(oldest)  # it gave way meanwhile: nothing else is taken in its place
    assert len(_all(queue)) == 3


def test_of_images_that_come_too_fast_some_wait_for_their_references(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("pnp_ros.nodes.observation_queue.time.monotonic", lambda: now)
    queue, met = ObservationQueue(1000.0, False, False, delay_s=0.5, capacity=4), 0
    for index in range(1000):  # 100 images a second, each reference 0.3 s after its image
        now = 0.01 * index
        _put(queue, index * SECOND // 100)
        while (sample := queue.first()) is not None and now - sample.arrived >= 0.3:
            queue.remove(sample)
            met += 1
    assert 4 * 30 <= met <= 4 * 34  # as many as there is room for in each 0.3 s
    assert queue.counts.dropped == 0
    assert queue.counts.crowded == 1000 - met - len(_all(queue))
    assert now - queue.crowded_at < 0.5


def test_what_waited_long_enough_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("pnp_ros.nodes.observation_queue.time.monotonic", lambda: now)
    queue = ObservationQueue(10.0, False, False, delay_s=0.5, capacity=2)
    for index in range(5):  # nobody looks at them
        now = 0.4 * index
        _put(queue, index * SECOND)
    assert [sample.stamp_ns // SECOND for sample in _all(queue)] == [3, 4]
    assert (queue.counts.dropped, queue.counts.crowded) == (3, 0)


def test_of_stamps_that_stand_still_no_image_gets_the_estimate_of_another() -> None:
    queue = ObservationQueue(10.0, False, False)
    for index in range(4):  # the estimate is an image late, as under load
        queue.put_image(0, f"image {index}")
        queue.put_info(0, "info")
        if index:
            queue.put_objects(0, f"estimate of image {index - 1}")
    assert [(sample.image, sample.objects) for sample in _all(queue)] == [("image 0", "estimate of image 0")]
    assert queue.counts.repeated == 3
    assert math.isfinite(queue.repeated_at)
