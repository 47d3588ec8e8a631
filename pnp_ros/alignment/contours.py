"""Lines across the object's outline: where along each does the image change from object to background?

At the pose the outline is found exactly, by rays. On each line across it, every place is judged how well it splits the
line into colours of the object and of the background (Tjaden et al., RBOT, PAMI 2018; Stoiber et al., SRT3D, IJCV
2022): the posterior of the place gives a mean and a variance, which make a correspondence that tells one direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.alignment import other_sides
from pnp_ros.cameras.camera import Camera
from pnp_ros.cameras.single_view import projected
from pnp_ros.rendering.raster_view import View, pixel_rays
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.types import Pose

_CONFUSION = 0.02  # probability that a pixel's colour says the opposite of what it is
_DEPENDENCE = 1.5  # neighbours on a line are not independent: so many pixels tell as much as one
_STRIP = 3  # pixels beyond the reach: so near to the outline another side's edge is taken for it
_SPACING = 3  # pixels of outline per line
_STEP = 1.5  # pixels inwards and outwards between which the outline is bisected
_FLANK = 2.5  # pixels of the camera to each side of a step up to which its two colours are taken
_NOISE = 4.0  # grey levels of all channels together: what the camera adds to a colour
_SHARPEST = 0.15  # pixels: no step is known better


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines across the outline, in pixels of a window.

    Args:
        points: (L, 3) object points on the outline, metres.
        pixels: (L, 2) where they are seen.
        normals: (L, 2) unit normals, out of the object.
        clean: (L,) whether the view is one step on the line, from object to background, over its reach.
        doubt: (L,) pixels by which what is found may be off, as it is another side's; see
            :mod:`pnp_ros.alignment.other_sides`.
    """

    points: NDArray[np.float32]
    pixels: NDArray[np.float32]
    normals: NDArray[np.float32]
    clean: NDArray[np.bool_]
    doubt: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Steps:
    """Where the image steps from object to background on each of L lines.

    Args:
        offset: (L,) pixels outwards from the line's point.
        variance: (L,) px^2.
        contrast: (L,) mean of the object's probability inside less that outside, -1 to 1, at that place.
    """

    offset: NDArray[np.float32]
    variance: NDArray[np.float32]
    contrast: NDArray[np.float32]


_EMPTY = np.zeros((0, 2), np.float32)
NO_LINES = Lines(np.zeros((0, 3), np.float32), _EMPTY, _EMPTY, np.zeros(0, np.bool_), np.zeros(0, np.float32))
NO_STEPS = Steps(*(np.zeros(0, np.float32) for _ in range(3)))


def lines(
    mesh: RayMesh,
    pose: Pose,
    camera: Camera,
    view: View,
    inside: NDArray[np.bool_],
    reach: int,
    hull: NDArray[np.float32] | None = None,
) -> Lines:
    """Lines across the outline of what is seen at a pose.

    Args:
        mesh: the object.
        pose: ``T_camera_object``.
        camera: of the window.
        view: of the mesh at the pose in that camera.
        inside: (H, W) bool, pixels that the image has.
        reach: pixels to each side in which a line must be free of other parts of the object.
        hull: (M, 3) the object's extreme points, if sides that are nearly seen are doubted, too.
    """
    mask = view.mask
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    border = np.concatenate([c[::_SPACING, 0] for c in contours if len(c) > 8] or [np.zeros((0, 2), np.int32)])
    height, width = mask.shape
    rim = (border > 1).all(1) & (border[:, 0] < width - 2) & (border[:, 1] < height - 2)
    border = border[rim].astype(np.float32)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2.0)
    gradient = np.stack([sample(cv2.Sobel(soft, cv2.CV_32F, *order), border) for order in ((1, 0), (0, 1))], -1)
    normals = -gradient / np.maximum(np.linalg.norm(gradient, axis=-1, keepdims=True), 1e-9)
    inner, outer = border - 0.5 * normals, border + _STEP * normals
    points, found = mesh.outline(pose, pixel_rays(camera, inner), pixel_rays(camera, outer))
    points, normals = points[found], normals[found]
    pixels = projected(camera, pose, points)
    places = np.arange(2, reach + 1, dtype=np.float32)
    step = sample(mask.astype(np.float32), along(pixels, normals, np.concatenate([-places, places])), cv2.INTER_NEAREST)
    clean = (step[:, : len(places)].min(1, initial=1.0) > 0) & (step[:, len(places) :].max(1, initial=0.0) < 1)
    ends = along(pixels, normals, np.array([-2, 2], np.float32))
    clean &= sample(inside.astype(np.float32), ends, cv2.INTER_NEAREST).all(1)
    normals = normals.astype(np.float32)
    doubt = other_sides.strips(view, mesh.face_normals, pixels, normals, reach + _STRIP)
    if hull is not None and len(points):
        doubt = np.hypot(doubt, other_sides.nearly_seen(points, hull, pose, camera))
    return Lines(points, pixels, normals, clean, doubt)


def extent(reach: int) -> int:
    """Pixels of a line to each side that are looked at, to search it within ``reach``."""
    return 2 * reach + 2


