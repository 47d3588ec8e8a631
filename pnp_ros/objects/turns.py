"""The turns under which a mesh keeps its shape: where an image may have to tell which of several poses is right.

A turn that maps a body onto itself maps its centroid and its principal axes onto themselves; axes that are no more
principal than others (of a cube, say) are looked for along the mesh's own. Colours are not looked at: an image tells
them apart, or it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh, once_a_mesh
from pnp_ros.objects.surface import sample_surface

_ORDERS = (6, 5, 4, 3, 2)  # of discrete turns, the highest that holds counts
_ANY_TURNS = (0.7, 1.9, 2.5)  # rad: no turn of low order is near all of them
_STEPS = 12  # a body that may be turned by any angle is turned by so many
_MOST = 64  # turns of one body
_SAMPLES, _PROBES, _AT_ONCE = 8_000, 1_500, 100
AWAY = 0.02  # of the diameter: a point that lies farther from the surface tells the poses apart
SHARE_AWAY = 0.005  # of the points: a handle is more
_SAME_AXIS = 0.999  # cosine


@once_a_mesh  # each instance of an object asks for them
def alike_turns(mesh: TriangleMesh) -> Tensor:
    """(S, 4, 4) float32: motions of the object's frame that keep the surface in place, without the identity."""
    centre, spread = moments(mesh)
    points = torch.from_numpy((sample_surface(mesh, _SAMPLES) - centre) / mesh.diameter).float()
    probes = points[:_PROBES]
    away = AWAY + 3.0 * spacing(points)

    def kept(axis: NDArray, angle: float) -> bool:
        turned, number = probes @ so3.exp(torch.from_numpy(angle * axis)).float().T, 0
        for some in turned.split(_AT_ONCE):  # most turns are refused by the first of them
            number += int((torch.cdist(some, points).amin(1) > away).sum())
            if number > SHARE_AWAY * _PROBES:
                return False
        return True

    generators = []
    for axis in likely_axes(spread):
        order = order_of_turns(partial(kept, axis))
        if order is not None:
            generators.append(2.0 * np.pi / (order or _STEPS) * axis)
    return _about(centre, group_of_turns(generators, _MOST)[1:])


@once_a_mesh
def half_turns(mesh: TriangleMesh) -> Tensor:
    """(A, 4, 4) float32: half turns of the object's frame about the likely axes, through the surface's centroid.

    Seen from behind a body has the outline that it has from the front, mirrored; one that is about its own mirror
    image, as a flange or a bracket, shows nearly the same outline after such a turn, and another side.
    """
    centre, spread = moments(mesh)
    rotations = np.stack([2.0 * np.outer(axis, axis) - np.eye(3) for axis in likely_axes(spread)])
    return _about(centre, rotations)


def spacing(points: Tensor) -> float:
    """How far the next point is, on average, of (N, 3)."""
    nearest = []
    for first in range(0, _PROBES, _AT_ONCE):
        distance = torch.cdist(points[first : first + _AT_ONCE], points)
        distance[:, first:].fill_diagonal_(torch.inf)
        nearest.append(distance.amin(1))
    return float(torch.cat(nearest).mean())


def order_of_turns(kept: Callable[[float], bool]) -> int | None:
    """How an axis is one of symmetry: the highest order of turns that are kept, 0 if all are, None if none is.

    Args:
        kept: whether a turn by an angle (rad) is.
    """
    if all(kept(angle) for angle in _ANY_TURNS):
        return 0
    return next((n for n in _ORDERS if kept(2.0 * np.pi / n)), None)


def moments(mesh: TriangleMesh) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centroid (3,) and second moments (3, 3) of the surface."""
    corners, area = mesh.vertices[mesh.faces].astype(np.float64), mesh.face_areas / mesh.face_areas.sum()
    centre = area @ corners.mean(1)
    corners = corners - centre
    whole = corners.sum(1)
    # of a triangle: A / 12 (sum of v v^T over its corners, and of their sum)
    spread = np.einsum("f,fki,fkj->ij", area, corners, corners) + np.einsum("f,fi,fj->ij", area, whole, whole)
    return centre, spread / 12.0


def likely_axes(spread: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Where axes of a symmetry may be: the mesh's own, and the principal ones."""
    _, principal = np.linalg.eigh(spread)
    axes: list[NDArray[np.float64]] = []
    for axis in (*np.eye(3), *principal.T):
        if all(abs(float(axis @ other)) < _SAME_AXIS for other in axes):
            axes.append(axis)
    return axes


def group_of_turns(generators: list[NDArray[np.float64]], most: int) -> NDArray[np.float64]:
    """(G, 3, 3) products of turns (rotation vectors), the identity first; not closed where there are ``most``."""
    turns = [so3.exp(torch.from_numpy(generator)).numpy() for generator in generators]
    found = [np.eye(3)]
    for element in found:  # grows while it is gone through
        for turn in turns:
            product = element @ turn
            if len(found) < most and all(float(np.abs(product - known).max()) > 1e-3 for known in found):
                found.append(product)
    return np.stack(found)


def _about(centre: NDArray[np.float64], rotations: NDArray[np.float64]) -> Tensor:
    """(R, 4, 4) float32: rotations (R, 3, 3) about a point (3,)."""
    turns = torch.eye(4).repeat(len(rotations), 1, 1)
    turns[:, :3, :3] = torch.from_numpy(rotations).float()
    turns[:, :3, 3] = torch.from_numpy(centre - rotations @ centre).float()
    return turns
