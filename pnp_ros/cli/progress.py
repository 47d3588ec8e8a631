"""Which images of a source are gone through, and a progress bar that knows how many they are and how long it takes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from itertools import islice

from tqdm import tqdm

from pnp_ros.evaluation.frames import Frame, FrameSource
from pnp_ros.io.window import Window


def add_part(parser: argparse.ArgumentParser, title: str = "part of the source") -> None:
    """The options that choose a part of the source: --start, --end, --every, --max-frames."""
    part = parser.add_argument_group(title)
    part.add_argument("--start", type=float, default=0.0, metavar="SECONDS", help="after the first image (default 0)")
    part.add_argument("--end", type=float, default=math.inf, metavar="SECONDS", help="after the first image")
    part.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th image (default 1)")
    part.add_argument("--max-frames", type=int, metavar="N", help="stop after this many images")


def part_of(arguments: argparse.Namespace) -> Window:
    """What :func:`add_part` was told.

    Raises:
        ValueError: if that is no part; the message names the option.
    """
    if arguments.max_frames is not None and arguments.max_frames < 1:
        raise ValueError(f"--max-frames: expected 1 or more, got {arguments.max_frames}")
    return Window(arguments.start, arguments.end, arguments.every)


def images(source: FrameSource, limit: int | None = None, description: str | None = None) -> Iterable[Frame]:
    """The images of a source, or the first ``limit`` of them, with total and remaining time where they are known."""
    known = [count for count in (source.count(), limit) if count is not None]
    total = min(known, default=None)
    shown: Iterable[Frame] = tqdm(islice(source.frames(), limit), description, total=total, unit=" images")
    return shown
