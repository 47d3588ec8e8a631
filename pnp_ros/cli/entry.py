"""How an installed executable starts. Neither an absent package nor ctrl-C while it imports gives a traceback.

``python -m pnp_ros.cli.entry pnp_ros.nodes.pose_estimator_node ...`` does what the executable of that name does.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys

from pnp_ros.cli.requirements import MissingRequirement, load

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_INTERRUPTED = 128 + signal.SIGINT


def run_main(module: str) -> None:
    """Import a module of ours and end with what its ``main()`` returns.

    Asked to end while it imports, which takes seconds on a busy computer, the process ends at once and in silence. One
    that was interrupted later ends without taking its modules apart, which with torch costs a second of CPU time.
    """
    previous = {number: signal.signal(number, lambda number, _: os._exit(128 + number)) for number in _SIGNALS}
    gc.disable()  # what is imported stays: looking for garbage among it takes a fifth of a node's start
    try:
        main = load(module).main
    except MissingRequirement as error:
        sys.exit(f"{module.rpartition('.')[2]}: {error}")
    gc.freeze()
    gc.enable()
    for number, handler in previous.items():
        signal.signal(number, handler)
    status = main()
    if status == _INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        atexit._run_exitfuncs()  # worker processes end, temporary files go
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        os._exit(_INTERRUPTED)
    sys.exit(status)


def command() -> None:
    """The executable ``pnp-ros``."""
    run_main("pnp_ros.cli.main")


if __name__ == "__main__":
    run_main(sys.argv.pop(1))
