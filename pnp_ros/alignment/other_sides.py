"""Where the outline of an object may be that of another of its sides, beside the one that is followed.

A side seen so obliquely that it is a strip of few pixels, within the outline, is easily taken for the background: what
is found then is the edge of the strip. And one that is nearly seen comes into view, beyond the outline, where the
object is turned by little more than is known: what is found then is not the edge that was drawn. Neither moves with the
pose as the edge drawn does, and all lines along it err alike. How far off it may be is a doubt about each line.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.cameras.single_view import imaged
from pnp_ros.geometry import so3
from pnp_ros.geometry.single_pose import placed
from pnp_ros.rendering.raster_view import View
from pnp_ros.rendering.shading_normals import CREASE_COSINE
from pnp_ros.types import Pose

_ABOUT = torch.tensor([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])  # the camera's x and y
_TURNS = so3.exp(math.radians(5.0) * _ABOUT.double()).float().numpy()  # (5, 3, 3) by which a pose may be off
_CONVEX = 1.5  # pixels from the outline of the convex hull: farther in, nothing is known of what may come into view


def strips(
    view: View, face_normals: NDArray[np.float32], pixels: NDArray[np.float32], normals: NDArray[np.float32], most: int
) -> NDArray[np.float32]:
    """(L,) width in pixels of the side at the outline, where it is ``most`` at most; 0 elsewhere.

    Args:
        view: of the mesh.
        face_normals: (F, 3) unit normals of the mesh's faces.
        pixels: (L, 2) on the outline.
        normals: (L, 2) unit normals, out of the object.
        most: pixels.
    """
    places = np.arange(most + 1, dtype=np.float32) + np.float32(0.5)
    where = np.rint(pixels[:, None] - places[:, None] * normals[:, None]).astype(np.int32)
    height, width = view.face.shape
    faces = view.face[where[..., 1].clip(0, height - 1), where[..., 0].clip(0, width - 1)]
    seen, direction = faces >= 0, face_normals[faces]
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
    seen = placed(pose, np.concatenate([points, extent])) - pose.translation.numpy()
    turned = seen @ _TURNS.swapaxes(1, 2) + pose.translation.numpy()
    pixels = imaged(camera, turned.reshape(-1, 3)).reshape(len(_TURNS), -1, 2)
    off = np.stack([_within(each[: len(points)], each[len(points) :]) for each in pixels])
    return np.where(off[0] < _CONVEX, off.max(0), np.float32(0.0))


def _within(pixels: NDArray[np.float32], extent: NDArray[np.float32]) -> NDArray[np.float32]:
    """(L,) distances of pixels (L, 2) from the outline of the convex hull of others (M, 2)."""
    hull = cv2.convexHull(extent)[:, 0]
    x, y = (np.concatenate([hull[1:], hull[:1]]) - hull).T
    across = np.stack([-y, x]) / np.maximum(np.hypot(x, y), np.float32(1e-6))
    away = pixels @ across - (hull * across.T).sum(1)
    return np.asarray(np.abs(away).min(1), np.float32)
