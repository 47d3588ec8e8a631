"""How an installed executable starts: an absent package is one line with its cure, not a traceback."""

from __future__ import annotations

import sys

from pnp_ros.cli.requirements import MissingRequirement, load


def run_main(module: str) -> None:
    """Import a module of ours and end with what its ``main()`` returns."""
    try:
        main = load(module).main
    except MissingRequirement as error:
        sys.exit(f"{module.rpartition('.')[2]}: {error}")
    sys.exit(main())
