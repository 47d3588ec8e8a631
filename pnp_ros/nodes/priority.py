"""Low priorities for what can wait: threads of one node, beside those of nodes that cannot."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

_RECEIVING_NICE, _WORKING_NICE = 5, 10  # beside another that wants the same core: 25 % and 10 % of it


def receive_less_urgently() -> None:
    """Let others go before all threads that this process has so far; yet it is to answer on a busy machine, too."""
    with contextlib.suppress(OSError):  # not Linux
        for thread in Path("/proc/self/task").iterdir():
            _lower(int(thread.name), _RECEIVING_NICE)


def work_less_urgently() -> None:
    """Give the calling thread, and those that it starts, a lower priority still.

    Not the idle class, nor the lowest: the thread gives the interpreter's lock back only while it runs, and until then
    the node neither answers nor ends. Beside five busy loops on one core it waits 10 to 20 s in the idle class.
    """
    _lower(threading.get_native_id(), _WORKING_NICE)


def others_are_slower() -> bool:
    """Whether a thread of this process has a lower priority than the calling one."""
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with contextlib.suppress(OSError):
        threads = [int(thread.name) for thread in Path("/proc/self/task").iterdir()]
        return any(os.getpriority(os.PRIO_PROCESS, thread) > own for thread in threads)
    return False


def _lower(thread: int, nice: int) -> None:
    with contextlib.suppress(OSError):  # forbidden, or the thread has ended
        os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))
