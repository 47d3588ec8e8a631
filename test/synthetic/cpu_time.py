"""What several ways to calculate something take, for tests and beside other work."""

from __future__ import annotations

import time
from collections.abc import Callable

ROUNDS = 5


def cpu_seconds(*ways: Callable[[], object]) -> list[float]:
    """CPU time of each way: the least of several rounds in which all take turns.

    What else the machine does (another process on the same core's caches, a lower clock rate) only adds to a round, and
    to all ways alike; bounds should be on the ways' ratios, so that the processor does not matter either.
    """
    for way in ways:
        way()  # the first call of its kind records a launch
    least = [float("inf")] * len(ways)
    for _ in range(ROUNDS):
        for index, way in enumerate(ways):
            start = time.process_time()
            way()
            least[index] = min(least[index], time.process_time() - start)
    return least
