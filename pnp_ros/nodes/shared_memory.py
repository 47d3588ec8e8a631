"""Fast DDS leaves the shared memory of a process that was killed: 70 MB each with our profile, until a reboot.

A supervisor that starts a killed node again fills the robot's memory so. What ``fastdds shm clean`` does by hand is
done here when a node starts, for segments alone: a living owner holds a lock on the file beside its segment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from pathlib import Path

_LOCK = re.compile(r"(?:fastrtps|fastdds)_[0-9a-z]{16}_el")
_YOUNGEST_S = 10.0  # a process that is being started has its file a moment before its lock


def remove_dead_segments(folder: Path = Path("/dev/shm")) -> int:
    """Remove the segments whose owners are dead, as far as this user may; how many that were."""
    removed = 0
    with contextlib.suppress(OSError):  # no such folder, or not ours to read
        for lock in [path for path in folder.iterdir() if _LOCK.fullmatch(path.name)]:
            with contextlib.suppress(OSError):
                if time.time() - lock.stat().st_mtime > _YOUNGEST_S and _is_free(lock):
                    lock.with_name(lock.name.removesuffix("_el")).unlink(missing_ok=True)
                    lock.unlink()
                    removed += 1
    return removed


def remove_own_segments() -> None:
    """Remove this process's segments, for one that leaves without taking its middleware apart. POSIX keeps them mapped.

    Its locks are the files that it has open.
    """
    with contextlib.suppress(OSError):  # no /proc
        for opened in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile, or removed by its peer
                lock = opened.readlink()
                if _LOCK.fullmatch(lock.name):
                    lock.with_name(lock.name.removesuffix("_el")).unlink(missing_ok=True)
                    lock.unlink()


def _is_free(lock: Path) -> bool:
    descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
