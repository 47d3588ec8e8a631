"""Corner normals for shading: smooth over gentle edges, sharp at creases, whatever the file says; and those edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import TriangleMesh

CREASE_COSINE = 0.77  # edges that bend by more than about 40 degrees stay sharp
FAR = 1e3  # metres: no sharp edge there


def corner_normals(mesh: TriangleMesh) -> NDArray[np.float32]:
    """(F, 3, 3) unit normal of each face corner in the object frame.

    A corner's normal is the area-weighted mean of the normals of those faces that meet at its position (vertices that
    only texture seams split count as one) and lie within the crease angle of its own face.
    """
    from scipy.sparse import csr_matrix

    weighted, unit = _normals(mesh)
    position = _positions(mesh).reshape(-1)
    corners = np.arange(position.size)
    at_position = csr_matrix((np.ones(position.size, np.float32), (corners, position)))
    neighbours = (at_position @ at_position.T).tocoo()
    own, other = neighbours.row // 3, neighbours.col // 3
    smooth = np.einsum("ij,ij->i", unit[own], unit[other]) > CREASE_COSINE
    summed = csr_matrix((smooth.astype(np.float64), (neighbours.row, other)), (position.size, len(unit))) @ weighted
    norm = np.linalg.norm(summed, axis=1, keepdims=True)
    normals = np.where(norm > 0, summed / np.maximum(norm, 1e-30), [0.0, 0.0, 1.0])
    return normals.reshape(-1, 3, 3).astype(np.float32)


def edge_distances(mesh: TriangleMesh) -> NDArray[np.float32]:
    """(F, 3, 3) distance in metres of each corner from the edge opposite each corner; ``FAR`` if that is not sharp.

    Sharp are convex edges between two faces that bend by more than the crease angle: where a thing is worn. Within a
    face the distances are linear.
    """
    position, (weighted, unit) = _positions(mesh), _normals(mesh)
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    ends = np.stack([np.roll(position, -1, axis=1), np.roll(position, -2, axis=1)], axis=-1).reshape(-1, 2)
    ends.sort(axis=1)
    edge, count = np.unique(ends[:, 0] * (position.max() + 1) + ends[:, 1], return_inverse=True, return_counts=True)[1:]
    order = np.argsort(edge.reshape(-1), kind="stable")
    first = np.cumsum(count)[count == 2] - 2
    one, other = order[first], order[first + 1]  # 3 times the face, and the corner opposite
    bent = (unit[one // 3] * unit[other // 3]).sum(1) < CREASE_COSINE
    across = corners.reshape(-1, 3)[other] - corners[one // 3, (one % 3 + 1) % 3]  # from an end of the edge
    convex = (unit[one // 3] * across).sum(1) < 0.0
    sharp = np.zeros(len(edge), bool)
    sharp[one] = sharp[other] = bent & convex
    length = np.linalg.norm(np.roll(corners, -1, axis=1) - np.roll(corners, -2, axis=1), axis=-1)
    height = np.linalg.norm(weighted, axis=1, keepdims=True) / np.maximum(length, 1e-30)
    distances = height[:, None, :] * np.eye(3)
    return np.where(sharp.reshape(-1, 1, 3), distances, FAR).astype(np.float32)


def _normals(mesh: TriangleMesh) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(F, 3) normals of the faces, twice as long as their areas, and unit ones."""
    a, b, c = mesh.vertices.astype(np.float64)[mesh.faces].swapaxes(0, 1)
    weighted = np.cross(b - a, c - a)
    return weighted, weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-30)


def _positions(mesh: TriangleMesh) -> NDArray[np.int64]:
    """(F, 3) numbers of the corners' places: vertices that only texture seams split have the same."""
    return np.unique(mesh.vertices, axis=0, return_inverse=True)[1].reshape(-1)[mesh.faces].astype(np.int64)
