"""Corner normals for shading: smooth over gentle edges, sharp at creases, whatever the file says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import TriangleMesh

CREASE_COSINE = 0.77  # edges that bend by more than about 40 degrees stay sharp


def corner_normals(mesh: TriangleMesh) -> NDArray[np.float32]:
    """(F, 3, 3) unit normal of each face corner in the object frame.

    A corner's normal is the area-weighted mean of the normals of those faces that meet at its position (vertices that
    only texture seams split count as one) and lie within the crease angle of its own face.
    """
    from scipy.sparse import csr_matrix

    a, b, c = mesh.vertices.astype(np.float64)[mesh.faces].swapaxes(0, 1)
    weighted = np.cross(b - a, c - a)
    length = np.linalg.norm(weighted, axis=1, keepdims=True)
    unit = weighted / np.maximum(length, 1e-30)
    position = np.unique(mesh.vertices, axis=0, return_inverse=True)[1].reshape(-1)[mesh.faces].reshape(-1)
    corners = np.arange(position.size)
    at_position = csr_matrix((np.ones(position.size, np.float32), (corners, position)))
    neighbours = (at_position @ at_position.T).tocoo()
    own, other = neighbours.row // 3, neighbours.col // 3
    smooth = np.einsum("ij,ij->i", unit[own], unit[other]) > CREASE_COSINE
    summed = csr_matrix((smooth.astype(np.float64), (neighbours.row, other)), (position.size, len(unit))) @ weighted
    norm = np.linalg.norm(summed, axis=1, keepdims=True)
    normals = np.where(norm > 0, summed / np.maximum(norm, 1e-30), [0.0, 0.0, 1.0])
    return normals.reshape(-1, 3, 3).astype(np.float32)
