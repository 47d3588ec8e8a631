"""A camera that gives images faster than they are worked on, that goes silent, and that is not there."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from pnp_ros.io import live
from pnp_ros.io.images import ImageError, VideoWriter
from pnp_ros.io.live import is_live, live_images


class FakeCamera:
    """Stands for cv2.VideoCapture; image ``i`` is grey with value ``i``.

    After ``first`` images it waits until it is to go ``on``. Nothing here depends on how fast the machine is.
    """

    def __init__(self, count: int, first: int) -> None:
        self.count, self.first, self.given, self.released = count, first, 0, False
        self.on, self.ended = threading.Event(), threading.Event()

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        if self.given == self.first:
            assert self.on.wait(60.0)
        if self.given == self.count:
            self.ended.set()
            return False, None
        self.given += 1
        return True, np.full((4, 6, 3), self.given, np.uint8)

    def release(self) -> None:
        self.released = True


def test_the_newest_image_not_a_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCamera(40, first=1)
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: camera if source == 0 else None)
    seen = []
    for _, rgb in live_images("0"):
        seen.append(int(rgb[0, 0, 0]))
        camera.on.set()
        assert camera.ended.wait(60.0)  # working on the first image, while all others come
    assert seen == [1, 40], "those in between are left out, and the last one is not lost"
    assert camera.released


def test_a_silent_camera_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCamera(1, first=1)
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: camera)
    images = live_images("/dev/video0")
    monkeypatch.setattr(live, "_SILENCE", 60.0)  # however long the first image takes
    next(images)
    monkeypatch.setattr(live, "_SILENCE", 0.1)
    with pytest.raises(ImageError, match=r"/dev/video0: no more images for 0\.1 s"):
        next(images)
    camera.on.set()


def test_an_address_is_read_to_its_end(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "video.mp4") as writer:
        for _ in range(5):
            writer.write(np.full((32, 32, 3), 90, np.uint8))
    found = list(live_images(f"file://{tmp_path}/video.mp4"))
    assert found
    assert found[-1][1].shape == (32, 32, 3)


def test_what_is_not_there_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for source in (f"file://{tmp_path}/nothing.mp4", "99"):
        with pytest.raises(ImageError, match="no such camera, or no stream"):
            list(live_images(source))
    assert capfd.readouterr().err == "", "OpenCV's own words are more than one line"


@pytest.mark.parametrize("source", ["0", "12", "/dev/video0", "rtsp://host/path", "http://host:8080/stream.mjpg"])
def test_live_sources(source: str) -> None:
    assert is_live(source)
    assert not is_live(f"./{source}")


def test_files_are_not_live() -> None:
    assert not any(map(is_live, ("video.mp4", "images/", "/data/bag", "C:/video.mp4", "0.png")))
