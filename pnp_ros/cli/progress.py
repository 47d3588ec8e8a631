"""Images behind a progress bar that knows how many there are, and so how long it will take."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from tqdm import tqdm

from pnp_ros.evaluation.frames import Frame, FrameSource


def images(source: FrameSource, limit: int | None = None, description: str | None = None) -> Iterable[Frame]:
    """The images of a source, or the first ``limit`` of them, with total and remaining time where they are known."""
    known = [count for count in (source.count(), limit) if count is not None]
    total = min(known, default=None)
    shown: Iterable[Frame] = tqdm(islice(source.frames(), limit), description, total=total, unit=" images")
    return shown
