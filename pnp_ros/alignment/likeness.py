"""How alike the image is to the object drawn at a pose, place by place, drawn no sharper than the image is.

The correlation of both, without their local means, over a small neighbourhood of every pixel. Unlike the matches of
corners it needs no detail: a blurred or worn image of the object still correlates, an image of another object does not,
however sharp. How sharp the image is, is measured on it alone and not by what fits best, so that another object's
detail cannot be blurred away.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.rendering.raster_view import View

BLURS = (0.0, 0.7, 1.2, 1.8, 2.6, 3.5)  # pixels of the window by which a drawing is blurred, at most the last
_SMOOTH = 1.0  # pixels: drawing and image are both smoothed, against noise
_MEAN, _NEAR = 27, 19  # pixels: sides of the boxes of the local means and of the correlation
_RIM = 5  # pixels, side of the square by which the object's rim is left out: it shows the background, too
_VISIBLE, _NOISE = 2.0, 1.5  # grey levels, and times the noise, of local contrast that a texture must have
_SMOOTHED = 0.28  # share of a pixel's noise that smoothing leaves: 1 / (2 sqrt(pi) _SMOOTH)
_ALIKE = 0.5  # correlation from which on a place counts as shown


@dataclass(frozen=True, eq=False)
class Likeness:
    """What an image and the object drawn at a pose have in common.

    Args:
        correlation: (H, W) -1 to 1, of the surroundings of each pixel; 0 where nothing is compared.
        compared: (H, W) bool, where the drawing, as blurred and lit as the image, has a texture to be seen.
        painted: share of the object in view that has one at all, in a sharp image.
        textured: share of the object in view that is compared.
        shown: share of that where the image looks alike; NaN if nothing is compared.
        mean: correlation, in the mean of all places compared; NaN without one.
        blur: standard deviation of the image's blur, pixels of the window.
    """

    correlation: NDArray[np.float32]
    compared: NDArray[np.bool_]
    painted: float
    textured: float
    shown: float
    mean: float
    blur: float


def compare(view: View, image: NDArray[np.uint8], inside: NDArray[np.bool_]) -> Likeness:
    """Compare a view with the image of the same window.

    Args:
        view: with its grey values.
        image: (H, W, 3) uint8.
        inside: (H, W) bool, pixels that the image has.
    """
    assert view.grey is not None
    correlation, compared = np.zeros(view.mask.shape, np.float32), np.zeros(view.mask.shape, np.bool_)
    mask = np.asarray(view.mask * inside, np.uint8)
    core = cv2.erode(mask, np.ones((_RIM, _RIM), np.uint8), borderValue=0)
    if not core.any():
        return Likeness(correlation, compared, 0.0, 0.0, math.nan, math.nan, 0.0)
    x, y, width, height = cv2.boundingRect(mask)
    box = slice(y, y + height), slice(x, x + width)
    part, where = mask[box].astype(np.float32), core[box].astype(np.float32)
    shown = cv2.cvtColor(image[box], cv2.COLOR_RGB2GRAY).astype(np.float32)
    mean = float((view.grey[box] * part).sum() / part.sum())
    drawn = mean + (view.grey[box] - mean) * part
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
    correlation[box] = ab / np.sqrt(np.maximum(aa * bb, 1e-3)) * where
    light = min(float((shown * part).sum() / part.sum()) / max(mean, 1.0), 1.0)
    least = max(_VISIBLE, _NOISE * _SMOOTHED * _noise(shown)) / max(light, 1e-3)
    compared[box] = (aa > least**2 * weight) & (where > 0)
    size = float(where.sum())
    painted = float(((sharp > _VISIBLE**2 * weight) & (where > 0)).sum()) / size
    count = float(compared.sum())
    if count == 0.0:
        return Likeness(correlation, compared, painted, 0.0, math.nan, math.nan, blur)
    values = correlation[compared]
    alike = float((values > _ALIKE).mean())
    return Likeness(correlation, compared, painted, count / size, alike, float(values.mean()), blur)


def _blur(drawn: NDArray, where: NDArray, flat: Callable[[NDArray], NDArray], wanted: float) -> float:
    """Blur (pixels) that gives a drawing the share of gradients in its contrast that is wanted."""
    last = math.inf
    for index, blur in enumerate(BLURS):
        smooth = cv2.GaussianBlur(drawn, (0, 0), math.hypot(_SMOOTH, blur))
        here = _gradients(smooth, flat(smooth), where)
        if here <= wanted:
            part = (last - wanted) / (last - here) if index else 0.0
            return blur - (blur - BLURS[index - 1]) * (1.0 - part) if index else 0.0
        last = here
    return BLURS[-1]


def _gradients(smooth: NDArray, flat: NDArray, where: NDArray) -> float:
    """Squared gradients over squared contrast: the sharper, the more."""
    gx, gy = (cv2.Sobel(smooth, cv2.CV_32F, *order, scale=0.125) * where for order in ((1, 0), (0, 1)))
    contrast = float(np.vdot(flat * where, flat))
    return float(np.vdot(gx, gx) + np.vdot(gy, gy)) / (contrast + 1e-6)


def _average(image: NDArray, side: int) -> NDArray[np.float32]:
    return np.asarray(cv2.blur(image, (side, side)), np.float32)


def _noise(image: NDArray[np.float32]) -> float:
    """Standard deviation of an image's noise, by the median of its second differences (Immerkaer, 1996)."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    return float(np.median(np.abs(cv2.filter2D(image, cv2.CV_32F, kernel)[::2, ::2]))) / 0.6745 / 6.0
