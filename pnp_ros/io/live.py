"""Images of a webcam or of a stream, as they come: the newest one, never a queue of old ones."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from pnp_ros.io.images import ImageError, RgbImage

_SILENCE = 5.0  # seconds without an image: the camera is gone
_LOG_FATAL = 1  # cv::utils::logging::LOG_LEVEL_FATAL


def is_live(source: str) -> bool:
    """Whether it is a webcam (``0``, ``/dev/video0``) or an address (``rtsp://...``, ``http://...``)."""
    return bool(re.fullmatch(r"\d+|/dev/video\d+|[a-z][a-z0-9+.-]*://.+", source))


def live_images(source: str) -> Iterator[tuple[float, RgbImage]]:
    """Stamp (s, of the system's clock) and (H, W, 3) uint8 RGB of the newest image, each once.

    Ends where the stream ends. Images that came while the last one was being worked on are left out.

    Raises:
        ImageError: if it cannot be opened, gives no image, or no more for five seconds.
    """
    with _silent():  # that a backend cannot open it is said below
        capture = cv2.VideoCapture(int(source)) if source.isdigit() else cv2.VideoCapture(source)
    if not capture.isOpened():
        capture.release()
        raise ImageError(f"{source}: no such camera, or no stream at this address")
    newest = _Newest(capture)
    given = 0
    try:
        while (number := newest.wait(given)) > given:
            given = number
            stamp, bgr = newest.image
            yield stamp, np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        if given == 0 or not newest.ended:
            raise ImageError(f"{source}: {'no image' if given == 0 else 'no more images'} for {_SILENCE:g} s")
    finally:
        newest.close()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """OpenCV's own words are left out meanwhile."""
    log: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 4 has these functions at its top
    before = log.getLogLevel()
    log.setLogLevel(_LOG_FATAL)
    try:
        yield
    finally:
        log.setLogLevel(before)


class _Newest:
    """Reads on a thread of its own and keeps the last image."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        self._changed = threading.Condition()
        self._count = 0
        self._closed = False
        self.ended = False
        self.image: tuple[float, RgbImage]
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._closed:
            read, bgr = self._capture.read()
            with self._changed:
                if read:
                    self.image, self._count = (time.time(), np.asarray(bgr, np.uint8)), self._count + 1
                self.ended = not read
                self._changed.notify()
            if not read:
                return

    def wait(self, seen: int) -> int:
        """How many images came, as soon as they are more than ``seen``, the stream ended, or nothing came."""
        with self._changed:
            self._changed.wait_for(lambda: self._count > seen or self.ended, _SILENCE)
            return self._count

    def close(self) -> None:
        self._closed = True
        self._thread.join(_SILENCE)
        if not self._thread.is_alive():  # a camera that hangs is not torn from under its reader
            self._capture.release()
