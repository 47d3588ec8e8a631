"""Stamps of messages, as ROS has them and as bags give them: whole seconds and nanoseconds beside them."""

from __future__ import annotations

from typing import Protocol


class Stamp(Protocol):
    """``builtin_interfaces/Time``, of whichever library."""

    @property
    def sec(self) -> int:
        """Whole seconds."""

    @property
    def nanosec(self) -> int:
        """Nanoseconds beyond them."""


def nanoseconds(stamp: Stamp) -> int:
    """A stamp in nanoseconds, exact."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
