"""A box with a print on it of which no two places are alike."""

from __future__ import annotations

import cv2
import numpy as np

from pnp_ros.objects.mesh import TriangleMesh


def printed_box(seed: int = 0, size: tuple[float, float, float] = (0.12, 0.09, 0.06)) -> TriangleMesh:
    """A box whose six sides show different noise."""
    rng = np.random.default_rng(seed)
    texture = np.zeros((256, 1536, 3), np.uint8)
    for side in range(6):
        coarse = rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)
        texture[:, 256 * side : 256 * (side + 1)] = cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_CUBIC)
    half = np.array(size) / 2
    vertices, uv, faces = [], [], []
    for side in range(6):
        axis, sign = side // 2, 1 - 2 * (side % 2)
        one, two = [k for k in range(3) if k != axis]
        for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            corner = np.zeros(3)
            corner[axis], corner[one], corner[two] = sign, a, b
            vertices.append(half * corner)
            uv.append([(side + 0.01 + 0.98 * (a + 1) / 2) / 6, 0.01 + 0.98 * (b + 1) / 2])
        outwards = sign * (1 if axis != 1 else -1)
        order = (0, 1, 2, 0, 2, 3) if outwards > 0 else (0, 2, 1, 0, 3, 2)
        faces += [[4 * side + order[k] for k in triangle] for triangle in ((0, 1, 2), (3, 4, 5))]
    return TriangleMesh(
        np.array(vertices, np.float32), np.array(faces, np.int32), uv=np.array(uv, np.float32), texture=texture
    )
