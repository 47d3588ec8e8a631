"""How likely a colour is the object's rather than the background's, learnt while the object is followed.

Histograms of the colours inside and around the object and Bayes' rule with equal priors (Bibby and Reid, "Robust
real-time visual tracking using pixel-wise posteriors", ECCV 2008; PWP3D, RBOT, SRT3D and ICG do so, too).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_BITS = 4  # of each channel
_BINS = 1 << _BITS
_FLOOR = 1e-5  # share of pixels that any colour may have by chance
_SMOOTHING = 0.8  # bins: light changes a colour by so much


class ColourModel:
    """Histograms of object and background; empty until something was learnt."""

    def __init__(self) -> None:
        self._inside: NDArray[np.float32] | None = None
        self._around: NDArray[np.float32] | None = None
        self._posterior: NDArray[np.float32] | None = None

    @property
    def known(self) -> bool:
        """Whether anything was learnt."""
        return self._posterior is not None

    def forget(self) -> None:
        """Start anew."""
        self._inside = self._around = self._posterior = None

    def learn(self, colours: NDArray[np.int32], inside: NDArray, around: NDArray, rate: float = 1.0) -> None:
        """Mix the colours of an image in.

        Args:
            colours: (H, W) of the image, by :func:`bins`.
            inside: (H, W) nonzero where the object is for certain.
            around: (H, W) nonzero where it is not for certain.
            rate: share of the new colours; the first ones count fully.
        """
        new_inside, new_around = _histogram(colours, inside), _histogram(colours, around)
        if new_inside is None or new_around is None:
            return
        if self._inside is not None and self._around is not None:
            new_inside = (1.0 - rate) * self._inside + rate * new_inside
            new_around = (1.0 - rate) * self._around + rate * new_around
        self._inside, self._around = new_inside, new_around
        self._posterior = (new_inside + _FLOOR) / (new_inside + new_around + 2.0 * _FLOOR)

    def posterior(self, colours: NDArray[np.int32]) -> NDArray[np.float32]:
        """(H, W) probability that each pixel shows the object, by its :func:`bins`; 0.5 if nothing is known."""
        if self._posterior is None:
            return np.full(colours.shape, 0.5, np.float32)
        return self._posterior[colours]


def bins(image: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(H, W) numbers of the colours of an image (H, W, 3), coarse enough to be counted."""
    q = (image >> (8 - _BITS)).astype(np.int32)
    return (q[..., 0] * _BINS + q[..., 1]) * _BINS + q[..., 2]


def _histogram(colours: NDArray[np.int32], where: NDArray) -> NDArray[np.float32] | None:
    """Share of each colour, smoothed over its neighbours; None without pixels."""
    chosen = colours[where > 0]
    if len(chosen) == 0:
        return None
    counts = np.bincount(chosen, minlength=_BINS**3).astype(np.float32).reshape(_BINS, _BINS * _BINS)
    planes = cv2.GaussianBlur(counts, (3, 3), _SMOOTHING).reshape(_BINS, _BINS, _BINS)
    # the last axis was smoothed with the second: red is the rows, blue the columns beside each other
    return np.asarray(planes / max(float(planes.sum()), 1.0), np.float32).ravel()
