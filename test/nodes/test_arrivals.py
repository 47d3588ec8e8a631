"""What the counts of arriving images make a node say."""

import pytest

pytest.importorskip("rclpy")

from pnp_ros.nodes.arrivals import Arrivals
from pnp_ros.nodes.frame_queue import FrameQueue


class _Camera:
    """Sends seconds of images to a queue, and looks at it once a second."""

    def __init__(self, keep_info: bool = False) -> None:
        self.queue = FrameQueue(keep_all=False, keep_info=keep_info)
        self.arrivals = Arrivals("/share/fastdds.xml", keep_info)
        self.stamp = 0

    def send(self, seconds: int, images: float = 1.0, infos: float = 1.0, hz: int = 10) -> str:
        """What is said after each second, the last of it; ``images``, ``infos``: the share that arrives."""
        said = ""
        for _ in range(seconds):
            for _ in range(hz):
                self.stamp += 1
                if self.stamp * images % 1.0 < images:
                    self.queue.put_image(self.stamp, "image")
                if self.stamp * infos % 1.0 < infos:
                    self.queue.put_info(self.stamp, "info")
            said = self.arrivals.warning(self.queue.counts)
        return said


def test_a_camera_that_works_is_not_complained_of() -> None:
    camera = _Camera()
    assert [camera.send(1) for _ in range(10)] == [""] * 10


def test_lost_images_are_told_within_five_seconds_with_the_cure() -> None:
    camera = _Camera()
    said = camera.send(5, images=0.12)
    assert "%" in said
    assert "did not arrive" in said
    assert "FASTRTPS_DEFAULT_PROFILES_FILE=/share/fastdds.xml" in said
    assert camera.send(6) == ""  # and no longer once it is cured


def test_a_single_lost_image_is_not_worth_a_word() -> None:
    assert _Camera().send(10, images=0.97) == ""


def test_images_that_never_come_are_told() -> None:
    assert "no image: is its topic right?" in _Camera().send(5, images=0.0)


def test_a_camera_info_that_comes_once_is_told_even_after_it_paired() -> None:
    camera = _Camera()
    assert camera.send(1) == ""
    assert "keep_camera_info" in camera.send(6, infos=0.0)


def test_no_camera_info_at_all_is_told() -> None:
    assert "no CameraInfo at all" in _Camera().send(2, infos=0.0)


def test_a_kept_camera_info_is_enough() -> None:
    camera = _Camera(keep_info=True)
    camera.queue.put_info(10**9, "once")
    assert camera.send(5, infos=0.0) == ""
    assert camera.queue.counts.paired == 50


def test_images_that_waited_for_the_kept_info_are_paired_too() -> None:
    queue = FrameQueue(keep_all=True, keep_info=True)
    queue.put_image(1, "first")
    queue.put_info(7, "info")
    queue.put_image(2, "second")
    assert [queue.get(), queue.get()] == [("first", "info"), ("second", "info")]


def test_images_above_the_highest_rate_are_counted() -> None:
    queue = FrameQueue(keep_all=True)
    for index in range(30):
        queue.put_image(index * 33_333_333, index, max_rate=10.0)
        queue.put_info(index * 33_333_333, "info", max_rate=10.0)
    assert (queue.counts.paired, queue.counts.skipped) == (30, 20)


@pytest.mark.parametrize("stamp", [0, 7])
def test_stamps_that_stand_still_are_told(stamp: int) -> None:
    camera = _Camera()
    for _ in range(10):
        camera.queue.put_image(stamp, "image")
        camera.queue.put_info(stamp, "info")
    assert "image.header.stamp: expected the time" in camera.arrivals.warning(camera.queue.counts)
    assert camera.send(6) == ""
