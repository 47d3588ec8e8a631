"""How long a node rests so that it takes a share of a core, on average."""

from __future__ import annotations

import time


class CpuBudget:
    """What the process has used, all threads together, and when that is paid for."""

    def __init__(self) -> None:
        self._due = self._told = time.monotonic()
        self._used = time.process_time()

    def rest(self, share: float) -> float:
        """Seconds after which what was used since the last call is ``share`` of a core; 0 or less: none.

        Without a share (0) nothing is owed, also not later, when there is one.
        """
        now, used = time.monotonic(), time.process_time()
        spent, begin = used - self._used, max(self._due, self._told)
        self._told, self._used = now, used
        self._due = begin + spent / share if share else now
        return self._due - now
