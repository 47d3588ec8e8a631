"""What every single frame of a run says: errors against the truth, NEES, distance; and recall along an axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.evaluation import consistency, pose_error
from pnp_ros.pipeline.result import FrameResult
from pnp_ros.types import Pose

Column = NDArray[np.float64]


def frame_errors(
    records: Sequence[FrameResult], points: Tensor, diameter: float, symmetries: Tensor | None = None
) -> dict[str, Column]:
    """Columns of one value a record, NaN where the records do not tell.

    Errors are of every frame that has an estimate and a visible truth, whatever its state: ``add``, ``adds``, ``mssd``
    (shares of the diameter), ``mspd``, ``reprojection`` (px; the mean over the points where MSPD is the maximum),
    ``rotation`` (deg), ``translation`` (m), ``within_5cm_5deg`` (0 or 1), ``nees``. Of every frame: ``time`` (s, from
    the first stamp; the index without stamps), ``distance`` (m, of the truth, else of the estimate), ``valid``,
    ``visible``, ``false`` (0 or 1), ``ncc``.

    Args:
        records: one an image.
        points: (V, 3) of the object's surface in metres.
        diameter: of the object in metres.
        symmetries: (S, 4, 4) where the object has some.
    """
    count = len(records)
    names = ("add", "adds", "mssd", "mspd", "reprojection", "rotation", "translation", "within_5cm_5deg", "nees")
    columns = {name: np.full(count, np.nan) for name in (*names, "distance", "ncc")}
    columns |= {name: np.array([getattr(r, f"is_{name}") for r in records], np.float64) for name in ("valid", "false")}
    columns["visible"] = np.array([r.is_visible for r in records], np.float64)
    columns["time"] = _times(records)
    points = points.double()
    for i, record in enumerate(records):
        shown = record.truth if record.truth is not None else record.pose
        if shown is not None:
            columns["distance"][i] = float(shown.translation.norm())
        if record.ncc is not None:
            columns["ncc"][i] = record.ncc
        if record.pose is not None and record.truth is not None and record.is_visible:
            for name, value in _errors(record, points, diameter, symmetries).items():
                columns[name][i] = value
    return columns


def _times(records: Sequence[FrameResult]) -> Column:
    stamps = [r.stamp for r in records]
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) < len(stamps) or not known:
        return np.arange(len(stamps), dtype=np.float64)
    return np.array(known) - known[0]


def _errors(record: FrameResult, points: Tensor, diameter: float, symmetries: Tensor | None) -> dict[str, float]:
    assert record.pose is not None
    assert record.truth is not None
    estimate, truth = as_double(record.pose), as_double(record.truth)
    found = {
        "add": pose_error.add(estimate, truth, points) / diameter,
        "adds": pose_error.adds(estimate, truth, points) / diameter,
        "mssd": pose_error.mssd(estimate, truth, points, symmetries) / diameter,
        "rotation": pose_error.rotation_error(estimate, truth, symmetries).rad2deg(),
        "translation": pose_error.translation_error(estimate, truth, symmetries),
        "within_5cm_5deg": pose_error.within_5cm_5deg(estimate, truth, symmetries),
    }
    if record.camera is not None:
        found["mspd"] = pose_error.mspd(estimate, truth, points, record.camera, symmetries)
        found["reprojection"] = pose_error.reprojection(estimate, truth, points, record.camera, symmetries)
    if record.covariance is not None:
        found["nees"] = consistency.nees(estimate, record.covariance.detach().cpu().double(), truth)
    return {name: float(value) for name, value in found.items()}


def as_double(pose: Pose) -> Pose:
    """The pose on the CPU in float64."""
    return Pose(pose.rotation.detach().cpu().double(), pose.translation.detach().cpu().double())


@dataclass(frozen=True, eq=False)
class Recall:
    """Recall in equal steps along an axis.

    Args:
        edges: (B + 1) of the steps.
        recall: (B) share of the visible frames that were found right; NaN without any.
        frames: (B) how many visible frames there are.
    """

    edges: Column
    recall: Column
    frames: NDArray[np.int64]


def recall_over(
    errors: Mapping[str, Column], axis: str, metric: str = "add", threshold: float = 0.10, steps: int = 12
) -> Recall | None:
    """Recall of the visible frames over a column such as ``time`` or ``distance``; None without visible frames.

    Found right: a valid pose whose error ``metric`` is below ``threshold``.
    """
    visible = (errors["visible"] > 0) & np.isfinite(errors[axis])
    if not visible.any():
        return None
    values = errors[axis][visible]
    right = (errors["valid"] > 0) & (np.nan_to_num(errors[metric], nan=math.inf) < threshold)
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high if high > low else low + 1.0, steps + 1)
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, steps - 1)
    frames = np.bincount(place, minlength=steps)
    found = np.bincount(place, weights=right[visible].astype(np.float64), minlength=steps)
    recall = np.full(steps, np.nan)
    np.divide(found, frames, out=recall, where=frames > 0)
    return Recall(edges, recall, frames)


def worst_first(errors: Mapping[str, Column], metric: str = "add") -> list[int]:
    """Indices of the frames that went wrong, the worst first: false poses, then large errors, misses, poor overlap.

    Frames that nothing is known against are left out.
    """
    valid, metric_values = errors["valid"] > 0, errors[metric]
    missed = (errors["visible"] > 0) & ~valid
    ranked: list[tuple[float, int]] = []
    for i in range(len(valid)):
        if errors["false"][i] > 0:
            badness = 1e6
        elif valid[i] and np.isfinite(metric_values[i]):
            badness = 1e3 * float(metric_values[i]) if metric_values[i] > 0.10 else float(metric_values[i])
        elif missed[i]:
            badness = 10.0
        elif valid[i] and np.isfinite(errors["ncc"][i]):
            badness = 0.5 * (1.0 - float(errors["ncc"][i]))
        else:
            continue
        ranked.append((-badness, i))
    return [index for _, index in sorted(ranked)]
