"""How alike the image is to the object drawn at a pose, place by place, drawn no sharper than the image is.

The correlation of both, without their local means, over a small neighbourhood of every pixel. Unlike the matches of
corners it needs no detail: a blurred or worn image of the object still correlates, an image of another object does not,
however sharp. How sharp the image is, is measured on it alone and not by what fits best, so that another object's
detail cannot be blurred away.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.rendering.raster_view import View

# all in pixels of half the window's resolution, which is enough for what is compared and costs a quarter
_BLURS = (0.0, 0.35, 0.6, 0.9, 1.3, 1.75)  # by which a drawing is blurred, at most the last
_SMOOTH = 0.5  # drawing and image are both smoothed, against noise
_MEAN, _NEAR = 13, 9  # sides of the boxes of the local means and of the correlation
_RIM = 3  # side of the square by which the object's rim is left out: it shows the background, too
_VISIBLE, _NOISE = 2.0, 1.5  # grey levels, and times the noise, of local contrast that a texture must have
_SMOOTHED = 0.56  # share of a pixel's noise that smoothing leaves: 1 / (2 sqrt(pi) _SMOOTH)
_ALIKE = 0.5  # correlation from which on a place counts as shown


@dataclass(frozen=True, eq=False)
class Likeness:
    """What an image and the object drawn at a pose have in common.

    Args:
        correlation: (h, w) -1 to 1, of the surroundings of each place around the object; 0 where nothing is compared.
        compared: (h, w) bool, where the drawing, as blurred and lit as the image, has a texture to be seen.
        corner: pixel x, y of the window where these begin; they have half its resolution.
        painted: share of the object in view that has one at all, in a sharp image.
        textured: share of the object in view that is compared.
        shown: share of that where the image looks alike; NaN if nothing is compared.
        mean: correlation, in the mean of all places compared; NaN without one.
        blur: standard deviation of the image's blur, pixels of the window.
    """

    correlation: NDArray[np.float32]
    compared: NDArray[np.bool_]
    corner: tuple[int, int]
    painted: float
    textured: float
    shown: float
    mean: float
    blur: float

    def at(self, pixels: NDArray) -> NDArray[np.float32]:
        """(M,) correlation at those of some pixels (N, 2) of the window that are compared."""
        height, width = self.compared.shape
        x, y = ((pixels - self.corner) / 2.0).astype(int).T
        x, y = x.clip(0, width - 1), y.clip(0, height - 1)
        return np.asarray(self.correlation[y, x][self.compared[y, x]])


def compare(view: View, image: NDArray[np.uint8], inside: NDArray[np.bool_]) -> Likeness:
    """Compare a view with the image of the same window.

    Args:
        view: with its grey values.
        image: (H, W) uint8, grey values.
        inside: (H, W) bool, pixels that the image has.
    """
    assert view.grey is not None
    x, y, width, height = cv2.boundingRect(view.mask)
    box, half = (slice(y, y + height), slice(x, x + width)), ((width + 1) // 2, (height + 1) // 2)
    known = ((view.mask[box] > 0) & inside[box]).astype(np.float32)
    if not known.any():
        nowhere = np.zeros((1, 1), np.bool_)
        return Likeness(nowhere.astype(np.float32), nowhere, (x, y), 0.0, 0.0, math.nan, math.nan, 0.0)
    mean = float((view.grey[box] * known).sum() / known.sum())
    grey = image[box].astype(np.float32)
    shown, drawn, part = (
        cv2.resize(values, half, interpolation=cv2.INTER_AREA)
        for values in (grey, mean + (view.grey[box] - mean) * known, known)
    )
    where = cv2.erode((part > 0.99).astype(np.uint8), np.ones((_RIM, _RIM), np.uint8), borderValue=0).astype(np.float32)
    share = _average(part, _MEAN) + 1e-6

    def flat(smooth: NDArray) -> NDArray:
        """Less its local mean over the object alone; 0 elsewhere."""
        return (smooth - _average(smooth * part, _MEAN) / share) * part

    seen, plain = (cv2.GaussianBlur(values, (0, 0), _SMOOTH) for values in (shown, drawn))
    b, a = flat(seen), flat(plain)
    blur, wanted = _blur(drawn, where, flat, _gradients(seen, b, where)), a
    if blur > 0.0:
        a = flat(cv2.GaussianBlur(drawn, (0, 0), math.hypot(_SMOOTH, blur)))
    weight = _average(where, _NEAR) + 1e-6
    aa, bb, ab, sharp = (_average(product * where, _NEAR) for product in (a * a, b * b, a * b, wanted * wanted))
    correlation = ab / np.sqrt(np.maximum(aa * bb, 1e-3)) * where
    light = min(float((shown * part).sum() / part.sum()) / max(mean, 1.0), 1.0)
    least = max(_VISIBLE, _NOISE * _SMOOTHED * _noise(shown)) / max(light, 1e-3)
    compared = (aa > least**2 * weight) & (where > 0)
    size, count = max(float(where.sum()), 1.0), float(compared.sum())
    painted = float(((sharp > _VISIBLE**2 * weight) & (where > 0)).sum()) / size
    values = correlation[compared]
    alike, level = (float((values > _ALIKE).mean()), float(values.mean())) if count else (math.nan, math.nan)
    return Likeness(correlation, compared, (x, y), painted, count / size, alike, level, 2.0 * blur)


def _blur(drawn: NDArray, where: NDArray, flat: Callable[[NDArray], NDArray], wanted: float) -> float:
    """Blur (pixels) that gives a drawing the share of gradients in its contrast that is wanted."""

    @functools.cache
    def share(index: int) -> float:
        smooth = cv2.GaussianBlur(drawn, (0, 0), math.hypot(_SMOOTH, _BLURS[index]))
        return _gradients(smooth, flat(smooth), where)

    index = bisect.bisect_left(range(len(_BLURS)), -wanted, key=lambda at: -share(at))  # the more blur, the less
    if index in (0, len(_BLURS)):
        return _BLURS[min(index, len(_BLURS) - 1)]
    part = (share(index - 1) - wanted) / (share(index - 1) - share(index))
    return _BLURS[index - 1] + (_BLURS[index] - _BLURS[index - 1]) * part


def _gradients(smooth: NDArray, flat: NDArray, where: NDArray) -> float:
    """Squared gradients over squared contrast: the sharper, the more."""
    gx, gy = (cv2.Sobel(smooth, cv2.CV_32F, *order, scale=0.125) * where for order in ((1, 0), (0, 1)))
    contrast = float(np.vdot(flat * where, flat))
    return float(np.vdot(gx, gx) + np.vdot(gy, gy)) / (contrast + 1e-6)


def _average(image: NDArray, side: int) -> NDArray[np.float32]:
    return np.asarray(cv2.blur(image, (side, side)), np.float32)


def _noise(image: NDArray) -> float:
    """Standard deviation of an image's noise, by the median of its second differences (Immerkaer, 1996)."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    return float(np.median(np.abs(cv2.filter2D(image, cv2.CV_32F, kernel)[::2, ::2]))) / 0.6745 / 6.0
