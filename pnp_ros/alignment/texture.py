"""Corners of the object seen at a pose, followed into the image: correspondences where the surface has a texture.

Pyramidal Lucas-Kanade on locally normalised grey values, forward and back (Bouguet, 2000; Kalal et al., "Forward-
backward error", ICPR 2010). Each match has its own covariance: that of a least-squares fit of a patch,
``sigma^2 (sum g g^T)^-1`` with the image gradient g and the patch's residual sigma (Foerstner and Guelch, 1987).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.alignment.contours import around, sample
from pnp_ros.rendering.raster_view import View

_WINDOW = 17  # pixels, side of a patch
_BLUR, _NEIGHBOURHOOD = 0.8, 19  # pixels: against noise, and of the box over which grey values are normalised twice
_GAIN, _FLAT = 40.0, 4.0  # of the normalised grey values, and the contrast below which a place counts as flat
_MOST = 200  # corners
_CORNER = 5  # pixels, side of the square that makes one
_QUALITY = 0.005  # of the best corner
_WEAKEST = 1e-3  # smallest eigenvalue of a corner's structure tensor, as OpenCV scales it
_BOTH = cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS
_THERE, _BACK = (_BOTH, 10, 0.01), (_BOTH, 5, 0.05)  # steps, and pixels: when a corner is taken to be found
_RETURN = 0.5  # pixels by which a match followed back may miss its corner
_CORRELATION = 0.5  # of a patch and its match, below which they are not the same place
_DEPENDENCE = 4.0  # pixels of blurred images are not independent: so many tell as much as one
_SHARPEST = 0.1  # pixels: no match is known better
_EVERY = 2  # pixels of a patch between those that are looked at
_STEPS = np.arange(-(_WINDOW // 2), _WINDOW // 2 + 1, _EVERY, dtype=np.float32)
_PATCH = np.stack(np.meshgrid(_STEPS, _STEPS), -1).reshape(-1, 2)  # (P, 2) from its centre
_AREA = _WINDOW**2 / len(_PATCH)  # pixels that each stands for
_ORDERS = (1, 0), (0, 1)  # of the derivatives in x and y


@dataclass(frozen=True, eq=False)
class Matches:
    """Corners of a view, and where they are in the image, in pixels of a window.

    Args:
        expected: (C, 2) pixels of all corners of the view.
        pixels: (C, 2) where each was found.
        points: (C, 3) object points, metres.
        roots: (C, 2, 2) square-root information of ``pixels``, 1/px: 2x2 whitening matrices.
        found: (C,) whether a place was found that looks alike.
    """

    expected: NDArray[np.float32]
    pixels: NDArray[np.float32]
    points: NDArray[np.float32]
    roots: NDArray[np.float32]
    found: NDArray[np.bool_]


NONE = Matches(
    np.zeros((0, 2), np.float32),
    np.zeros((0, 2), np.float32),
    np.zeros((0, 3), np.float32),
    np.zeros((0, 2, 2), np.float32),
    np.zeros(0, np.bool_),
)


def match(view: View, seen: NDArray[np.uint8], inside: NDArray[np.bool_], levels: int, coarse: bool) -> Matches:
    """Follow the corners of a view into the image of the same window.

    Args:
        view: with its grey values.
        seen: (H, W) uint8, :func:`normalised` grey values of the image.
        inside: (H, W) bool, pixels that the image has.
        levels: of the pyramid above the window itself: each doubles how far a corner may be away.
        coarse: few pixels show the object: corners are farther apart and nearer to its rim.
    """
    if view.grey is None:
        return NONE
    mask = view.mask
    rim, gap = (5, 9) if coarse else (9, 4)
    inner = np.asarray(cv2.erode(mask, np.ones((rim, rim), np.uint8), borderValue=0) * inside, np.uint8)
    if not inner.any():
        return NONE
    drawn = normalised(np.where(mask > 0, view.grey, np.float32(cv2.mean(view.grey, mask)[0])))
    corners, sharpness = cv2.goodFeaturesToTrackWithQuality(drawn, _MOST, _QUALITY, gap, inner, blockSize=_CORNER)[:2]
    if corners is None:
        return NONE
    start = np.asarray(corners, np.float32).reshape(-1, 2)[np.ravel(sharpness) > _WEAKEST]
    if len(start) == 0:
        return NONE
    there, arrived = _follow(drawn, seen, start, levels, _THERE)
    back, returned = _follow(seen, drawn, there, levels, _BACK)
    found = arrived & returned & (np.square(back - start).sum(1) < _RETURN**2)
    alike, residual = _compare(drawn, seen, start, there)
    found &= alike > _CORRELATION
    return Matches(start, there, _points(view, start), _roots(drawn, start, residual), found)


def _follow(
    a: NDArray[np.uint8], b: NDArray[np.uint8], points: NDArray[np.float32], levels: int, until: tuple[int, int, float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where points (N, 2) of one image are in another, and (N,) whether they were found."""
    size = (_WINDOW, _WINDOW)
    there, status, _ = cv2.calcOpticalFlowPyrLK(
        a, b, points, points.copy(), winSize=size, maxLevel=levels, criteria=until
    )
    return np.asarray(there, np.float32), np.asarray(status).reshape(-1) > 0


