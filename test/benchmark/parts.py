"""A benchmark of several parts, of which the command line names some."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

Part = TypeVar("Part")


def chosen(
    parser: argparse.ArgumentParser, parts: Mapping[str, Part], named: Sequence[str], needs: Mapping[str, Path]
) -> Iterator[tuple[str, Part]]:
    """The parts that were named, or all; one whose folder of shared data is not there is skipped aloud.

    Args:
        parser: tells of a name that is none.
        parts: by name.
        named: on the command line.
        needs: folder, by the name of a part that cannot do without.
    """
    for name in named or parts:
        if name not in parts:
            parser.error(f"expected {', '.join(parts)}, got {name!r}")
        if name in needs and not needs[name].is_dir():
            print(f"{name}: skipped, no {needs[name]}")
            continue
        yield name, parts[name]
