"""Parts of a recording that are kept apart: to measure with, before and after, what was learnt from the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class TimeBlocks:
    """Equal blocks of a recording's time, of which every third is not learnt from: to measure with, before and after.

    Args:
        first_ns: stamp of the first image.
        last_ns: of the last one.
        count: of the blocks, at least 2; of two blocks, the second is held out.

    Raises:
        ValueError: if there are fewer than two blocks, or no time to divide.
    """

    first_ns: int
    last_ns: int
    count: int = 9

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"blocks: expected at least 2, got {self.count}")
        if not self.last_ns > self.first_ns:
            raise ValueError("blocks: expected images of different times")

    @classmethod
    def of(cls, stamps_ns: Iterable[int], count: int = 9) -> TimeBlocks:
        """Of a recording with these stamps."""
        stamps = list(stamps_ns)
        if not stamps:
            raise ValueError("blocks: expected images, the source holds none")
        return cls(min(stamps), max(stamps), count)

    def is_held_out(self, stamp_ns: int) -> bool:
        """Whether an image is to measure with."""
        block = (stamp_ns - self.first_ns) * self.count // (self.last_ns - self.first_ns + 1)
        period = min(3, self.count)
        return block % period == period - 1