def normalised(grey: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey values (H, W) less their local mean, over their local deviation: light and exposure cancel."""
    difference = cv2.GaussianBlur(grey, (0, 0), _BLUR)
    difference -= _average(difference)
    variance = np.maximum(_average(difference * difference), 0.0)
    ratio = difference / (cv2.sqrt(variance) + _FLAT)
    return np.asarray(cv2.addWeighted(ratio, _GAIN, ratio, 0.0, 128.0, dtype=cv2.CV_8U), np.uint8)


def _average(image: NDArray) -> NDArray:
    """Over the neighbourhood: two box filters, nearly a Gaussian."""
    return np.asarray(cv2.blur(cv2.blur(image, (_NEIGHBOURHOOD,) * 2), (_NEIGHBOURHOOD,) * 2))


def _points(view: View, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Object points (N, 3) at pixels (N, 2) well inside the object."""
    flat = pixels.reshape(-1, 1, 2)
    return np.asarray(cv2.remap(view.points, flat[..., 0], flat[..., 1], cv2.INTER_LINEAR), np.float32).reshape(-1, 3)


def _compare(
    drawn: NDArray[np.uint8], seen: NDArray[np.uint8], start: NDArray[np.float32], there: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N,) correlation of each patch with its match, and what is left of it after gain and offset, rms."""
    pairs = ((drawn, start), (seen, there))
    a, b = (sample(image.astype(np.float32), around(points, _PATCH)) for image, points in pairs)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    power_a, power_b, both = (np.einsum("ij,ij->i", u, v) for u, v in ((a, a), (b, b), (a, b)))
    alike = both / np.sqrt(np.maximum(power_a * power_b, 1.0))
    residual = np.sqrt(power_a * np.clip(1.0 - alike**2, 0.0, 1.0) / len(_PATCH))
    return alike, residual


def _roots(
    drawn: NDArray[np.uint8], corners: NDArray[np.float32], residual: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(N, 2, 2) square-root information of the matches: upper Cholesky factors of the inverse covariances."""
    gx, gy = (sample(cv2.Sobel(drawn, cv2.CV_32F, *order, scale=0.125), around(corners, _PATCH)) for order in _ORDERS)
    xx, xy, yy = (_AREA * np.einsum("ij,ij->i", u, v).astype(np.float64) for u, v in ((gx, gx), (gx, gy), (gy, gy)))
    noise = _DEPENDENCE * np.maximum(residual.astype(np.float64), 1.0) ** 2
    determinant = np.maximum(xx * yy - xy * xy, 1e-6 * (xx + yy) ** 2 + 1e-9)
    a, b, c = (noise * v / determinant for v in (yy, -xy, xx))  # covariance [[a, b], [b, c]]
    a, c = a + _SHARPEST**2, c + _SHARPEST**2
    roots = np.zeros((len(corners), 2, 2))
    roots[:, 1, 1] = 1.0 / np.sqrt(c)
    rest = np.sqrt(np.maximum(a - b * b / c, 1e-9))
    roots[:, 0, 0], roots[:, 0, 1] = 1.0 / rest, -b / c / rest
    return roots.astype(np.float32)
