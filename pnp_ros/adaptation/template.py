"""A part of a rendering that is sought in an image, at any size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Template:
    """An image of which the shown part counts.

    Args:
        image: (h, w, C) or (h, w) float32.
        shown: (h, w) bool.
        centre: (x, y) of its own, in pixels of the rendering it was cut from, from the outer edge.
    """

    image: NDArray[np.float32]
    shown: NDArray[np.bool_]
    centre: tuple[float, float]

    @classmethod
    def cut(cls, image: NDArray, mask: NDArray[np.bool_]) -> Template:
        """The smallest one that has all of a mask (H, W), which must not be empty, of an image (H, W, C) or (H, W)."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        box = np.s_[top:bottom, left:right]
        return cls(image[box].astype(np.float32), mask[box], ((left + right) / 2.0, (top + bottom) / 2.0))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.shown.shape
        return width, height

    @property
    def corner(self) -> tuple[int, int]:
        """(x, y) of its upper left pixel in the rendering it was cut from; what is at its centre stays there."""
        width, height = self.size
        return round(self.centre[0] - width / 2.0), round(self.centre[1] - height / 2.0)

    def scaled(self, scale: float) -> Template:
        """The same, larger or smaller around its centre."""
        width, height = self.size
        size = math.ceil(scale * width), math.ceil(scale * height)
        x, y = ((new - 1 - scale * (old - 1)) / 2.0 for new, old in zip(size, self.size))
        resize = np.array([[scale, 0.0, x], [0.0, scale, y]])
        image = cv2.warpAffine(self.image, resize, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        shown = cv2.warpAffine(self.shown.astype(np.float32), resize, size, flags=cv2.INTER_LINEAR) > 0.5
        return Template(np.asarray(image, np.float32), shown, self.centre)

    def correlations(self, scene: NDArray[np.float32]) -> NDArray[np.float32]:
        """(H', W') normalised cross-correlation with each place of an image (H, W, C), 0 where it is none.

        Entry (y, x) is that of the template with its upper left pixel on pixel (x, y). Empty if it does not fit into
        the image.
        """
        width, height = self.size
        if height > scene.shape[0] or width > scene.shape[1]:
            return np.zeros((0, 0), np.float32)
        weight = self.shown.astype(np.float32)
        if self.image.ndim == 3:
            weight = np.repeat(weight[..., None], self.image.shape[2], 2)
        scores = cv2.matchTemplate(scene, self.image, cv2.TM_CCOEFF_NORMED, mask=weight)
        return np.where(np.isfinite(scores) & (np.abs(scores) <= 1.001), scores, 0.0)

    def nearby(self, scene: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
        """The part of an image (H, W, C), of the rendering's size, where the template moves up to ``reach`` pixels."""
        (x, y), (width, height) = self.corner, self.size
        return scene[max(0, y - reach) : y + height + reach, max(0, x - reach) : x + width + reach]
