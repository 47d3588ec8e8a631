"""Messages on their way to a disk that may be slow wait in memory, but never in more than a given amount of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class WriteBehind:
    """Writes on a thread of its own, in order.

    Args:
        write: called with what :meth:`put` was given.
        limit: bytes that may wait.

    Attributes:
        refused: messages that found no room.
        failure: what ``write`` raised; nothing is written after it.
    """

    def __init__(self, write: Callable[..., None], limit: int) -> None:
        self._write, self._limit = write, limit
        self._waiting: deque[tuple[int, tuple[Any, ...]]] = deque()
        self._bytes, self._closed = 0, False
        self._changed = threading.Condition()
        self.refused = 0
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    def put(self, size: int, *message: Any) -> bool:
        """Have a message of ``size`` bytes written soon; False if there is no room for it, or no more writing."""
        with self._changed:
            fits = self._bytes + size <= self._limit or not self._waiting
            if self._closed or self.failure is not None or not fits:
                self.refused += 1
                return False
            self._waiting.append((size, message))
            self._bytes += size
            self._changed.notify()
            return True

    def close(self) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                size, message = self._waiting[0]  # counts as waiting until it is written
            try:
                self._write(*message)
            except Exception as error:  # a full disk, or whatever else: whoever asks is told
                with self._changed:
                    self.failure = error
                    self.refused += len(self._waiting)  # the one in hand, too
                    self._waiting.clear()
                return
            with self._changed:
                self._waiting.popleft()
                self._bytes -= size
