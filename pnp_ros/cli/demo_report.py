"""Images of a run, to be looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pnp_ros.evaluation.frames import Frame, FrameSource
from pnp_ros.evaluation.overlay import RgbImage, contact_sheet
from pnp_ros.io.images import VideoWriter, write_image

_SHEET_CELLS = 24


def write_images(
    source: FrameSource, drawn: Callable[[int, Frame], RgbImage], count: int, rate: float, out: Path
) -> None:
    """``overlay.mp4`` with every image of the source as it is ``drawn``, ``contact_sheet.png`` with some of them."""
    chosen = set(np.linspace(0, count - 1, _SHEET_CELLS).round().astype(int).tolist())
    cells = []
    with VideoWriter(out / "overlay.mp4", rate) as video:
        for index, frame in enumerate(tqdm(source.frames(), total=count, desc="overlay", unit="image")):
            image = drawn(index, frame)
            video.write(image)
            if index in chosen:
                cells.append(image)
    write_image(out / "contact_sheet.png", contact_sheet(cells))
