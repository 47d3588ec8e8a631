"""Where the package's own data lies: ``config/`` and the object packages in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def resource(relative: str) -> Path:
    """The path of a file or folder that ships with the package, for instance ``"config/objects/demo"``.

    Looked for in the installed package, in the source tree, then in ``share/pnp_ros`` of every sourced ROS workspace
    and of the Python prefix.

    Raises:
        FileNotFoundError: if none of them has it; the message lists them.
    """
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    package = Path(__file__).parents[1]
    roots = [package / "share", package.parent, *(prefix / "share/pnp_ros" for prefix in [*prefixes, Path(sys.prefix)])]
    for root in roots:
        if (root / relative).exists():
            return root / relative
    raise FileNotFoundError(f"{relative}: not in any of {', '.join(map(str, roots))}")
