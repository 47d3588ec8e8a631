"""Which images of a recording are looked at: from when, until when, how many of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_ROUNDING = 1e-6  # seconds


@dataclass(frozen=True)
class Window:
    """A part of a recording.

    Args:
        start: seconds after the first image.
        end: seconds after the first image.
        every: of the images in between each ``every``-th is taken, from the first on.
    """

    start: float = 0.0
    end: float = math.inf
    every: int = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.start < math.inf:
            raise ValueError(f"start: expected seconds from the first image, 0 or more, got {self.start}")
        if not self.start < self.end:
            raise ValueError(f"end: expected more than start, {self.start:g} s, got {self.end:g}")
        if self.every < 1:
            raise ValueError(f"every: expected 1 or more, got {self.every}")

    def taking(self) -> Callable[[float], bool]:
        """A function to be asked once for each image in turn, with its seconds since the first: is it taken?"""
        inside = -1

        def takes(seconds: float) -> bool:
            nonlocal inside
            started = self.start == 0.0 or seconds >= self.start - _ROUNDING  # a clock may jump back before the first
            if not started or seconds > self.end + _ROUNDING:
                return False
            inside += 1
            return inside % self.every == 0

        return takes

    def count(self, images: int, seconds: float) -> int:
        """About how many of ``images`` evenly spaced ones, the last after so many ``seconds``, are taken."""
        if images < 2 or seconds <= 0.0:
            return images if self.start == 0.0 else 0
        step = seconds / (images - 1)
        first = math.ceil(self.start / step - _ROUNDING)
        last = min(images - 1, math.floor(min(self.end, seconds) / step + _ROUNDING))
        return max(0, (last - first) // self.every + 1)


ALL = Window()
