"""Fewer triangles for a mesh that has millions, and how far the surface moved.

Quadric error metrics: Garland and Heckbert, "Surface simplification using quadric error metrics" (SIGGRAPH 1997).
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import TriangleMesh

logger = logging.getLogger(__name__)

_PROBES = 20_000  # vertices whose distance to the new surface is measured


def decimated(mesh: TriangleMesh, most_faces: int) -> tuple[TriangleMesh, float | None]:
    """The mesh with at most so many faces, and the largest distance (m) of its vertices to the new surface.

    Colours of vertices are those of the nearest vertex before. A textured mesh is left as it is, as its seams would
    not survive; so is every mesh where ``fast-simplification`` is not installed. None if nothing was changed.
    """
    if len(mesh.faces) <= most_faces or mesh.texture is not None:
        return mesh, None
    try:
        import fast_simplification
    except ImportError:
        logger.warning("%d faces are rendered slowly; pip install fast-simplification makes fewer", len(mesh.faces))
        return mesh, None
    from scipy.spatial import cKDTree

    # positions once each: a surface that is split into single triangles cannot be thinned
    position, first, index = np.unique(
        np.ascontiguousarray(mesh.vertices).view([("", np.float32)] * 3), return_index=True, return_inverse=True
    )
    whole = mesh.vertices[first]
    vertices, faces = fast_simplification.simplify(
        whole, index.reshape(-1)[mesh.faces].astype(np.int32), target_count=most_faces
    )
    del position
    colors = None
    if mesh.vertex_colors is not None:
        colors = mesh.vertex_colors[first][cKDTree(whole).query(vertices)[1]]
    fewer = replace(mesh, vertices=vertices, faces=faces, vertex_colors=colors)
    return fewer, _largest_distance(mesh.surface_vertices, fewer)


def _largest_distance(points: NDArray[np.float32], mesh: TriangleMesh) -> float:
    """Of a sample of points (N, 3) to the surface, in metres: by the planes of the faces at the nearest vertex."""
    from scipy.spatial import cKDTree

    probes = points[:: max(1, len(points) // _PROBES)].astype(np.float64)
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
    _, nearest = cKDTree(corners.mean(axis=1)).query(probes, k=min(8, len(corners)))
    off = np.abs(np.einsum("nkj,nkj->nk", normal[nearest], probes[:, None] - corners[nearest, 0]))
    return float(off.min(axis=1).max())
