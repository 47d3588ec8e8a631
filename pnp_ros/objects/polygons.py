"""Polygons as triangles: mesh files hold faces of any number of corners, also concave ones.

A fan from the first corner where that is right, which holds for every convex polygon; else ears are cut off, in the
polygon's plane (Meisters, "Polygons have ears", 1975). One that crosses itself has no right triangles: it gets any.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FLAT = 1e-9  # of a polygon's area: what is not above is no area


def triangulated(points: NDArray[np.float64], sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Triangles of all faces, each face's triangles together, in order.

    Args:
        points: (C, 3) the place of each corner of each face, one face after the other.
        sizes: (F) corners of each face; faces of less than three are left out.

    Returns:
        (T, 3) the corners of each triangle, as rows of ``points``, and (T) the face that each comes from.
    """
    begins = np.cumsum(sizes) - sizes
    corners, owners = [], []
    for size in np.unique(sizes[sizes >= 3]):
        faces = np.flatnonzero(sizes == size)
        places = points[begins[faces, None] + np.arange(size)]
        fan = np.stack([np.zeros(size - 2, int), np.arange(1, size - 1), np.arange(2, size)], axis=1)
        triangles = np.broadcast_to(fan, (len(faces), size - 2, 3)).copy()
        if size > 3:
            for i in np.flatnonzero(~_fan_is_right(places)):
                triangles[i] = _ears(places[i])
        corners.append((begins[faces, None, None] + triangles).reshape(-1, 3))
        owners.append(np.repeat(faces, size - 2))
    if not corners:
        return np.zeros((0, 3), np.int64), np.zeros(0, np.int64)
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    return np.concatenate(corners)[order], owner[order]


def _fan_is_right(places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(F) whether no triangle of the fan from the first corner lies upside down; places are (F, N, 3)."""
    spokes = places[:, 1:] - places[:, :1]
    areas = np.cross(spokes[:, :-1], spokes[:, 1:])
    normal = areas.sum(axis=1)
    along = np.einsum("fnk,fk->fn", areas, normal)
    return (along >= -_FLAT * np.einsum("fk,fk->f", normal, normal)[:, None]).all(axis=1)


def _ears(places: NDArray[np.float64]) -> NDArray[np.int64]:
    """(N - 2, 3) corners of the triangles of one polygon (N, 3)."""
    flat = _in_its_plane(places)
    smallest = _FLAT * abs(_cross(flat, np.roll(flat, -1, axis=0)).sum())
    left = list(range(len(flat)))
    triangles = []
    ear = 0
    while len(left) > 3:
        onwards = (i % len(left) for i in range(ear, ear + len(left)))
        ear = next((i for i in onwards if _is_ear(flat, left, i, smallest)), 0)
        triangles.append((left[ear - 1], left[ear], left[(ear + 1) % len(left)]))
        del left[ear]
    return np.array([*triangles, left])


def _is_ear(flat: NDArray[np.float64], left: list[int], i: int, smallest: float) -> bool:
    """Whether corner ``left[i]`` and its neighbours are a triangle of the polygon: no corner in it, no edge through it.

    Where a hole is joined by a slit corners stand twice, so that the edges of one may run through an ear at the other.
    """
    a, b, c = flat[left[i - 1]], flat[left[i]], flat[left[(i + 1) % len(left)]]
    if _cross(b - a, c - b) <= smallest:
        return False
    others = flat[left]
    inside = np.all([_cross(q - p, others - p) >= -smallest for p, q in ((a, b), (b, c), (c, a))], axis=0)
    elsewhere = np.all([((others - corner) ** 2).sum(axis=1) > smallest for corner in (a, b, c)], axis=0)
    if (inside & elsewhere).any():
        return False
    side = _cross(c - a, others - a)
    following, next_side = np.roll(others, -1, axis=0), np.roll(side, -1)
    along = following - others
    a_side, c_side = _cross(along, a - others), _cross(along, c - others)
    crossed = (np.minimum(side, next_side) < -smallest) & (np.maximum(side, next_side) > smallest)
    crossed &= (np.minimum(a_side, c_side) < -smallest) & (np.maximum(a_side, c_side) > smallest)
    return not crossed.any()


def _in_its_plane(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) seen along the normal, so that the polygon turns to the left."""
    spokes = places - places[0]
    normal = np.cross(spokes[:-1], spokes[1:]).sum(axis=0)
    normal = normal / (np.linalg.norm(normal) or 1.0)
    across = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    return np.stack([spokes @ across, spokes @ np.cross(normal, across)], axis=1)


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])
