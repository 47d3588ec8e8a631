"""The edges of a mesh as they look from all sides: its outline, the bends of its surface and what lies behind another.

Nothing of its colour or light: what survives a part of another colour than its mesh is where its edges are, and which
way they run (Hinterstoisser et al., "Gradient response maps for real-time detection of texture-less objects", PAMI
2012).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry.se3 import look_at
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.raster_view import View
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.sources.edge_response import BINS, edges
from pnp_ros.sources.feature_table import view_directions
from pnp_ros.types import Pose

_SIDE = 144  # pixels of a drawn view
_MARGIN = 1.15  # a view is so much wider than the object's bounding sphere
_DISTANCE = 5.0  # of the camera, in radii of that sphere
_BEND, _STEP = 0.5, 3.0  # how much a bend and a step in depth count beside the outline
_FAINT, _STRONG = 0.5, 2.0  # gradients of an edge: none below, no more above


@dataclass(frozen=True, eq=False)
class TemplateViews:
    """The edges of V views, P places of each.

    Args:
        rotations: (V, 3, 3) of the object in the camera.
        places: (V, P, 2) where an edge is seen, from the middle of the view, as shares of the bounding sphere's
            diameter.
        angles: (V, P) of the gradient there, rad, 0 to pi.
        points: (V, P, 3) which points of the object these are, metres.
        lengths: (V,) of all edges, in diameters of the bounding sphere.
        rolls: (R,) turns of the camera about its line of sight, rad, with which each view is looked for.
        coarse: (C,) views that stand for all others, evenly spread.
    """

    rotations: NDArray[np.float32]
    places: NDArray[np.float32]
    angles: NDArray[np.float32]
    points: NDArray[np.float32]
    lengths: NDArray[np.float32]
    rolls: NDArray[np.float32]
    coarse: NDArray[np.intp]

    def kernels(self, cells: int) -> NDArray[np.float32]:
        """(C * R, BINS, K, K) templates of the coarse views: how much edge is in each cell by direction, of length 1.

        Args:
            cells: of a side of the bounding sphere's box; K is a little larger.
        """
        side = cells + 3
        found: NDArray = np.zeros((len(self.coarse), len(self.rolls), BINS * side * side), np.float32)
        for row, (places, angles) in enumerate(zip(self.places[self.coarse], self.angles[self.coarse])):
            for column, roll in enumerate(self.rolls):
                at = cells * turned(places, roll) + (side - 1) / 2
                bin_ = (angles + roll) / math.pi * BINS - 0.5
                index, share = [], []
                for value, size in ((bin_, BINS), (at[:, 1], side), (at[:, 0], side)):
                    low = np.floor(value).astype(int)
                    index.append(np.stack([low, low + 1], 1) % size)
                    share.append(np.stack([low + 1 - value, value - low], 1))
                flat = (index[0][:, :, None, None] * side + index[1][:, None, :, None]) * side + index[2][:, None, None]
                weight = share[0][:, :, None, None] * share[1][:, None, :, None] * share[2][:, None, None]
                found[row, column] = np.bincount(flat.ravel(), weight.ravel(), BINS * side * side)
        found = found.reshape(-1, BINS * side * side)
        found = np.minimum(found, np.float32(1e-6) + np.quantile(found, 0.97, axis=1, keepdims=True).astype(np.float32))
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).reshape(-1, BINS, side, side)


def turned(places: NDArray, roll: float) -> NDArray:
    """Places (P, 2) turned about the middle."""
    c, s = math.cos(roll), math.sin(roll)
    return places @ np.array([[c, s], [-s, c]], places.dtype)


def make_template_views(
    mesh: TriangleMesh,
    settings: Mapping[str, float | int | str | bool] | None = None,
    views: int = 400,
    coarse: int = 100,
    count: int = 96,
) -> TemplateViews:
    """Draw the views, without OpenGL.

    Args:
        mesh: in metres.
        settings: ``views`` of the object package: lowest elevation and largest roll, degrees; None is all sides.
        views: directions, spread evenly.
        coarse: of them, with which a search begins.
        count: P, places of each.
    """
    settings = settings or {}
    lowest = min(float(settings.get("lowest_elevation", -90.0)), 89.0)
    largest = math.radians(min(float(settings.get("largest_roll", 180.0)), 180.0))
    low, high = mesh.bounds.astype(np.float64)
    centre = (low + high) / 2
    radius = float(np.linalg.norm(mesh.vertices - centre, axis=1).max())
    focal = _SIDE / (2.0 * _MARGIN * math.tan(math.asin(1.0 / _DISTANCE)))
    middle = (_SIDE - 1) / 2
    camera = Camera.pinhole(focal, focal, middle, middle, _SIDE, _SIDE)
    drawn, normals, rng = RayMesh(mesh), mesh.face_normals, np.random.default_rng(0)
    found: list[tuple[NDArray, ...]] = []
    for direction in view_directions(views, lowest):
        eye = torch.from_numpy(centre + _DISTANCE * radius * direction)
        seen = look_at(eye, torch.from_numpy(centre), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
        pose = Pose(seen.rotation.float(), seen.translation.float())
        view = drawn.view(pose, camera)
        y, x, angle, share = drawn_edges(view, pose, normals, _DISTANCE * radius, radius)
        if len(y) == 0:
            continue
        chosen = rng.choice(len(y), count, replace=len(y) < count, p=share / share.sum())
        length = share.sum() * (_MARGIN / _SIDE)
        y, x = y[chosen], x[chosen]
        places = (np.stack([x, y], 1) - middle) * (_MARGIN / _SIDE)
        found.append((pose.rotation.numpy(), places, angle[chosen], _nearest(view)[y, x], length))
    rotations, places, angles, surfaces, lengths = (np.stack(values).astype(np.float32) for values in zip(*found))
    steps = max(1, round(18 * largest / math.pi))
    whole = largest >= math.pi - 1e-6
    rolls = np.linspace(-largest, largest, steps + (0 if whole else 1), endpoint=not whole).astype(np.float32)
    chosen = _spread(rotations[:, 2], coarse)
    return TemplateViews(rotations, places, angles, surfaces, lengths, rolls, chosen)


def drawn_edges(
    view: View, pose: Pose, normals: NDArray[np.float32], distance: float, radius: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """Rows, columns, angles of the gradient (rad, 0 to pi) and strengths (0 to 1) of the N edge pixels of a view.

    Args:
        view: of the mesh at ``pose``.
        pose: ``T_camera_object``.
        normals: (F, 3) of the mesh's faces.
        distance: of the object's middle, metres.
        radius: of its bounding sphere, metres.
    """
    there = (view.face >= 0)[..., None]
    facing = normals[view.face] @ pose.rotation.numpy().T
    facing = facing * -np.sign(facing[..., 2:] + 1e-9)  # a surface that is open is seen from behind, too
    near = (distance / np.maximum(view.depth[..., None], 1e-6) - 1.0) * (distance / (_DISTANCE * radius)) + 0.3
    layers = np.concatenate([np.ones_like(near), _BEND * facing, _STEP * near], axis=2) * there
    strength, angle = edges(np.asarray(cv2.GaussianBlur(layers.astype(np.float32), (0, 0), 1.0), np.float32))
    ridge = _on_ridge(strength, angle) & (strength > _FAINT) & _is_near(view)
    y, x = np.nonzero(ridge)
    return y, x, angle[y, x], np.minimum(strength[y, x] / _STRONG, np.float32(1.0))


def _spread(directions: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Indices of ``count`` of the directions (V, 3), each the farthest from those before."""
    chosen = [0]
    closest = directions @ directions[0]
    while len(chosen) < min(count, len(directions)):
        chosen.append(int(closest.argmin()))
        closest = np.maximum(closest, directions @ directions[chosen[-1]])
    return np.array(chosen)


