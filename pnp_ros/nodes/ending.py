"""A process that is asked to end, ends: soon, once, and without a word too many."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

from pnp_ros.nodes.priority import others_are_slower
from pnp_ros.nodes.shared_memory import remove_own_segments

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _leave() -> NoReturn:
    remove_own_segments()
    if others_are_slower():  # the last thread to end frees the memory, which at a low priority takes many seconds
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # a second one would end what takes its place
        with contextlib.suppress(OSError):
            os.execv("/bin/true", ["true"])  # frees it here, once the others are dead
    os._exit(0)


@contextlib.contextmanager
def ending_in(patience_s: float) -> Iterator[None]:
    """From the first SIGINT or SIGTERM on, the process has so many seconds to end by itself; then it is ended.

    The signals raise nothing in Python any more, so neither a second nor a tenth interrupts what the first began; what
    is to end listens in another way, as rclpy's context does. Must be entered by the main thread, before
    ``rclpy.init``, which keeps these handlers behind its own.

    A process that was asked to end ends where the context is left: to take apart an interpreter that holds torch and a
    middleware costs more CPU time than all before, and on a busy computer that is seconds.
    """
    told, tell = socket.socketpair()
    told.setblocking(True)
    tell.setblocking(False)  # as the interpreter asks for; it writes there even while the main thread is in C code
    asked = threading.Event()
    previous = {number: signal.signal(number, lambda *_: asked.set()) for number in _SIGNALS}
    signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        while (byte := told.recv(1)) and byte[0] not in _SIGNALS:
            pass
        if byte:
            time.sleep(patience_s)
            _leave()

    threading.Thread(target=watch, name="ending", daemon=True).start()
    try:
        yield
        if asked.is_set():
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
                    stream.flush()
            _leave()
    finally:
        signal.set_wakeup_fd(-1)
        for number in previous:  # the way to the end of the interpreter stays free of tracebacks
            signal.signal(number, signal.SIG_IGN)
