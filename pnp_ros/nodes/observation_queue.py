"""Images with their CameraInfo and what the estimator said of them, waiting to be looked at."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from pnp_ros.cameras.camera import Camera
from pnp_ros.nodes import conversions

_UNMATCHED = 15  # stamps that wait for the rest of their messages; an image is the estimate's for about so long
_ESTIMATES_A_IMAGE = 8  # those between the images that are looked at
_RATE_SLACK = 0.9  # of the interval: a camera's images do not come to the nanosecond


class Sample:
    """The three messages of one stamp; the image is decoded when it is looked at.

    Args:
        stamp_ns: of the image.
        image: the message, raw or compressed; None where only the estimate is wanted.
        info: CameraInfo.
        objects: ObjectPoseArray.
        rectified: P of the CameraInfo holds, not K and D.
    """

    def __init__(self, stamp_ns: int, image: Any, info: Any, objects: Any, rectified: bool) -> None:
        self.stamp_ns, self.image, self.info, self.objects = stamp_ns, image, info, objects
        self._rectified = rectified
        self.arrived = time.monotonic()

    @property
    def frame_id(self) -> str:
        """TF frame of the camera."""
        return str(self.objects.header.frame_id)

    @functools.cached_property
    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8; without pixels where only the estimate is wanted.

        Raises:
            ImageError: naming the field.
        """
        if self.image is None:
            return np.zeros((0, 0, 3), np.uint8)
        return conversions.rgb_from_image(self.image, self.camera)

    @functools.cached_property
    def camera(self) -> Camera:
        """That took the image.

        Raises:
            ValueError: naming the field.
        """
        return conversions.camera_from_message(self.info, self._rectified)


@dataclass
class ObservationCounts:
    """What became of the images.

    Args:
        received: images that arrived.
        estimated: of those, the ones whose CameraInfo and estimate arrived too.
        skipped: estimated, but sooner after the last than the highest rate allows.
        unmatched: given up without a CameraInfo or an estimate of the same stamp.
        dropped: not looked at before too many newer ones waited.
        crowded: not taken, as those that wait still may for their references, and there is no room for more.
        repeated: not taken, as they have the stamp of the one before: no estimate can be told to be theirs.
    """

    received: int = 0
    estimated: int = 0
    skipped: int = 0
    unmatched: int = 0
    dropped: int = 0
    crowded: int = 0
    repeated: int = 0


class ObservationQueue:
    """Matches by exact stamp; written to by the thread that receives, read from by the one that works.

    Args:
        max_rate: images a second that are handed out at most.
        rectified: as :class:`Sample`'s.
        estimates_between: hand out the estimates between those images too, without their image.
        delay_s: for which the oldest may wait for its reference. Until then a full queue takes no newer ones: of
            images that come faster than that, some meet their references. From then on the oldest gives way.
        capacity: images that may wait, about.
    """

    def __init__(
        self, max_rate: float, rectified: bool, estimates_between: bool, delay_s: float = 0.0, capacity: int = 16
    ) -> None:
        self.counts = ObservationCounts()
        self.crowded_at = -math.inf  # by the steady clock: when there was no room last
        self.repeated_at = -math.inf  # likewise: when a stamp stood still
        self._delay_s = delay_s
        self._interval_ns = _RATE_SLACK * 1e9 / max_rate
        self._rectified, self._between = rectified, estimates_between
        self._partial: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._waiting: deque[Sample] = deque(maxlen=capacity * (_ESTIMATES_A_IMAGE if estimates_between else 1))
        self._last_ns: int | None = None
        self._newest_ns: int | None = None
        self._lock = threading.Lock()

    def put_image(self, stamp_ns: int, image: Any) -> None:
        """Add an image."""
        self.counts.received += 1
        if stamp_ns == self._newest_ns:
            self.counts.repeated, self.repeated_at = self.counts.repeated + 1, time.monotonic()
            return
        self._newest_ns = stamp_ns
        self._put(stamp_ns, "image", image)

    def put_info(self, stamp_ns: int, info: Any) -> None:
        """Add a CameraInfo."""
        self._put(stamp_ns, "info", info)

    def put_objects(self, stamp_ns: int, objects: Any) -> None:
        """Add what the estimator says."""
        self._put(stamp_ns, "objects", objects)

    def first(self) -> Sample | None:
        """The oldest that waits, if any; it goes on waiting."""
        with self._lock:
            return self._waiting[0] if self._waiting else None

    def remove(self, sample: Sample) -> None:
        """Take the oldest away, unless that has happened already."""
        with self._lock:
            if self._waiting and self._waiting[0] is sample:
                self._waiting.popleft()

    def _put(self, stamp_ns: int, name: str, message: Any) -> None:
        with self._lock:
            parts = self._partial.setdefault(stamp_ns, {})
            parts[name] = message
            if len(parts) == 3:
                self._match(stamp_ns, self._partial.pop(stamp_ns))
            elif len(self._partial) > _UNMATCHED:
                _, oldest = self._partial.popitem(last=False)
                self.counts.unmatched += "image" in oldest

    def _match(self, stamp_ns: int, parts: dict[str, Any]) -> None:
        self.counts.estimated += 1
        due = self._last_ns is None or not 0 < stamp_ns - self._last_ns < self._interval_ns
        if due:
            self._last_ns = stamp_ns
        else:
            self.counts.skipped += 1
            if not self._between:
                return
        if len(self._waiting) == self._waiting.maxlen:
            now = time.monotonic()
            if now - self._waiting[0].arrived < self._delay_s:
                self.counts.crowded, self.crowded_at = self.counts.crowded + 1, now
                return
            self.counts.dropped += 1  # the deque drops its first entry
        image = parts["image"] if due else None
        self._waiting.append(Sample(stamp_ns, image, parts["info"], parts["objects"], self._rectified))
