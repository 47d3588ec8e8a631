"""Parts as CAD has them, grey, in metres: a bracket without symmetry, a flange of four quarters, a bent sheet."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import ObjectPackage, write_object_package

Triangles = NDArray[np.float64]  # (F, 3, 3) corners in millimetres
_AROUND = 32  # corners of a hole


def bracket() -> TriangleMesh:
    """An angle of two plates, with holes and a rib that is not in the middle."""
    base = [_holed((-40, 0), (-30, 30), (0, 6), 8.0), _holed((0, 40), (-30, 30), (0, 6), 5.0)]
    upright = _holed((6, 56), (-30, 30), (0, 6), 15.0)[..., [2, 1, 0]] + (-40.0, 0.0, 0.0)
    rib = _prism([(-34, 6), (10, 6), (-34, 46)], (12, 18))[..., [0, 2, 1]]
    return _mesh([*base, upright[:, ::-1], rib[:, ::-1]])


def block() -> TriangleMesh:
    """What nothing tells from other blocks."""
    return _mesh([_holed((-40, 40), (-25, 25), (0, 30), 0.0)])


def flange() -> TriangleMesh:
    """A disc with four bolt holes and a hub: it looks alike after each quarter turn about z."""
    quarter = 33 * np.pi / 2
    plate = _holed((0, quarter), (21, 45), (0, 8), 5.0)
    hub = _box((0, 2 * np.pi), (14, 21), (-4, 30))
    return _mesh([*(_round(plate, 33, k * np.pi / 2) for k in range(4)), _round(hub, 1.0)])


def bent_sheet() -> TriangleMesh:
    """A sheet of 1.5 mm bent into a step, with a tab on one side and a hole."""
    corners = np.array([(0, 0), (30, 0), (30, 25), (65, 25), (80, 12)], float)
    runs = []
    for (x, z), (x1, z1) in itertools.pairwise(corners):
        length, angle = float(np.hypot(x1 - x, z1 - z)), np.arctan2(z1 - z, x1 - x)
        flat = _holed((0, length), (-20, 20), (0, 1.5), 7.0 if (x, z) == (30.0, 25.0) else 0.0)
        c, s = np.cos(angle), np.sin(angle)
        turn = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
        runs.append(flat @ turn.T + (x, 0, z))
    tab = _box((38, 52), (20, 34), (25, 26.5))
    return _mesh([*runs, tab])


PARTS: dict[str, Callable[[], TriangleMesh]] = {"bracket": bracket, "flange": flange, "bent_sheet": bent_sheet}


def packaged(folder: Path, name: str) -> ObjectPackage:
    """One of the parts as a package that nothing was trained for."""
    mesh = PARTS[name]()
    return write_object_package(folder, name=name, mesh=mesh, keypoints=mesh.extreme_points[:6])


def random_part(seed: int) -> TriangleMesh:
    """A plate with a hole, and on it two to four of: an upright plate with a hole, a rib, a block, a boss."""
    rng = np.random.default_rng(seed)
    length, width = rng.uniform(50, 100), rng.uniform(30, 70)
    thick = rng.uniform(3, 12)
    radius = rng.uniform(0.1, 0.35) * min(length, width)
    parts = [_holed((0, length), (0, width), (0, thick), radius)]
    for kind in rng.integers(0, 4, rng.integers(2, 5)):
        at, high = np.array([*rng.uniform(0.05, 0.6, 2) * (length, width), thick]), rng.uniform(15, 60)
        across, along = rng.uniform(5, 0.4 * width), rng.uniform(5, 0.4 * length)
        if kind == 0:
            upright = _holed((0, high), (0, width), (0, thick), rng.uniform(0.0, 0.3) * min(high, width))
            parts.append(upright[..., [2, 1, 0]] + (rng.choice([0.0, at[0], length - thick]), 0.0, thick))
        elif kind == 1:
            rib = _prism([(0, 0), (along, 0), (0, high)], (0, rng.uniform(3, 12)))[..., [0, 2, 1]]
            parts.append(rib * (rng.choice([-1.0, 1.0]), 1.0, 1.0) + at)
        elif kind == 2:
            parts.append(_box((0, along), (0, across), (0, 0.5 * high)) + at)
        else:
            boss = _round(_box((0, 2 * np.pi), (0.3 * across, 0.6 * across), (0, 0.6 * high)), 1.0)
            parts.append(boss + at)
    return _mesh(parts)


def _mesh(parts: Sequence[Triangles]) -> TriangleMesh:
    corners = np.concatenate(parts) / 1000.0
    middle = (corners.min((0, 1)) + corners.max((0, 1))) / 2
    return TriangleMesh((corners - middle).reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3))


def _round(triangles: Triangles, radius: float, turn: float = 0.0) -> Triangles:
    """Bent round the z axis: x is length on a circle of ``radius``, y distance from the axis."""
    angle, away = triangles[..., 0] / radius + turn, triangles[..., 1]
    bent = np.stack([away * np.cos(angle), away * np.sin(angle), triangles[..., 2]], -1)
    return bent[:, ::-1]  # it is mirrored by that


def _quads(a: NDArray, b: NDArray) -> Triangles:
    """Triangles between two closed rows (N, 3) of corners."""
    a1, b1 = np.roll(a, -1, 0), np.roll(b, -1, 0)
    return np.concatenate([np.stack([a, a1, b1], 1), np.stack([a, b1, b], 1)])


def _holed(x: Sequence[float], y: Sequence[float], z: Sequence[float], radius: float) -> Triangles:
    """A plate with a round hole in its middle, 0 for none; its four sides are closed."""
    middle = np.array([(x[0] + x[1]) / 2, (y[0] + y[1]) / 2])
    half = np.array([x[1] - x[0], y[1] - y[0]]) / 2
    angle = 2 * np.pi * (np.arange(_AROUND) + 0.5) / _AROUND
    corner = np.arctan2(half[1], half[0])
    nearest = [int(np.abs((angle - a + np.pi) % (2 * np.pi) - np.pi).argmin()) for a in _signs(corner)]
    angle[nearest] = _signs(corner)
    out = np.stack([np.cos(angle), np.sin(angle)], 1)
    rim = middle + out / np.abs(out / half).max(1, keepdims=True)
    hole = middle + radius * out
    (rim0, rim1), (hole0, hole1) = ([np.column_stack([ring, np.full(_AROUND, h)]) for h in z] for ring in (rim, hole))
    sides = [_quads(rim0, rim1), _quads(hole1, hole0), _quads(rim1, hole1), _quads(hole0, rim0)]
    found = np.concatenate(sides)
    return found[np.linalg.norm(np.cross(found[:, 1] - found[:, 0], found[:, 2] - found[:, 0]), axis=1) > 1e-9]


def _signs(corner: float) -> NDArray[np.float64]:
    """The four corners' angles, 0 to 2 pi."""
    return np.array([corner, np.pi - corner, np.pi + corner, 2 * np.pi - corner])


def _box(x: Sequence[float], y: Sequence[float], z: Sequence[float]) -> Triangles:
    """A bar, fine along x so that it can be bent round."""
    at = np.linspace(x[0], x[1], 2 * _AROUND + 1)
    corners = [(y[0], z[0]), (y[1], z[0]), (y[1], z[1]), (y[0], z[1])]
    rows = [np.column_stack([np.full(4, v), corners]) for v in at]
    sides = [_quads(a, b) for a, b in itertools.pairwise(rows)]
    ends = [np.stack([r[[0, 1, 2]], r[[0, 2, 3]]])[:, ::d] for r, d in ((rows[0], 1), (rows[-1], -1))]
    return np.concatenate([*sides, *ends])


def _prism(triangle: Sequence[tuple[float, float]], z: Sequence[float]) -> Triangles:
    low, high = (np.column_stack([np.array(triangle, float), np.full(3, h)]) for h in z)
    return np.concatenate([_quads(low, high), low[None, ::-1], high[None]])
