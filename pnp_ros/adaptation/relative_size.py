"""How large an image shows an object, beside its rendering: by the texture inside, or else by its outline.

The rendering is tried at several sizes. Where its inside has a texture, that fits best at the right size. Inside an
object of one colour a smaller rendering fits as well as the right one; there the edges tell, outline and creases.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.adaptation.template import Template
from pnp_ros.evaluation.overlap import MIN_PIXELS

_SCALES = np.exp(np.linspace(-0.16, 0.16, 9))  # 4 % apart: the peak of a sharp edge is hardly wider
_REACH = 12  # pixels of the window by which the object may stand beside the rendering
_OUTLINE = 4  # pixels from the outline in which texture is not compared
_RING = 6  # pixels around the object in which its edges must not be
_CLEAR, _AWAY = 0.1, 4  # the size is known if the correlation drops by this much within this many scales
_HALF = 20.0  # grey levels per pixel at which an edge counts half
_BEFORE, _AFTER = 1.0, 1.5  # pixels of smoothing: against noise, and so that edges a little apart still meet


def relative_size(window: NDArray[np.uint8], rendering: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """Size of the object in ``window`` relative to the masked part of ``rendering``, 0.85 to 1.17.

    The two are at the same place but for a few pixels.

    Args:
        window: (H, W, 3) uint8 of an image.
        rendering: (H, W, 3) uint8.
        mask: (H, W) of the object, at least 50 pixels.
    """
    inside = cv2.erode(mask.astype(np.uint8), _square(_OUTLINE), borderValue=0) > 0
    if int(inside.sum()) >= MIN_PIXELS:
        fits = _fits(Template.cut(_smooth(rendering), inside), _smooth(window))
        top = int(fits.argmax())
        if fits[top] - np.delete(fits, np.s_[max(top - _AWAY + 1, 0) : top + _AWAY]).max() >= _CLEAR:
            return _highest(fits)
    around = cv2.dilate(mask.astype(np.uint8), _square(_RING)) > 0
    # on black and on white: one of them shows the outline of any object
    image, on_black, on_white = map(_edges, (window, *(np.where(mask[..., None], rendering, g) for g in (0, 255))))
    clutter = cv2.GaussianBlur(np.where(mask, 0.0, image[~mask].mean()).astype(np.float32), (0, 0), _AFTER)
    fits = _fits(Template.cut(np.maximum.reduce([on_black, on_white, clutter]), around), image)
    return _highest(fits)


def _fits(template: Template, image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Best correlation of the template at each of the scales."""
    best = []
    for scale in _SCALES:
        scaled = template.scaled(scale)
        scores = scaled.correlations(scaled.nearby(image, _REACH))
        best.append(float(scores.max()) if scores.size else -1.0)
    return np.array(best)


def _square(radius: int) -> NDArray[np.uint8]:
    return np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)


def _smooth(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """So smooth that no scale blurs it more than another."""
    return np.asarray(cv2.GaussianBlur(rgb.astype(np.float32), (0, 0), _BEFORE), np.float32)


def _edges(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) how much of an edge is at each pixel, 0 to 1; strong ones count little more than clear ones."""
    dx, dy = (cv2.Sobel(_smooth(rgb), cv2.CV_32F, *order, scale=1.0 / 8.0) for order in ((1, 0), (0, 1)))
    slope = np.sqrt((dx**2 + dy**2).max(-1))
    return np.asarray(cv2.GaussianBlur(slope / (slope + _HALF), (0, 0), _AFTER), np.float32)


def _highest(fits: NDArray[np.float64]) -> float:
    """The scale at the top of the parabola through the best correlation and its two neighbours."""
    top = int(fits.argmax())
    if not 0 < top < len(fits) - 1:
        return float(_SCALES[top])
    near = np.s_[top - 1 : top + 2]
    bend, slope, _ = np.polyfit(np.log(_SCALES[near]), fits[near], 2)
    return float(_SCALES[top] if bend >= 0.0 else np.exp(-0.5 * slope / bend))
