"""Faults that CAD exports have, mended where that is certain: idle faces, surfaces inside out, far origins.

What is mended is said in words. Open shells are left as they are: the renderer shows both sides of a face.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import MeshError

_PRECISION = 1e-5  # of the size: a float32 coordinate that is coarser than this is too far from the origin


def repaired_faces(
    vertices: NDArray[np.float64], faces: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.intp], list[str]]:
    """Faces without those that show nothing or stand twice, outside out.

    Args:
        vertices: (V, 3).
        faces: (F, 3).

    Returns:
        The faces, the number of each in the input, and what was done, in words.

    Raises:
        MeshError: if no face has an area.
    """
    remarks = []
    place = _places(vertices)
    corners = place[faces]
    a, b, c = vertices[faces].swapaxes(0, 1)
    twice_area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    distinct = (corners[:, 0] != corners[:, 1]) & (corners[:, 1] != corners[:, 2]) & (corners[:, 2] != corners[:, 0])
    solid = distinct & (twice_area > 0)
    kept = np.flatnonzero(solid)
    if len(kept) == 0:
        raise MeshError(f"none of its {len(faces)} faces has an area")
    if len(kept) < len(faces):
        remarks.append(f"{len(faces) - len(kept)} faces without area left out")
    first = corners[kept].argmin(axis=1)
    turned = np.take_along_axis(corners[kept], (first[:, None] + np.arange(3)) % 3, axis=1)
    _, unique = np.unique(_hashes(turned), return_index=True)
    if len(unique) < len(kept):
        remarks.append(f"{len(kept) - len(unique)} faces that stand twice left out")
        kept = kept[np.sort(unique)]
    result, corners = faces[kept], corners[kept]
    if _is_closed(corners) and _volume(vertices, result) < 0:
        remarks.append("its faces pointed inwards; turned round")
        result = result[:, ::-1]
    return result, kept, remarks


def near_origin(vertices: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vertices (V, 3) m in a frame in which float32 holds their shape, and the shift (3) in whole metres; often zero.

    Coordinates of a map (UTM: millions of metres) leave 0.25 m between neighbouring float32 numbers.
    """
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    farthest = np.float32(max(np.abs(low).max(), np.abs(high).max()))
    if np.spacing(farthest) <= _PRECISION * np.linalg.norm(high - low):
        return vertices, np.zeros(3)
    shift = -np.round((low + high) / 2)
    return vertices + shift, shift


def _places(vertices: NDArray[np.float64]) -> NDArray[np.intp]:
    """(V) a number for each position: vertices that a seam splits have the same."""
    bits = np.ascontiguousarray(vertices + 0.0).view(np.uint64)  # + 0 makes one zero of two
    return np.unique(_hashes(bits), return_inverse=True)[1].reshape(-1)


def _hashes(rows: NDArray) -> NDArray[np.uint64]:
    """(N) 64 bits that tell rows (N, 3) apart; equality of a million rows by chance has a probability of 1e-8."""
    mixed = np.zeros(len(rows), np.uint64)
    for column, factor in zip(rows.T.astype(np.uint64), (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)):
        mixed = (mixed ^ (column ^ (column >> np.uint64(31)))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _is_closed(corners: NDArray[np.intp]) -> bool:
    """Whether each edge is walked once in each direction."""
    start, end = corners.reshape(-1), np.roll(corners, -1, axis=1).reshape(-1)
    size = int(corners.max()) + 1
    there, back = np.sort(start * size + end), np.sort(end * size + start)
    return bool((np.diff(there) > 0).all()) and np.array_equal(there, back)


def _volume(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> float:
    a, b, c = (vertices - vertices[faces[0, 0]])[faces].swapaxes(0, 1)
    return float(np.einsum("ij,ij->", a, np.cross(b, c))) / 6.0
