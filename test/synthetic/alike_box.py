"""A square box whose four sides show the same print, but for a mark on one of them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from pnp_ros.objects.mesh import TriangleMesh
from synthetic.printed_box import printed_box

_SIDES = (0, 2, 1, 3)  # +x, +y, -x, -y, in the order of quarter turns about z


def alike_box(mark: float = 0.0, seed: int = 3, size: tuple[float, float, float] = (0.1, 0.1, 0.14)) -> TriangleMesh:
    """A box that looks alike after quarter turns about z.

    Args:
        mark: side of a black and white mark on the +x side, as a share of the side; 0 for none.
        seed: of the print.
        size: metres.
    """
    mesh = printed_box(seed, size)
    assert mesh.texture is not None
    assert mesh.uv is not None
    texture, uv = mesh.texture.copy(), mesh.uv.copy()
    side = texture[:, :256].copy()
    for k, face in enumerate(_SIDES):
        texture[:, 256 * face : 256 * (face + 1)] = side
        # the corners' print goes round with the turn: along the turn first, then up
        corners = mesh.vertices[4 * face : 4 * face + 4] / (np.array(size) / 2)
        angle = np.pi / 2 * k
        along = -np.sin(angle) * corners[:, 0] + np.cos(angle) * corners[:, 1]
        uv[4 * face : 4 * face + 4, 0] = (face + 0.01 + 0.98 * (along + 1) / 2) / 6
        uv[4 * face : 4 * face + 4, 1] = 0.01 + 0.98 * (corners[:, 2] + 1) / 2
    if mark > 0.0:
        wide = int(256 * mark)
        low = (256 - wide) // 2
        texture[low : low + wide, low : low + wide] = 0
        cv2.circle(texture, (128, 128), wide // 3, (255, 255, 255), -1)
    for face in (4, 5):  # ends that look alike after a quarter turn
        end = texture[:, 256 * face : 256 * (face + 1)].astype(np.float32)
        turned = sum(np.rot90(end, k) for k in range(4)) / 4.0
        texture[:, 256 * face : 256 * (face + 1)] = turned.astype(np.uint8)
    return replace(mesh, texture=texture, uv=uv)
