"""Whether the object in the image has the mesh's colours: the same print in other colours looks alike in grey.

Ratios of channels, as logarithms, do not change with the light's strength or with shading; the light's own colour adds
the same to all of them, and goes with the median. What is left of image and mesh is correlated.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.alignment.likeness import Likeness
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.raster_view import View

_PIXELS, _FEWEST = 300, 60  # looked at, and with fewer nothing is said
_BLUR = 1.5  # pixels of the window: cameras tell colours less sharply than grey
_DARK = 12.0  # grey levels added to each channel: the colour of what is dark is noise
_DRAWN, _SEEN = 0.1, 0.03  # deviation of the ratios' logarithms, below which mesh or image have no colours
_ALIKE = 0.5  # correlation in grey of places that show the object


class Chroma:
    """The colours of a mesh with a texture or with colours at its corners.

    Args:
        mesh: in metres.

    Raises:
        ValueError: if it has neither.
    """

    def __init__(self, mesh: TriangleMesh) -> None:
        self._corners = mesh.vertices[mesh.faces]
        self._levels: list[NDArray[np.uint8]] = []
        self._texels = 1.0  # texels per metre
        values = mesh.vertex_colors if mesh.uv is None else mesh.uv
        if values is None:
            raise ValueError("mesh: expected a texture, or colours at its corners")
        self._values = np.asarray(values, np.float32)[mesh.faces]  # (F, 3, C): colours, or coordinates of the texture
        if mesh.texture is None:
            return
        self._levels.append(mesh.texture)  # of however few texels: some hold a palette
        while min(self._levels[-1].shape[:2]) >= 8:
            height, width = self._levels[-1].shape[:2]
            smaller = cv2.resize(self._levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
            self._levels.append(np.asarray(smaller, np.uint8))
        (ax, ay), (bx, by) = ((self._values[:, k] - self._values[:, 0]).T for k in (1, 2))
        area = 0.5 * float(np.abs(ax * by - ay * bx).sum()) * mesh.texture.shape[0] * mesh.texture.shape[1]
        self._texels = math.sqrt(area / float(mesh.face_areas.sum()))

    def likeness(self, view: View, image: NDArray[np.uint8], like: Likeness, focal: float) -> float:
        """Correlation of the colours of image and mesh, -1 to 1; NaN where one of them has none, or too little shows.

        Args:
            view: of the mesh.
            image: (H, W, 3) uint8 RGB of the same window.
            like: how alike both are in grey.
            focal: length, pixels of the window.
        """
        rows, columns = np.nonzero(like.compared & (like.correlation > _ALIKE))
        if len(rows) < _FEWEST:
            return math.nan
        chosen = np.linspace(0, len(rows) - 1, min(_PIXELS, len(rows))).astype(int)
        x = np.minimum(2 * columns[chosen] + like.corner[0], image.shape[1] - 1)
        y = np.minimum(2 * rows[chosen] + like.corner[1], image.shape[0] - 1)
        x, y = x[view.face[y, x] >= 0], y[view.face[y, x] >= 0]
        drawn = self._colours(view.face[y, x], view.points[y, x], focal / float(np.median(view.depth[y, x])))
        seen = cv2.GaussianBlur(image, (0, 0), _BLUR)[y, x].astype(np.float32)
        a, b = _ratios(drawn), _ratios(seen)
        power_a, power_b = float(np.square(a).mean()), float(np.square(b).mean())
        if power_a < _DRAWN**2 or power_b < _SEEN**2:
            return math.nan
        return float((a * b).mean()) / math.sqrt(power_a * power_b)

    def _colours(self, faces: NDArray, points: NDArray[np.float32], per_metre: float) -> NDArray[np.float32]:
        """(N, 3) of points (N, 3) on faces (N), as blurred as an image of so many pixels per metre."""
        a, b, c = self._corners[faces].swapaxes(0, 1)
        one, two, at = b - a, c - a, points - a
        gram = np.array([[(u * v).sum(1) for v in (one, two)] for u in (one, two)])
        right = np.array([(at * one).sum(1), (at * two).sum(1)])
        scale = np.maximum(gram[0, 0] * gram[1, 1] - gram[0, 1] ** 2, 1e-30)
        s = (gram[1, 1] * right[0] - gram[0, 1] * right[1]) / scale
        t = (gram[0, 0] * right[1] - gram[0, 1] * right[0]) / scale
        first, second, third = self._values[faces].swapaxes(0, 1)
        found = first + (second - first) * s[:, None] + (third - first) * t[:, None]
        if not self._levels:
            return np.asarray(found, np.float32)
        level = round(math.log2(max(2.0 * _BLUR * self._texels / per_metre, 1.0)))
        texture = self._levels[min(level, len(self._levels) - 1)]
        size = texture.shape[1::-1]
        place = np.stack([found[:, 0] % 1.0, 1.0 - found[:, 1] % 1.0], -1) * size - 0.5
        return np.asarray(
            cv2.remap(texture, place.astype(np.float32)[:, None], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP),  # type: ignore[call-overload]
            np.float32,
        )[:, 0]


def _ratios(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 2) logarithms of red and blue over green, without what all have in common."""
    logs = np.log(colours + _DARK)
    found = logs[:, ::2] - logs[:, 1:2]
    return np.asarray(found - np.median(found, 0), np.float32)
