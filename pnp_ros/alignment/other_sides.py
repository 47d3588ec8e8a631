"""Where the outline of an object may be that of another of its sides, beside the one that is followed.

A side seen so obliquely that it is a strip of few pixels, within the outline, is easily taken for the background: what
is found then is the edge of the strip. And one that is nearly seen comes into view, beyond the outline, where the
object is turned by little more than is known: what is found then is not the edge that was drawn. Neither moves with the
pose as the edge drawn does, and all lines along it err alike. How far off it may be is a doubt about each line.
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.cameras.single_view import projected
from pnp_ros.geometry.single_pose import moved
from pnp_ros.rendering.raster_view import View
from pnp_ros.rendering.shading_normals import CREASE_COSINE
from pnp_ros.types import Pose

_TURN = np.radians(5.0)  # by which a pose may be off where another side is nearly seen
_CONVEX = 1.5  # pixels from the outline of the convex hull: farther in, nothing is known of what may come into view


def strips(
    view: View, sides: NDArray[np.float32], pixels: NDArray[np.float32], normals: NDArray[np.float32], most: int
) -> NDArray[np.float32]:
    """(L,) width in pixels of the side at the outline, where it is ``most`` at most; 0 elsewhere.

    Args:
        view: of the mesh.
        sides: (F, 3) unit normals of the mesh's faces.
        pixels: (L, 2) on the outline.
        normals: (L, 2) unit normals, out of the object.
        most: pixels.
    """
    places = np.arange(most + 1, dtype=np.float32) + np.float32(0.5)
    where = np.rint(pixels[:, None] - places[:, None] * normals[:, None]).astype(np.int32)
    height, width = view.face.shape
    faces = view.face[where[..., 1].clip(0, height - 1), where[..., 0].clip(0, width - 1)]
    seen, direction = faces >= 0, sides[faces]
    bent = np.einsum("lpk,lpk->lp", direction[:, :-1], direction[:, 1:]) < CREASE_COSINE
    bent &= seen[:, :-1] & seen[:, 1:]
    return np.where(bent.any(1), bent.argmax(1) + 1, 0).astype(np.float32)


def nearly_seen(
    points: NDArray[np.float32], extent: NDArray[np.float32], pose: Pose, camera: Camera
) -> NDArray[np.float32]:
    """(L,) pixels by which an outline leaves its own points where the object is turned a little.

    Args:
        points: (L, 3) object points on the outline.
        extent: (M, 3) extreme points of the object: those of its convex hull.
        pose: ``T_camera_object``.
        camera: of the pixels.
    """
    off = _within(points, extent, pose, camera)
    convex = off < _CONVEX
    for axis, turn in itertools.product((3, 4), (_TURN, -_TURN)):
        delta = np.zeros(6)
        delta[axis] = turn
        off = np.maximum(off, _within(points, extent, moved(pose, delta), camera))
    return np.where(convex, off, np.float32(0.0))


def _within(points: NDArray, extent: NDArray, pose: Pose, camera: Camera) -> NDArray[np.float32]:
    """(L,) pixels of points (L, 3) from the outline of the convex hull."""
    hull = cv2.convexHull(projected(camera, pose, extent).astype(np.float32))[:, 0]
    along = np.roll(hull, -1, axis=0) - hull
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    across = np.stack([-along[:, 1], along[:, 0]])
    away = projected(camera, pose, points) @ across - np.einsum("ek,ke->e", hull, across)
    return np.asarray(np.abs(away).min(1), np.float32)
