"""A rectangle of an image."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Box(NamedTuple):
    """Where something is in an image, in pixels, from the outer corner of the image's first pixel.

    All of an image is ``Box(0, 0, width, height)``. A pixel's coordinates are those of its centre, which are whole
    numbers, so that they are half a pixel less than its place counted from that corner.

    Args:
        x, y: of the upper left corner.
        width, height: not negative.
    """

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def around(cls, pixels: NDArray[np.floating]) -> Box:
        """The box around pixel coordinates (N, 2)."""
        (left, top), (right, bottom) = pixels.min(0).tolist(), pixels.max(0).tolist()
        return cls(left + 0.5, top + 0.5, right - left, bottom - top)

    @property
    def centre(self) -> tuple[float, float]:
        """Of the box, from the image's corner."""
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def longer_side(self) -> float:
        """The larger of width and height."""
        return max(self.width, self.height)

    @property
    def is_finite(self) -> bool:
        """Whether it is somewhere."""
        return all(math.isfinite(value) for value in self)

    def square(self, margin: float) -> Box:
        """The square about the same centre, ``margin`` times the longer side wide."""
        side = margin * self.longer_side
        return Box(self.x + (self.width - side) / 2, self.y + (self.height - side) / 2, side, side)

    def moved(self, scale: float, x: float, y: float) -> Box:
        """The same place in an image that shows this one ``scale`` times as large, with its corner at (x, y)."""
        return Box(scale * self.x + x, scale * self.y + y, scale * self.width, scale * self.height)

    def holds(self, point: tuple[float, float]) -> bool:
        """Whether a point, counted from the image's corner, lies in it."""
        return 0.0 <= point[0] - self.x <= self.width and 0.0 <= point[1] - self.y <= self.height

    def joined(self, other: Box) -> Box:
        """The smallest box that contains both."""
        x, y = min(self.x, other.x), min(self.y, other.y)
        right, bottom = (
            max(self.x + self.width, other.x + other.width),
            max(self.y + self.height, other.y + other.height),
        )
        return Box(x, y, right - x, bottom - y)

    def overlap(self, other: Box) -> float:
        """Intersection over union, 0 to 1."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        down = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        common = max(0.0, across) * max(0.0, down)
        return common / (self.width * self.height + other.width * other.height - common)
