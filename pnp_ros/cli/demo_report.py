"""Images of a run, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pnp_ros.evaluation.frames import FrameSource
from pnp_ros.evaluation.overlay import GREEN, ORANGE, MeshOverlay, contact_sheet, write_caption
from pnp_ros.io.images import VideoWriter, write_image
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.result import FrameResult

_SHEET_CELLS = 24


def write_images(
    source: FrameSource, records: Sequence[FrameResult], package: ObjectPackage, rate: float, out: Path
) -> None:
    """``overlay.mp4`` with every image of the source, and ``contact_sheet.png`` with some of them.

    Green is a valid pose, orange an uncertain one.
    """
    overlay = MeshOverlay(package.mesh)
    chosen = set(np.linspace(0, len(records) - 1, _SHEET_CELLS).round().astype(int).tolist())
    cells = []
    with VideoWriter(out / "overlay.mp4", rate) as video:
        for index, frame in enumerate(tqdm(source.frames(), total=len(records), desc="overlay", unit="image")):
            record, drawn = records[index], frame.rgb
            if record.pose is not None:
                drawn = overlay.draw(drawn, record.pose, frame.camera, GREEN if record.is_valid else ORANGE)
            drawn = write_caption(drawn, f"{index}  {record.state}")
            video.write(drawn)
            if index in chosen:
                cells.append(drawn)
    write_image(out / "contact_sheet.png", contact_sheet(cells))
