"""Mugs of many shapes, in metres: a turned body with a wall, and a bent handle towards +x.

The origin is on the body's axis, z, halfway up. All mugs have the same triangles, so that a vertex is the same place of
each: the fifth corner of the rim is that of any mug.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import TriangleMesh

Points = NDArray[np.float64]
_AROUND, _UP, _SECTIONS, _TUBE = 40, 12, 22, 10
_FLOOR = 0.06  # of the height, where the inside begins
# from the smallest to the largest of each field of a shape
_RANGES = {
    "height": (0.072, 0.122),
    "radius": (0.034, 0.05),
    "taper": (0.68, 1.04),
    "bend": (0.5, 2.0),
    "belly": (-0.06, 0.12),
    "wall": (0.0025, 0.005),
    "reach": (0.022, 0.042),
    "top": (0.72, 0.9),
    "bottom": (0.14, 0.38),
    "square": (2.0, 4.0),
    "droop": (-0.25, 0.25),
    "width": (0.008, 0.018),
    "thickness": (0.005, 0.01),
}


@dataclass(frozen=True)
class MugShape:
    """The middle of all mugs, unless told otherwise.

    Args:
        height, radius: of the body; the radius is the rim's, metres.
        taper: the foot's radius as a share of the rim's.
        bend: of the wall between foot and rim; 1 is straight.
        belly: how far the wall stands out halfway up, as a share of the rim's radius.
        wall: its thickness, metres.
        reach: how far the handle stands off the wall, metres.
        top, bottom: where the handle's ends are, shares of the height.
        square: 2 is a round handle, more is one with corners.
        droop: above 0 the handle reaches farthest above its middle, below 0 under it.
        width, thickness: of the handle, metres.
    """

    height: float = 0.095
    radius: float = 0.042
    taper: float = 0.86
    bend: float = 1.0
    belly: float = 0.03
    wall: float = 0.0035
    reach: float = 0.032
    top: float = 0.81
    bottom: float = 0.26
    square: float = 2.8
    droop: float = 0.0
    width: float = 0.012
    thickness: float = 0.007


def random_shape(rng: np.random.Generator) -> MugShape:
    """Any mug: each field by itself."""
    return MugShape(**{field.name: float(rng.uniform(*_RANGES[field.name])) for field in fields(MugShape)})


def mug_parts(shape: MugShape) -> tuple[TriangleMesh, TriangleMesh]:
    """Body and handle, each closed."""
    return _tube(_body(shape), "poles"), _tube(_handle(shape), "caps")


def mug(shape: MugShape) -> TriangleMesh:
    """The whole: the body's vertices, then the handle's, whose ends are in the body's wall."""
    body, handle = mug_parts(shape)
    return TriangleMesh(
        np.concatenate([body.vertices, handle.vertices]),
        np.concatenate([body.faces, handle.faces + len(body.vertices)]),
    )


def wall_radius(shape: MugShape, share: Points) -> Points:
    """(N,) of the outside at shares of the height, metres."""
    straight = shape.taper + (1.0 - shape.taper) * share**shape.bend
    return np.asarray(shape.radius * (straight + shape.belly * np.sin(np.pi * share)))


def _body(shape: MugShape) -> Points:
    """(rows, _AROUND, 3) rings from the middle of the foot over the rim to the middle of the inside's floor."""
    up = np.linspace(0.03, 0.985, _UP)
    down = np.linspace(0.985, _FLOOR + 0.03, _UP)
    outside = np.stack([wall_radius(shape, up), up * shape.height], 1)
    inside = np.stack([wall_radius(shape, down) - shape.wall, down * shape.height], 1)
    foot, rim = outside[0, 0], outside[-1, 0]
    profile = np.concatenate(
        [
            [[0.0, 0.0], [0.85 * foot, 0.0]],
            outside,
            [[rim - 0.5 * shape.wall, shape.height]],
            inside,
            [[0.8 * inside[-1, 0], _FLOOR * shape.height], [0.0, _FLOOR * shape.height]],
        ]
    )
    angle = 2.0 * np.pi * np.arange(_AROUND) / _AROUND
    radius, z = profile[:, :1], profile[:, 1:] - shape.height / 2.0
    return np.stack(np.broadcast_arrays(radius * np.cos(angle), radius * np.sin(angle), z), -1)


def _handle(shape: MugShape) -> Points:
    """(_SECTIONS, _TUBE, 3) rings from the upper end to the lower one."""
    angle = np.linspace(np.pi / 2, -np.pi / 2, _SECTIONS)
    out = np.cos(angle).clip(0.0) ** (2.0 / shape.square)
    lift = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2.0 / shape.square)
    share = 0.5 * (shape.top + shape.bottom) + 0.5 * (shape.top - shape.bottom) * lift
    ends = wall_radius(shape, np.array([shape.bottom, shape.top])) - 0.5 * shape.wall
    x = np.interp(share, [shape.bottom, shape.top], ends) + shape.reach * (1.0 + shape.droop * np.sin(angle)) * out
    line = np.stack([x, np.zeros_like(x), (share - 0.5) * shape.height], 1)
    along = np.gradient(line, axis=0)
    along[[0, -1]] = [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]  # it leaves the wall straight
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.array([0.0, 1.0, 0.0])
    turn = 2.0 * np.pi * np.arange(_TUBE) / _TUBE
    thick = 0.5 * shape.thickness * np.cos(turn)[:, None] * np.cross(across, along)[:, None]
    return line[:, None] + thick + 0.5 * shape.width * np.sin(turn)[:, None] * across


def _tube(rings: Points, ends: str) -> TriangleMesh:
    """A closed surface of rings (R, N, 3): ``poles`` are rings of no size, ``caps`` get a corner in their middle."""
    rows, around = rings.shape[:2]
    if ends == "poles":
        first, last, rings = rings[0, 0], rings[-1, 0], rings[1:-1]
        rows -= 2
    else:
        first, last = rings[0].mean(0), rings[-1].mean(0)
    index = np.arange(rows * around).reshape(rows, around)
    following = np.roll(index, -1, 1)
    a, b, c, d = index[:-1], following[:-1], following[1:], index[1:]
    low, high = np.full(around, rows * around), np.full(around, rows * around + 1)
    faces = [
        np.stack([a, b, c], -1).reshape(-1, 3),
        np.stack([a, c, d], -1).reshape(-1, 3),
        np.stack([low, following[0], index[0]], -1),
        np.stack([high, index[-1], following[-1]], -1),
    ]
    vertices = np.concatenate([rings.reshape(-1, 3), [first, last]])
    return TriangleMesh(vertices.astype(np.float32), np.concatenate(faces).astype(np.int32))
