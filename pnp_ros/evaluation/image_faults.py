"""What can be wrong with images: blurred, too dark or too bright, of other colours than expected."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
_NOISE = 0.8  # px: the camera's noise is no sharpness


def blur(rgb: Image) -> float:
    """How blurred an image (H, W, 3) is, 0 to 1: how little it changes where it is blurred once more.

    Crete et al., "The blur effect" (SPIE Human Vision and Electronic Imaging, 2007), section 3. Sharp images have about
    0.5, blurred by two pixels 0.75, by four 0.9.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), _NOISE)
    found = []
    for axis, size in ((0, (1, 9)), (1, (9, 1))):
        change = np.abs(np.diff(grey, axis=axis))
        blurred = np.abs(np.diff(cv2.blur(grey, size), axis=axis))
        lost = np.maximum(0.0, change - blurred)
        found.append(float(1.0 - lost.sum() / max(float(change.sum()), 1e-6)))
    return max(found)


def brightness(rgb: Image) -> float:
    """Median grey, 0 to 255."""
    return float(np.median(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)))


def clipped(rgb: Image) -> float:
    """Share of the pixels that are white in all channels."""
    return float((rgb.min(axis=2) >= 254).mean())


def hue_difference(one: Image, other: Image) -> float:
    """Median distance of two rows of pixels (N, 3) RGB in the a and b of CIE Lab, so that brightness does not count.

    The light's colour makes up to about 15, another paint 30 and more.
    """
    pixels = (np.concatenate([one, other]).reshape(-1, 1, 3) / 255.0).astype(np.float32)
    chroma = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[:, 0, 1:]
    return float(np.median(np.linalg.norm(chroma[: len(one)] - chroma[len(one) :], axis=1)))


def mean_colour(pixels: Image) -> str:
    """Of pixels (N, 3) RGB, as ``#rrggbb``."""
    return "#" + "".join(f"{round(value):02x}" for value in np.median(pixels, axis=0))