def steps(posterior: NDArray[np.float32], found: Lines, reach: int, drawn: NDArray[np.float32] | None = None) -> Steps:
    """The place of the step on each line, within ``reach`` pixels.

    Args:
        posterior: (H, W) the object's probability.
        found: the lines.
        reach: how far to search.
        drawn: (H, W) the same of a view; offsets are then from where the step is in it, measured alike, so that what
            the measure errs by cancels.
    """
    half, count = extent(reach), len(found.pixels)
    places = np.arange(-half, half + 1, dtype=np.float32)
    where = along(found.pixels, found.normals, places)
    inside = sample(posterior, where)
    if drawn is not None:
        inside = np.concatenate([inside, sample(drawn, where)])
    a, b = np.log(inside + _CONFUSION), np.log(1.0 - inside + _CONFUSION)
    before = np.cumsum(a, 1)
    after = b.sum(1, keepdims=True) - np.cumsum(b, 1)
    fit = (before + after)[:, :-1] / _DEPENDENCE
    between = (places[:-1] + places[1:]) / 2
    weight = np.exp(fit - fit.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    mean, inside = weight @ between, inside[:count]
    own, mean = mean[count:], mean[:count]
    variance = weight[:count] @ between**2 - mean**2
    # how different the two sides are, within reach of the step
    split = np.abs(places[None] - mean[:, None]) <= reach
    inner, outer = split & (places[None] < mean[:, None]), split & (places[None] > mean[:, None])
    contrast = _mean(inside, inner) - _mean(inside, outer)
    return Steps(mean if drawn is None else mean - own, variance, contrast)


def along(
    pixels: NDArray[np.float32], normals: NDArray[np.float32], places: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(L, P, 2) pixels at ``places`` (P) along the lines."""
    at, step = _complex(pixels), _complex(normals)
    return (at[:, None] + places[None] * step[:, None]).view(np.float32).reshape(len(pixels), len(places), 2)


def _complex(pairs: NDArray[np.float32]) -> NDArray[np.complex64]:
    """(N) of pairs (N, 2): NumPy is many times faster with them than with a last axis of two."""
    return np.ascontiguousarray(pairs, np.float32).view(np.complex64)[:, 0]


def around(pixels: NDArray[np.float32], offsets: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, P, 2) pixels at ``offsets`` (P, 2) from pixels (N, 2)."""
    every = _complex(pixels)[:, None] + _complex(offsets)
    return every.view(np.float32).reshape(len(pixels), len(offsets), 2)


def sample(image: NDArray, pixels: NDArray, how: int = cv2.INTER_LINEAR) -> NDArray[np.float32]:
    """(...) values of an image (H, W) at pixels (..., 2)."""
    if pixels.size == 0:
        return np.zeros(pixels.shape[:-1], np.float32)
    return np.asarray(_remapped(image, pixels, how), np.float32).reshape(pixels.shape[:-1])


def _remapped(image: NDArray, pixels: NDArray, how: int) -> NDArray:
    """Values of an image at pixels (..., 2), a row of the result for each of the first axis."""
    rows = np.ascontiguousarray(pixels, np.float32).reshape(len(pixels), -1, 2)
    return np.asarray(cv2.remap(image, rows, None, how, borderMode=cv2.BORDER_REPLICATE))  # type: ignore[call-overload]


def _mean(values: NDArray, where: NDArray[np.bool_]) -> NDArray[np.float32]:
    return (values * where).sum(1) / np.maximum(where.sum(1), 1)


def sharpen(image: NDArray[np.uint8], found: Lines, rough: Steps, grain: float) -> Steps:
    """The same steps by the colours on the two sides of each line alone: half way from one to the other.

    Colours learnt from the whole object draw the step outwards where mixed pixels at the rim look more like it.
    A line of little contrast keeps its rough step.

    Args:
        image: (H, W, 3) uint8, of the window.
        found: the lines.
        rough: the steps on them.
        grain: pixels of the window over which a sharp edge is blurred: what a pixel of the camera's image measures.
    """
    move, square, spread = _halfway(image, found, rough.offset, grain)
    again, square, spread = _halfway(image, found, rough.offset + move, grain)
    move = move + again
    sharp = (square > 9.0 * spread) & (np.abs(move) < _FLANK * grain)
    variance = np.where(sharp, grain**2 * (spread / np.maximum(square, 1.0) + _SHARPEST**2), rough.variance)
    offset = np.where(sharp, rough.offset + move, rough.offset)
    return Steps(offset.astype(np.float32), variance.astype(np.float32), rough.contrast)


_PLACES = np.arange(-_FLANK, _FLANK + 0.1, 0.5, dtype=np.float32)
_SIDES = [3, len(_PLACES) - 3]  # between them is the edge


def _halfway(
    image: NDArray[np.uint8], found: Lines, offset: NDArray[np.float32], grain: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """(L,) pixels from ``offset`` to the step, squared contrast of the two sides, and the variance of the worse one.

    A side counts by its mean as wholly inside or outside, so that one that varies more does not draw the step.
    """
    centre = found.pixels + offset[:, None] * found.normals
    colours = _colours(image, along(centre, found.normals, grain * _PLACES))
    inside, between, outside = np.split(colours, _SIDES, axis=1)
    a, b = inside.mean(1), outside.mean(1)
    across = a - b
    square = (across**2).sum(-1)
    share = ((between - b[:, None]) * across[:, None]).sum(-1) / np.maximum(square, 1.0)[:, None]
    spread = np.maximum(inside.var(1).sum(-1), outside.var(1).sum(-1)) + _NOISE**2
    reach = 0.5 * between.shape[1]
    return grain * (0.5 * share.sum(1) - 0.5 * reach).clip(-reach, reach), square, spread


def _colours(image: NDArray[np.uint8], pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    if pixels.size == 0:
        return np.zeros((*pixels.shape[:-1], 3), np.float32)
    return np.asarray(_remapped(image, pixels, cv2.INTER_LINEAR), np.float32).reshape(*pixels.shape[:-1], 3)
