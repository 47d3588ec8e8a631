"""Images paired with their CameraInfo, waiting to be processed: newest first, or all of them."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

_UNPAIRED = 10  # images and infos that wait for their partner; older ones are given up
_RATE_SLACK = 0.9  # of the interval: a camera's images do not come to the nanosecond


@dataclass
class FrameCounts:
    """What became of the images.

    Args:
        received: images that arrived.
        paired: of those, the ones whose CameraInfo arrived too.
        dropped: paired, but overtaken by a newer image before their turn.
        skipped: paired, but sooner after the last than the highest rate allows, or no longer wanted.
        unpaired: given up without a CameraInfo of the same stamp.
        taken: handed out to be processed; what was received and is in no other count still waits.
        lost: images and CameraInfos that the middleware says did not arrive.
        infos: CameraInfos that arrived.
        announced: of those, the ones given up without an image of the same stamp.
        repeated: images with the stamp of the one before.
    """

    received: int = 0
    paired: int = 0
    dropped: int = 0
    skipped: int = 0
    unpaired: int = 0
    taken: int = 0
    lost: int = 0
    infos: int = 0
    announced: int = 0
    repeated: int = 0


class FrameQueue:
    """Pairs by exact stamp, as camera drivers publish; hands out the newest pair, or all in order.

    Written to by the thread that receives, read from by the one that processes.

    Args:
        keep_all: hand out every pair, in order.
        keep_info: the last CameraInfo goes with every image, whatever its stamp.
    """

    def __init__(self, keep_all: bool, keep_info: bool = False) -> None:
        self.counts = FrameCounts()
        self._keep_info = keep_info
        self._info: Any = None
        self._ready: deque[tuple[Any, Any]] = deque(maxlen=None if keep_all else 1)
        self._images: OrderedDict[int, Any] = OrderedDict()
        self._infos: OrderedDict[int, Any] = OrderedDict()
        self._last_ns: int | None = None
        self._newest_ns: int | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._in_hand = 0

    @property
    def waiting(self) -> int:
        """Pairs whose turn is still to come, and the one that was handed out last until the next is asked for."""
        return len(self._ready) + self._in_hand

    def put_image(self, stamp: int, image: Any, max_rate: float = 0.0) -> None:
        """Add an image; ``stamp`` in nanoseconds, at most ``max_rate`` of them a second are handed out (0: all)."""
        with self._changed:
            self.counts.received += 1
            self.counts.repeated += stamp == self._newest_ns
            self._newest_ns = stamp
            if self._info is not None:
                self._pair(stamp, image, self._info, max_rate)
            elif stamp in self._infos:
                self._pair(stamp, image, self._infos.pop(stamp), max_rate)
            else:
                self._images[stamp] = image
                self.counts.unpaired += _give_up_oldest(self._images)

    def put_info(self, stamp: int, info: Any, max_rate: float = 0.0) -> None:
        """Add a CameraInfo; the arguments are those of :meth:`put_image`."""
        with self._changed:
            self.counts.infos += 1
            if self._keep_info:
                self._info = info
                while self._images:
                    self._pair(*self._images.popitem(last=False), info, max_rate)
            elif stamp in self._images:
                self._pair(stamp, self._images.pop(stamp), info, max_rate)
            else:
                self._infos[stamp] = info
                self.counts.announced += _give_up_oldest(self._infos)

    def get(self) -> tuple[Any, Any] | None:
        """Wait for the next (image, info); None once the queue is closed."""
        with self._changed:
            self._in_hand = 0
            self._changed.wait_for(lambda: self._ready or self._closed)
            if self._closed:
                return None
            self._in_hand = 1
            self.counts.taken += 1
            return self._ready.popleft()

    def rest(self, seconds: float) -> None:
        """Wait so long, or until the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, max(seconds, 0.0))

    def close(self) -> None:
        """Drop what waits and let :meth:`get` return None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _pair(self, stamp: int, image: Any, info: Any, max_rate: float) -> None:
        self.counts.paired += 1
        if max_rate and self._last_ns is not None and 0 <= stamp - self._last_ns < _RATE_SLACK * 1e9 / max_rate:
            self.counts.skipped += 1
            return
        self._last_ns = stamp
        if len(self._ready) == self._ready.maxlen:
            self.counts.dropped += 1  # the deque drops its only entry
        self._ready.append((image, info))
        self._changed.notify_all()


def _give_up_oldest(waiting: OrderedDict[int, Any]) -> int:
    if len(waiting) <= _UNPAIRED:
        return 0
    waiting.popitem(last=False)
    return 1