_SHIFTS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]  # within a pixel


def _nearest(view: View) -> NDArray[np.float32]:
    """(H, W, 3) the point nearest to the camera within a pixel, where there is one: an edge is the front's."""
    depth = np.where(view.depth > 0.0, view.depth, np.float32(np.inf))
    which = np.stack([np.roll(depth, shift, (0, 1)) for shift in _SHIFTS]).argmin(0)
    points = np.stack([np.roll(view.points, shift, (0, 1)) for shift in _SHIFTS])
    return np.take_along_axis(points, which[None, ..., None], 0)[0]


def _is_near(view: View) -> NDArray[np.bool_]:
    """(H, W) whether a point of the surface is within a pixel."""
    return np.logical_or.reduce([np.roll(view.depth > 0.0, shift, (0, 1)) for shift in _SHIFTS])


def _on_ridge(strength: NDArray[np.float32], angle: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the gradient is largest along its own direction (Canny, PAMI 1986)."""
    y, x = np.indices(strength.shape, np.float32)
    dx, dy = np.cos(angle), np.sin(angle)
    sides = (cv2.remap(strength, x + k * dx, y + k * dy, cv2.INTER_LINEAR) for k in (-1.0, 1.0))
    return np.logical_and.reduce([strength >= side for side in sides])
