"""How an installed executable starts. Neither an absent package nor ctrl-C while it imports gives a traceback.

``python -m pnp_ros.cli.entry pnp_ros.nodes.pose_estimator_node ...`` does what the executable of that name does.
"""

from __future__ import annotations

import os
import signal
import sys

from pnp_ros.cli.requirements import MissingRequirement, load

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_main(module: str) -> None:
    """Import a module of ours and end with what its ``main()`` returns.

    Asked to end while it imports, which takes seconds on a busy computer, the process ends at once and in silence.
    """
    previous = {number: signal.signal(number, lambda number, _: os._exit(128 + number)) for number in _SIGNALS}
    try:
        main = load(module).main
    except MissingRequirement as error:
        sys.exit(f"{module.rpartition('.')[2]}: {error}")
    for number, handler in previous.items():
        signal.signal(number, handler)
    sys.exit(main())


if __name__ == "__main__":
    run_main(sys.argv.pop(1))
