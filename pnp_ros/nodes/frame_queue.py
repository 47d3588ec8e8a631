"""Images paired with their CameraInfo, waiting to be processed: newest first, or all of them."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

_UNPAIRED = 10  # images and infos that wait for their partner; older ones are given up


@dataclass
class FrameCounts:
    """What became of the images.

    Args:
        received: images that arrived.
        paired: of those, the ones whose CameraInfo arrived too.
        dropped: paired, but overtaken by a newer image before their turn.
        unpaired: given up without a CameraInfo of the same stamp.
        taken: handed out to be processed; what was received and is in no other count still waits.
        lost: images and CameraInfos that the middleware says did not arrive.
    """

    received: int = 0
    paired: int = 0
    dropped: int = 0
    unpaired: int = 0
    taken: int = 0
    lost: int = 0


class FrameQueue:
    """Pairs by exact stamp, as camera drivers publish; hands out the newest pair, or all in order (``keep_all``).

    Written to by the thread that receives, read from by the one that processes.
    """

    def __init__(self, keep_all: bool) -> None:
        self.counts = FrameCounts()
        self._ready: deque[tuple[Any, Any]] = deque(maxlen=None if keep_all else 1)
        self._images: OrderedDict[int, Any] = OrderedDict()
        self._infos: OrderedDict[int, Any] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def put_image(self, stamp: int, image: Any) -> None:
        """Add an image; ``stamp`` in nanoseconds."""
        with self._changed:
            self.counts.received += 1
            if stamp in self._infos:
                self._pair(image, self._infos.pop(stamp))
            else:
                self._images[stamp] = image
                self.counts.unpaired += _give_up_oldest(self._images)

    def put_info(self, stamp: int, info: Any) -> None:
        """Add a CameraInfo; ``stamp`` in nanoseconds."""
        with self._changed:
            if stamp in self._images:
                self._pair(self._images.pop(stamp), info)
            else:
                self._infos[stamp] = info
                _give_up_oldest(self._infos)

    def get(self) -> tuple[Any, Any] | None:
        """Wait for the next (image, info); None once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._closed)
            if self._closed:
                return None
            self.counts.taken += 1
            return self._ready.popleft()

    def close(self) -> None:
        """Drop what waits and let :meth:`get` return None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _pair(self, image: Any, info: Any) -> None:
        self.counts.paired += 1
        if len(self._ready) == self._ready.maxlen:
            self.counts.dropped += 1  # the deque drops its only entry
        self._ready.append((image, info))
        self._changed.notify_all()


def _give_up_oldest(waiting: OrderedDict[int, Any]) -> int:
    if len(waiting) <= _UNPAIRED:
        return 0
    waiting.popitem(last=False)
    return 1
