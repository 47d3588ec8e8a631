"""What an object of one colour looks like in the light of an image: its grey by the direction of its surface.

Diffuse light from anywhere shades a surface by a quadratic function of its normal (Ramamoorthi and Hanrahan, "An
efficient representation for irradiance environment maps", SIGGRAPH 2001): nine numbers, fitted to the image where the
object is drawn. Creases, where two shades meet, then show as a texture does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.raster_view import View
from pnp_ros.rendering.shading_normals import corner_normals

_STRIDE = 3  # pixels between those that the light is fitted to
_ROUNDS, _SCALE = 3, 2.0  # of reweighting, and residuals in robust deviations that count by half
_HELD = 1e-3  # share of the pixels' weight that holds the nine numbers at zero where the image tells nothing


class Shading:
    """The directions of a mesh's surface.

    Args:
        mesh: in metres; its colours are not looked at.
    """

    def __init__(self, mesh: TriangleMesh) -> None:
        normals = corner_normals(mesh).mean(1)
        x, y, z = (normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)).T
        terms = [np.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 3.0 * z * z - 1.0]
        self._terms = np.stack(terms, 1).astype(np.float32)

    def grey(self, view: View, shown: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(H, W) grey of the object in the light that fits an image best; 0 where it is not.

        Args:
            view: of the mesh.
            shown: (H, W) grey values of the image.
            inside: (H, W) bool, pixels that the image has.
        """
        every = np.s_[::_STRIDE, ::_STRIDE]
        there = (view.face[every] >= 0) & inside[every]
        grey = np.zeros(view.face.shape, np.float32)
        if there.sum() < self._terms.shape[1]:
            return grey
        terms, values = self._terms[view.face[every][there]], shown[every][there]
        weights, light = np.ones(len(values), np.float32), np.zeros(terms.shape[1], np.float32)
        for _ in range(_ROUNDS):
            weighted = terms * weights[:, None]
            normal = weighted.T @ terms + _HELD * weights.sum() * np.eye(terms.shape[1], dtype=np.float32)
            light = np.linalg.solve(normal, weighted.T @ values)
            miss = np.abs(values - terms @ light)
            weights = 1.0 / (1.0 + (miss / (_SCALE * (1.48 * np.median(miss) + 1.0))) ** 2)
        seen = view.face >= 0
        grey[seen] = np.clip(self._terms @ light, 0.0, 255.0)[view.face[seen]]
        return grey
