"""Triangle meshes in metres: load from OBJ, PLY or GLB with a check of the units, save as PLY with a texture."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

METRES_PER_UNIT = {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254}
SMALLEST_DIAMETER = 0.002  # m: below this a mesh is taken for one in wrong units
LARGEST_DIAMETER = 5.0  # m
PLAIN_GREY = 190  # colour of a mesh that brings none
_DIRECTIONS = 512  # in which the extreme points are sought


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
    def bounds(self) -> NDArray[np.float32]:
        """(2, 3) lower and upper corner of the axis-aligned bounding box in metres."""
        used = self.vertices[np.unique(self.faces)]
        return np.stack([used.min(axis=0), used.max(axis=0)])

    @cached_property
    def extreme_points(self) -> NDArray[np.float32]:
        """(M, 3) vertices that lie farthest out in directions spread over the sphere: enough for the outline's box."""
        points = self.vertices[np.unique(self.faces)]
        step = np.arange(_DIRECTIONS) + 0.5
        z = 1.0 - 2.0 * step / _DIRECTIONS
        around = step * np.pi * (3.0 - np.sqrt(5.0))  # the golden angle
        radius = np.sqrt(1.0 - z * z)
        sphere = np.stack([radius * np.cos(around), radius * np.sin(around), z], axis=1).astype(np.float32)
        return points[np.unique([int((points @ direction).argmax()) for direction in sphere])]

    @cached_property
    def diameter(self) -> float:
        """The largest distance between two points of the surface in metres."""
        points = self.vertices[np.unique(self.faces)].astype(np.float64)
        return _diameter(points)

    @property
    def color_source(self) -> str:
        """Where the colours come from, in words."""
        if self.texture is not None:
            return f"texture {self.texture.shape[1]}x{self.texture.shape[0]}"
        return "vertex colours" if self.vertex_colors is not None else "no texture: plain grey"

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


def _diameter(points: NDArray[np.float64]) -> float:
    """The largest distance between any two of (N, 3) points, to one part in ten million."""
    from scipy.spatial import ConvexHull, QhullError

    start = points[_distances(points, points[0]).argmax()]
    end = points[_distances(points, start).argmax()]
    longest = float(np.linalg.norm(end - start))
    # two points are at most as far apart as their distances from any center together: that rules most of them out
    reach = _distances(points, (start + end) / 2)
    possible = reach + reach.max() > longest * (1.0 + 1e-7)
    points, reach = points[possible], reach[possible]
    if len(points) > 1000:
        try:
            corners = ConvexHull(points).vertices
        except QhullError:  # a flat mesh: its hull lies in its own plane
            centred = points - points.mean(axis=0)
            corners = ConvexHull(centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T).vertices
        points, reach = points[corners], reach[corners]
    for index in np.argsort(-reach):
        if reach[index] + reach.max() <= longest:
            break
        longest = max(longest, float(_distances(points, points[index]).max()))
    return longest


def _distances(points: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(points - point, axis=1))


def check_units(mesh: TriangleMesh, units: str, source: str) -> None:
    """Refuse a mesh whose diameter is implausible, with a hint at the units that would make it plausible.

    Args:
        mesh: already in metres, read as being in ``units``.
        units: a key of ``METRES_PER_UNIT``.
        source: what to call the mesh in the message.

    Raises:
        MeshError: if the diameter lies outside ``SMALLEST_DIAMETER`` to ``LARGEST_DIAMETER``.
    """
    if SMALLEST_DIAMETER <= mesh.diameter <= LARGEST_DIAMETER:
        return
    raw = mesh.diameter / METRES_PER_UNIT[units]
    options = [
        f"--units {other} ({raw * scale:.3g} m)"
        for other, scale in sorted(METRES_PER_UNIT.items(), key=lambda item: item[1])
        if other != units and SMALLEST_DIAMETER <= raw * scale <= LARGEST_DIAMETER
    ]
    hint = f"hint: {' or '.join(options)}" if options else "no known unit makes it plausible: scale the mesh"
    raise MeshError(f"{source}: {mesh.diameter:.3g} m across when read in {units}: not a size to work with; {hint}")


def load_mesh(path: str | Path, units: str = "auto", max_texture_size: int = 2048) -> TriangleMesh:
    """Load an OBJ (with its MTL and images), PLY or GLB file; scenes and materials are merged into one mesh.

    The size found is logged as one sentence (:meth:`TriangleMesh.describe` returns it).

    Args:
        path: the file.
        units: of the file's coordinates: ``m``, ``cm``, ``mm``, ``in``; ``auto`` means metres.
        max_texture_size: larger textures are scaled down to this width or height in pixels.

    Raises:
        MeshError: if the file is missing, unreadable or empty, or its size in metres is implausible.
    """
    from pnp_ros.objects.mesh_import import import_scene

    path = Path(path)
    if units != "auto" and units not in METRES_PER_UNIT:
        raise MeshError(f"units: expected auto, {', '.join(METRES_PER_UNIT)}; got {units!r}")
    if not path.is_file():
        raise MeshError(f"{path}: no such file")
    known_units = "m" if units == "auto" else units
    mesh = import_scene(path, max_texture_size).scaled(METRES_PER_UNIT[known_units])
    check_units(mesh, known_units, str(path))
    logger.info("%s (read in %s): %s", path.name, known_units, mesh.describe())
    return mesh


def save_mesh(mesh: TriangleMesh, path: str | Path) -> list[Path]:
    """Write a binary PLY in metres; a texture goes beside it as ``texture.png``.

    Returns:
        The files written, the PLY last.
    """
    path = Path(path)
    written = []
    header = ["ply", "format binary_little_endian 1.0", "comment units metres"]
    columns: list[tuple[str, str, NDArray]] = [(name, "<f4", mesh.vertices[:, i]) for i, name in enumerate("xyz")]
    if mesh.texture is not None and mesh.uv is not None:
        from PIL import Image

        image = path.with_name("texture.png")
        Image.fromarray(mesh.texture).save(image)
        written.append(image)
        header.append(f"comment TextureFile {image.name}")
        columns += [(name, "<f4", mesh.uv[:, i]) for i, name in enumerate(("texture_u", "texture_v"))]
    elif mesh.vertex_colors is not None:
        columns += [(name, "u1", mesh.vertex_colors[:, i]) for i, name in enumerate(("red", "green", "blue"))]
    header.append(f"element vertex {len(mesh.vertices)}")
    header += [f"property {'uchar' if kind == 'u1' else 'float'} {name}" for name, kind, _ in columns]
    header += [f"element face {len(mesh.faces)}", "property list uchar int vertex_indices", "end_header"]
    vertices = np.empty(len(mesh.vertices), dtype=[(name, kind) for name, kind, _ in columns])
    for name, _, values in columns:
        vertices[name] = values
    faces = np.empty(len(mesh.faces), dtype=[("count", "u1"), ("index", "<i4", 3)])
    faces["count"], faces["index"] = 3, mesh.faces
    path.write_bytes("\n".join(header).encode() + b"\n" + vertices.tobytes() + faces.tobytes())
    return [*written, path]
