"""Choose the object points that the network learns to find: spread over the surface by farthest point sampling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.surface import sample_surface

_CANDIDATES = 8192


def select_keypoints(mesh: TriangleMesh, count: int = 16) -> NDArray[np.float32]:
    """(count, 3) surface points in metres, chosen by farthest point sampling, deterministic.

    The candidates are the mesh's vertices and points spread over its surface. The first keypoint is the one farthest
    from the surface's centroid; each next one the farthest from all before (Gonzalez 1985; PVNet, Peng et al. 2019,
    section 3.1).

    Raises:
        ValueError: if ``count`` is below 4, the fewest points that determine a pose.
    """
    if count < 4:
        raise ValueError(f"count: expected at least 4 keypoints, got {count}")
    samples = sample_surface(mesh, _CANDIDATES)
    candidates = np.concatenate([mesh.vertices[np.unique(mesh.faces)], samples]).astype(np.float64)
    distance = np.linalg.norm(candidates - samples.astype(np.float64).mean(axis=0), axis=1)
    chosen = [int(distance.argmax())]
    distance = np.linalg.norm(candidates - candidates[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(candidates - candidates[chosen[-1]], axis=1))
    return candidates[chosen].astype(np.float32)
