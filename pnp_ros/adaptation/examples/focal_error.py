"""A focal length that is a little wrong, told by references whose depth is right.

With a focal length that is wrong by a share, the image shows everything too far or too near by that share of its
distance. A reference that is wrong is off by so many metres, near and far alike. Over many images at several distances
the two are told apart: of the references' offsets along the view, ``offset / distance = share + metres / distance``.
"""

from __future__ import annotations

from collections import deque

import numpy as np

_APART_NS = 1_000_000_000  # the image errs alike from alike sides: what is nearer in time tells little more
_RECENT, _FEWEST = 300, 40  # images so far apart
_OUTLIER, _SURE = 3.0, 2.5  # standard deviations
_SIGMA = 1.4826  # times the median of absolute values


class FocalError:
    """Gathers offsets along the view.

    Args:
        most: largest share of the distance that references may be off.

    Attributes:
        share: by what share of the distance objects are further than the image shows them, in steps of a thousandth; 0
            while that is not sure. It is, where a part of it that is as many metres near and far would be less than
            ``most`` of the usual distance.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self.forget()

    def forget(self) -> None:
        """The references were wrong."""
        self._rows: deque[tuple[float, float]] = deque(maxlen=_RECENT)
        self._last_ns: int | None = None
        self.share = 0.0

    def add(self, stamp_ns: int, distance: float, offset: float) -> None:
        """One more image.

        Args:
            stamp_ns: of it.
            distance: of the object, metres.
            offset: of the reference beyond where the image shows the object, as a share of the distance.
        """
        if self._last_ns is not None and abs(stamp_ns - self._last_ns) < _APART_NS:
            return
        self._last_ns = stamp_ns
        self._rows.append((1.0 / distance, offset))
        if len(self._rows) >= _FEWEST:
            self.share = self._told()

    def _told(self) -> float:
        nearness, offsets = np.array(self._rows).T
        share, bound = float(np.median(offsets)), self._most / float(np.median(nearness))
        rest = offsets - share
        sigma = _SIGMA * float(np.median(np.abs(rest)))
        inlying = np.abs(rest) <= _OUTLIER * sigma
        rest, nearness = rest[inlying], nearness[inlying] - nearness[inlying].mean()
        power = float(nearness @ nearness)
        if abs(share) > self._most or power < 1e-12:
            return 0.0
        doubt = 0.0 if self.share else _SURE * sigma / power**0.5  # what was sure stays so until it is refuted
        return round(share, 3) if abs(float(nearness @ rest)) / power + doubt < bound else 0.0
