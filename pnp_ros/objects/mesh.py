"""Triangle meshes in metres: what a mesh is, and how large."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

_Made = TypeVar("_Made")

PLAIN_GREY = 190  # colour of a mesh that brings none
_DIRECTIONS = 512  # in which the extreme points are sought
_FEW = 5000  # points whose distances are all looked at
_CLIMBS = 16


class MeshError(ValueError):
    """A mesh that cannot be used; the message names the file or field and says what was expected."""


@dataclass(frozen=True, eq=False)
class TriangleMesh:
    """A triangle mesh in metres, object frame. Either textured, or coloured by vertex, or plain grey.

    Args:
        vertices: (V, 3) float32 metres.
        faces: (F, 3) int32 vertex indices, counter-clockwise seen from outside.
        uv: (V, 2) float32 texture coordinates, origin at the lower left corner of the texture, repeating.
        texture: (H, W, 3) uint8 RGB, first row at the top.
        vertex_colors: (V, 3) uint8 RGB; ignored where there is a texture.

    Raises:
        MeshError: if an array has the wrong shape, is not finite, indexes out of range, or spans no surface.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    uv: NDArray[np.float32] | None = None
    texture: NDArray[np.uint8] | None = None
    vertex_colors: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "vertices", _array("vertices", self.vertices, np.float32, 3))
        object.__setattr__(self, "faces", _array("faces", self.faces, np.int32, 3))
        count = len(self.vertices)
        if self.faces.min() < 0 or self.faces.max() >= count:
            raise MeshError(f"faces: expected vertex indices in [0, {count}), got up to {self.faces.max()}")
        if (self.uv is None) != (self.texture is None):
            raise MeshError("uv and texture: expected both or neither")
        if self.uv is not None:
            object.__setattr__(self, "uv", _array("uv", self.uv, np.float32, 2, count))
        if self.texture is not None and (
            self.texture.ndim != 3 or self.texture.shape[2] != 3 or self.texture.dtype != np.uint8
        ):
            raise MeshError(f"texture: expected (H, W, 3) uint8, got {self.texture.shape} {self.texture.dtype}")
        if self.vertex_colors is not None:
            object.__setattr__(self, "vertex_colors", _array("vertex_colors", self.vertex_colors, np.uint8, 3, count))
        if not self.face_areas.any():
            raise MeshError("faces: expected at least one triangle with an area")

    @cached_property
    def face_areas(self) -> NDArray[np.float64]:
        """(F,) area of each triangle in m^2."""
        a, b, c = self.vertices.astype(np.float64)[self.faces].swapaxes(0, 1)
        return np.asarray(0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1), dtype=np.float64)

    @cached_property
    def face_normals(self) -> NDArray[np.float32]:
        """(F, 3) unit normal of each triangle, zero where it has no area."""
        a, b, c = self.vertices[self.faces].swapaxes(0, 1)
        normals = np.cross(b - a, c - a)
        return (normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)).astype(np.float32)

    @cached_property
    def surface_vertices(self) -> NDArray[np.float32]:
        """(U, 3) the vertices that faces use."""
        used = np.zeros(len(self.vertices), bool)
        used[self.faces.reshape(-1)] = True
        return self.vertices[used]

    @cached_property
    def bounds(self) -> NDArray[np.float32]:
        """(2, 3) lower and upper corner of the axis-aligned bounding box in metres."""
        return np.stack([self.surface_vertices.min(axis=0), self.surface_vertices.max(axis=0)])

    @cached_property
    def extreme_points(self) -> NDArray[np.float32]:
        """(M, 3) vertices that lie farthest out in directions spread over the sphere: enough for the outline's box."""
        points = self.surface_vertices
        sphere = _directions(_DIRECTIONS).astype(np.float32)
        return points[np.unique([int((points @ direction).argmax()) for direction in sphere])]

    @cached_property
    def diameter(self) -> float:
        """The largest distance between two points of the surface in metres."""
        return _diameter(self.surface_vertices.astype(np.float64), self.extreme_points.astype(np.float64))

    @property
    def color_source(self) -> str:
        """Where the colours come from, in words."""
        if self.texture is not None:
            return f"texture {self.texture.shape[1]}x{self.texture.shape[0]}"
        if self.vertex_colors is None:
            return "no texture: plain grey"
        first = self.vertex_colors[0]
        plain = bool((self.vertex_colors == first).all())
        return f"one plain colour #{first[0]:02x}{first[1]:02x}{first[2]:02x}" if plain else "vertex colours"

    def describe(self) -> str:
        """One sentence with the size in metres, to be read by the user before anything is made of the mesh."""
        size = " x ".join(f"{side:.3g}" for side in self.bounds[1] - self.bounds[0])
        return f"{size} m, diameter {self.diameter:.3g} m, {len(self.faces)} triangles, {self.color_source}"

    def scaled(self, factor: float) -> TriangleMesh:
        """The mesh with every coordinate multiplied by ``factor``."""
        return replace(self, vertices=self.vertices * np.float32(factor))


