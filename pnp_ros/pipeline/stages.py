"""Where the time of one image goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stages:
    """Seconds by stage, of one image.

    Args:
        names: of the stages.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self.begin()

    def begin(self) -> None:
        """Of the next image: all at 0."""
        self._begin = time.perf_counter()
        self._seconds = dict.fromkeys(self._names, 0.0)

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """What is done within belongs to that stage."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - begin

    def told(self) -> dict[str, float]:
        """Each stage's, and ``total`` since the beginning."""
        return {**self._seconds, "total": time.perf_counter() - self._begin}
