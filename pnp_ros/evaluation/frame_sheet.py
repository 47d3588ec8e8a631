"""A sheet of the frames that went worst, each cut out around the object and drawn over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from pnp_ros.evaluation.frame_errors import Column, worst_first
from pnp_ros.evaluation.frames import Frame, FrameSource
from pnp_ros.evaluation.overlay import GREEN, ORANGE, Colour, MeshOverlay, RgbImage, contact_sheet
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.pipeline.result import FrameResult
from pnp_ros.types import Pose

_CELLS, _COLUMNS = 24, 4
_WIDTH, _HEIGHT = 340, 255  # of a cell, pixels
_AROUND = 2.0  # width of what is shown, over that of the object
_TRUTH: Colour = (90, 150, 255)


def frame_sheet(
    source: FrameSource,
    mesh: TriangleMesh,
    records: Sequence[FrameResult],
    errors: Mapping[str, Column],
    metric: str,
) -> tuple[str, RgbImage]:
    """Caption and sheet: the worst frames, or some of them all where nothing tells which are.

    Args:
        source: of the images; gone through once more.
        mesh: of the object.
        records: one an image.
        errors: of :func:`~pnp_ros.evaluation.frame_errors.frame_errors`.
        metric: ``add`` or ``adds``.
    """
    chosen = _apart(worst_first(errors, metric), len(records))
    caption = "The worst frames, worst first"
    if not chosen:
        chosen = np.unique(np.linspace(0, len(records) - 1, _CELLS).round().astype(int)).tolist()
        caption = "Some frames"
    overlay = MeshOverlay(mesh)
    cells: dict[int, RgbImage] = {}
    for index, frame in enumerate(source.frames()):
        if index > max(chosen):
            break
        if index in chosen:
            cells[index] = _cell(overlay, frame, records[index])
    shown = [index for index in chosen if index in cells]  # a bag that is still being written may have changed
    captions = [_words(index, records[index], errors, metric) for index in shown]
    sheet = contact_sheet([cells[index] for index in shown], _COLUMNS, _WIDTH, captions)
    drawn = "green valid, orange uncertain" + (", blue truth" if any(r.truth is not None for r in records) else "")
    return f"{caption}: {drawn}; cut out around the object", sheet


def _apart(ranked: list[int], count: int) -> list[int]:
    """The first of them, but of neighbours in time only the worst."""
    spacing = max(1, count // (2 * _CELLS))
    chosen: list[int] = []
    for index in ranked:
        if len(chosen) == _CELLS:
            break
        if all(abs(index - other) >= spacing for other in chosen):
            chosen.append(index)
    return chosen


def _cell(overlay: MeshOverlay, frame: Frame, record: FrameResult) -> RgbImage:
    poses = [pose for pose in (record.truth, record.pose) if pose is not None]
    x, y, width, height = _window(overlay, frame, poses)
    cut = frame.rgb[y : y + height, x : x + width]
    drawn = np.asarray(cv2.resize(cut, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)
    camera = frame.camera.crop(x, y, width, height, _WIDTH, _HEIGHT)
    if record.truth is not None:
        drawn = overlay.draw(drawn, record.truth, camera, _TRUTH, axes=False)
    if record.pose is not None:
        drawn = overlay.draw(drawn, record.pose, camera, GREEN if record.is_valid else ORANGE)
    return drawn


def _window(overlay: MeshOverlay, frame: Frame, poses: Sequence[Pose]) -> tuple[int, int, int, int]:
    """Corner and size of what is shown, within the image and in the cell's shape; all of it without a pose."""
    rows, columns = frame.rgb.shape[:2]
    boxes = [box for pose in poses if (box := overlay.box(pose, frame.camera)) is not None]
    largest = min(columns, rows * _WIDTH / _HEIGHT)
    if boxes:
        corners = np.array(boxes)
        (left, top), (right, bottom) = corners[:, :2].min(0), corners[:, 2:].max(0)
        wanted = _AROUND * max(right - left, (bottom - top) * _WIDTH / _HEIGHT)
        width, x, y = float(np.clip(wanted, 0.15 * largest, largest)), (left + right) / 2, (top + bottom) / 2
    else:
        width, x, y = largest, columns / 2, rows / 2
    size = round(width), round(width * _HEIGHT / _WIDTH)
    corner = (round(float(np.clip(c - s / 2, 0, n - s))) for c, s, n in zip((x, y), size, (columns, rows)))
    return (*corner, *size)  # type: ignore[return-value]


def _words(index: int, record: FrameResult, errors: Mapping[str, Column], metric: str) -> str:
    words = [str(index), "FALSE" if record.is_false else str(record.state)]
    if math.isfinite(error := errors[metric][index]):
        words.append(f"{'ADD-S' if metric == 'adds' else 'ADD'} {100 * error:.1f} %")
    if math.isfinite(correlation := errors["ncc"][index]):
        words.append(f"overlap {correlation:.2f}")
    return "  ".join(words)