def _array(name: str, value: NDArray, dtype: type, width: int, count: int | None = None) -> NDArray:
    array: NDArray = np.ascontiguousarray(value, dtype=dtype)
    if array.ndim != 2 or array.shape[1] != width or (count is not None and len(array) != count):
        raise MeshError(f"{name}: expected shape ({count or 'N'}, {width}), got {array.shape}")
    if array.size == 0:
        raise MeshError(f"{name}: empty")
    if np.issubdtype(dtype, np.floating) and not np.isfinite(array).all():
        raise MeshError(f"{name}: not finite at row {int(np.argmin(np.isfinite(array).all(axis=1)))}")
    return array


def _directions(count: int) -> NDArray[np.float64]:
    """(count, 3) unit vectors spread over the sphere by the golden angle."""
    step = np.arange(count) + 0.5
    z = 1.0 - 2.0 * step / count
    around = step * np.pi * (3.0 - np.sqrt(5.0))
    radius = np.sqrt(1.0 - z * z)
    return np.stack([radius * np.cos(around), radius * np.sin(around), z], axis=1)


def _diameter(points: NDArray[np.float64], extreme: NDArray[np.float64]) -> float:
    """The largest distance between any two of (N, 3) points.

    The farthest two of the extreme points bound it from below, and rule most points out: two points are at most as far
    apart as their distances from any centre together. Exact where few remain. Of a ball, all remain: then from each of
    the extreme points the farthest point is sought, and from that again, until it is mutual; the directions are so
    dense that this misses less than a hundredth at worst, and nothing on a smooth surface.
    """
    apart = np.linalg.norm(extreme[:, None] - extreme[None], axis=-1)
    i, j = np.unravel_index(int(apart.argmax()), apart.shape)
    longest = float(apart[i, j])
    reach = _distances(points, (extreme[i] + extreme[j]) / 2)
    possible = reach + reach.max() > longest * (1.0 + 1e-7)
    points, reach = points[possible], reach[possible]
    if len(points) <= _FEW:
        for point in points:
            longest = max(longest, float(_distances(points, point).max()))
        return longest
    starts = extreme[np.argsort(-apart.max(axis=1))[:_CLIMBS]]
    for point in starts:
        reached = 0.0
        while True:
            distances = _distances(points, point)
            farthest = int(distances.argmax())
            if distances[farthest] <= reached * (1.0 + 1e-9):
                break
            reached, point = float(distances[farthest]), points[farthest]
        longest = max(longest, reached)
    return longest


def _distances(points: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(points - point, axis=1))


def once_a_mesh(make: Callable[[TriangleMesh], _Made]) -> Callable[[TriangleMesh], _Made]:
    """Decorator: what is made of a mesh is made once, and is the same one for all who ask; they must not change it."""
    made: WeakKeyDictionary[TriangleMesh, _Made] = WeakKeyDictionary()

    @wraps(make)
    def known(mesh: TriangleMesh) -> _Made:
        if mesh not in made:
            made[mesh] = make(mesh)
        return made[mesh]

    return known
