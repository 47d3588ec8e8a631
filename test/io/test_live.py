"""A camera that gives images faster than they are worked on, that goes silent, and that is not there."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from pnp_ros.io import live
from pnp_ros.io.images import ImageError, VideoWriter
from pnp_ros.io.live import is_live, live_images


class FakeCamera:
    """Stands for cv2.VideoCapture; image ``i`` is grey with value ``i``."""

    def __init__(self, count: int, seconds: float, silent: bool = False) -> None:
        self.count, self.seconds, self.silent, self.given, self.released = count, seconds, silent, 0, False

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        time.sleep(self.seconds)
        if self.given == self.count:
            if self.silent:
                time.sleep(0.5)
            return False, None
        self.given += 1
        return True, np.full((4, 6, 3), self.given, np.uint8)

    def release(self) -> None:
        self.released = True


def test_the_newest_image_not_a_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCamera(40, 0.005)
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: camera if source == 0 else None)
    seen = []
    for _, rgb in live_images("0"):
        seen.append(int(rgb[0, 0, 0]))
        time.sleep(0.03)
    assert seen == sorted(set(seen))
    assert seen[-1] == 40, "the last one is not lost"
    assert len(seen) < 35, "those in between are left out"
    assert camera.released


def test_a_silent_camera_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_SILENCE", 0.1)
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: FakeCamera(1, 0.0, silent=True))
    with pytest.raises(ImageError, match=r"/dev/video0: no more images for 0\.1 s"):
        list(live_images("/dev/video0"))


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
