"""Points spread evenly over the surface of a mesh, and what colour it has there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import TriangleMesh


def sample_surface(mesh: TriangleMesh, count: int, seed: int = 0) -> NDArray[np.float32]:
    """(count, 3) points in metres, uniform over the surface, the same for the same seed."""
    face, u, v = _places(mesh, count, seed)
    a, b, c = mesh.vertices[mesh.faces[face]].astype(np.float64).swapaxes(0, 1)
    return (a + u * (b - a) + v * (c - a)).astype(np.float32)


def sample_colours(mesh: TriangleMesh, count: int, seed: int = 0) -> NDArray[np.float64]:
    """(count, 3) RGB of 255 at the points that :func:`sample_surface` gives; zero where the mesh brings no colours."""
    face, u, v = _places(mesh, count, seed)
    corners = np.concatenate([1.0 - u - v, u, v], axis=1)  # weights of the triangle's corners
    if mesh.texture is not None and mesh.uv is not None:
        height, width = mesh.texture.shape[:2]
        across, up = (np.einsum("nk,nkc->nc", corners, mesh.uv[mesh.faces[face]]) % 1.0).T
        row, column = ((1.0 - up) * height).astype(int), (across * width).astype(int)
        return mesh.texture[row.clip(0, height - 1), column.clip(0, width - 1)].astype(np.float64)
    if mesh.vertex_colors is not None:
        colors: NDArray[np.float64] = np.einsum("nk,nkc->nc", corners, mesh.vertex_colors[mesh.faces[face]])
        return colors
    return np.zeros((count, 3))


def _places(mesh: TriangleMesh, count: int, seed: int) -> tuple[NDArray[np.int64], NDArray, NDArray]:
    """Triangles (count), and how far along two of their sides (count, 1) each."""
    rng = np.random.default_rng(seed)
    areas = mesh.face_areas
    face = rng.choice(len(areas), size=count, p=areas / areas.sum())
    u, v = rng.random((2, count, 1))
    outside = u + v > 1.0
    return face, np.where(outside, 1.0 - u, u), np.where(outside, 1.0 - v, v)
