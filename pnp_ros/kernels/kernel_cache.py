"""The folder that Warp keeps compiled kernels in, where the usual one cannot be written: a container, a service.

The user's choice is Warp's own: ``WARP_CACHE_PATH``, or else the home's cache. Kernels that were compiled there when
the package was installed (``pnp-ros compile``) are used even where nothing more can be written.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

import warp as wp


class KernelCacheError(OSError):
    """There is no folder to keep compiled kernels in; the message says what to set."""


def start_warp() -> str:
    """``wp.init()``, with a temporary folder for compiled kernels where Warp's is not writable.

    Returns:
        What there is to say about that; else nothing.

    Raises:
        KernelCacheError: if there is no temporary folder either.
    """
    try:
        wp.init()
        reason = _not_writable(Path(str(wp.config.kernel_cache_dir)))
    except OSError as error:  # Warp makes the folder; its error names it
        reason = str(error)
    if not reason:
        return ""
    usual, temporary = Path(str(wp.config.kernel_cache_dir)), _temporary(reason)
    folder = temporary / wp.config.version  # as Warp appends it
    _link(usual, folder)
    wp.config.kernel_cache_dir = str(temporary)
    wp.init()  # does nothing if Warp has started
    wp.config.kernel_cache_dir = str(folder)
    return f"compiled kernels are kept in {folder}, not in {usual} ({reason}); WARP_CACHE_PATH chooses a folder"


def _not_writable(folder: Path) -> str:
    """Why nothing can be written there; empty if it can."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return str(error)


def _temporary(reason: str) -> Path:
    """One folder a user, so that the next process need not compile again.

    What lies there is run: one that another user made or may write is not taken.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"pnp_ros-kernels-{os.geteuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            folder = Path(tempfile.mkdtemp(prefix="pnp_ros-kernels-"))
        elif why := _not_writable(folder):
            raise OSError(why)
    except OSError as error:
        raise KernelCacheError(
            f"no folder for compiled kernels: {reason}; {error}. Set WARP_CACHE_PATH to one that can be written"
        ) from error
    return folder


def _link(usual: Path, folder: Path) -> None:
    """What was compiled into the usual folder, readable in the other one."""
    folder.mkdir(exist_ok=True)
    for file in usual.glob("wp_*/*") if os.access(usual, os.R_OK | os.X_OK) else ():
        link = folder / file.relative_to(usual)
        link.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):  # compiled here, or linked by the last process
            link.symlink_to(file)
