"""The figures of a run: accuracy, consistency, false poses, smoothness, overlap and latency, as JSON and as a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pnp_ros.evaluation import consistency, hypotheses, pose_error
from pnp_ros.evaluation.frame_errors import Column, frame_errors
from pnp_ros.evaluation.overlap import MATCH
from pnp_ros.evaluation.smoothness import smoothness
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.result import FrameResult, ObjectState

_METRIC_POINTS = 2000  # of the surface are enough for a mean or a maximum distance
_LEVELS = (0.5, 0.9, 0.95)
_MSSD_STEPS = torch.arange(1, 11) * 0.05  # shares of the diameter
_MSPD_STEPS = torch.arange(1, 11) * 5.0  # pixels of an image 640 px wide


def measure(records: Sequence[FrameResult], package: ObjectPackage) -> tuple[dict[str, Any], dict[str, Column]]:
    """The figures of :func:`summarise` and the columns of :func:`frame_errors` for the object of a package."""
    vertices = package.mesh.vertices
    points = torch.from_numpy(vertices[:: max(1, len(vertices) // _METRIC_POINTS)].astype(np.float64))
    symmetries = None if package.symmetry.is_trivial else package.symmetry.transforms()
    errors = frame_errors(records, points, package.diameter, symmetries)
    return summarise(records, points, package.diameter, symmetries, errors), errors


def summarise(
    records: Sequence[FrameResult],
    points: Tensor,
    diameter: float,
    symmetries: Tensor | None = None,
    errors: Mapping[str, Column] | None = None,
) -> dict[str, Any]:
    """The figures of a run, JSON-able; None where the records do not tell.

    Only poses in the state ``valid`` count as found: an uncertain one is a miss, as a user must not act on it.

    Args:
        records: one an image.
        points: (V, 3) of the object's surface in metres; a few thousand are enough.
        diameter: of the object in metres.
        symmetries: (S, 4, 4) where the object has some; then ADD-S takes the place of ADD.
        errors: of :func:`frame_errors`, where they are already at hand.
    """
    errors = errors if errors is not None else frame_errors(records, points, diameter, symmetries)
    states = Counter(r.state for r in records)
    told = any(r.truth is not None or r.visible is not None for r in records)
    sure = np.array([r.covariance is not None for r in records], bool)
    judged = np.array([r.is_visible and r.truth is not None for r in records], bool)
    scored = judged & (errors["valid"] > 0)
    symmetric = symmetries is not None and len(symmetries) > 1
    metric = "adds" if symmetric else "add"
    return {
        "frames": {
            "total": len(records),
            **({"visible": int((errors["visible"] > 0).sum())} if told else {}),
            **{str(state): states[state] for state in ObjectState if states[state] or state is not ObjectState.DROPPED},
        },
        "accuracy": _accuracy(errors, scored, int(judged.sum()), metric, diameter, _image_width(records)),
        "consistency": _consistency(
            errors["nees"][scored & sure], [r.covariance for r, used in zip(records, scored) if used]
        ),
        "hypotheses": hypotheses.figures(records, points, diameter),
        "false_poses": _false_poses(errors, scored, metric) if told else None,
        "smoothness": smoothness(records),
        "overlap": _overlap(errors["ncc"][errors["valid"] > 0], len(records)),
        "latency_ms": _latency(records),
    }


def _image_width(records: Sequence[FrameResult]) -> int:
    return next((r.camera.width for r in records if r.camera is not None), 640)


def _accuracy(
    errors: Mapping[str, Column], scored: np.ndarray, visible: int, metric: str, diameter: float, width: int
) -> dict[str, Any] | None:
    """Recalls are shares of the visible frames; error statistics are over the frames with a valid pose."""
    if visible == 0:
        return None
    found = {name: torch.from_numpy(column[scored]) for name, column in errors.items()}
    share = int(scored.sum()) / visible  # of the visible frames have a valid pose; the others are misses
    figures: dict[str, Any] = {
        "metric": "ADD-S" if metric == "adds" else "ADD",
        "recall_5_percent": int((found[metric] < 0.05).sum()) / visible,
        "recall_10_percent": int((found[metric] < 0.10).sum()) / visible,
        "auc_10_percent": share * pose_error.auc(found[metric], 0.10),
        "add_auc_10cm": share * pose_error.auc(diameter * found["add"], 0.10),
        "adds_auc_10cm": share * pose_error.auc(diameter * found["adds"], 0.10),
        "recall_5cm_5deg": float(found["within_5cm_5deg"].sum()) / visible,
        "mssd_average_recall": share * pose_error.average_recall(found["mssd"], _MSSD_STEPS),
    }
    if bool(found["mspd"].isfinite().any()):
        steps = _MSPD_STEPS * (width / 640)
        figures["mspd_average_recall"] = share * pose_error.average_recall(found["mspd"], steps)
        figures["recall_reprojection_5px"] = int((found["reprojection"] < 5.0).sum()) / visible
    statistics = {
        "rotation_deg": found["rotation"],
        "translation_mm": 1000.0 * found["translation"],
        "add_percent": 100.0 * found["add"],
        "add-s_percent": 100.0 * found["adds"],
        "mssd_percent": 100.0 * found["mssd"],
        "mspd_px": found["mspd"],
        "reprojection_px": found["reprojection"],
    }
    return figures | {name: _quantiles(values, {"median": 0.5, "p90": 0.9}) for name, values in statistics.items()}


def _false_poses(errors: Mapping[str, Column], scored: np.ndarray, metric: str) -> dict[str, int]:
    return {
        "valid_while_not_visible": int((errors["false"] > 0).sum()),
        "valid_beyond_10_percent": int((errors[metric][scored] > 0.10).sum()),
    }


def _quantiles(values: Tensor | Sequence[float] | Column, wanted: Mapping[str, float]) -> dict[str, float | None]:
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    return {name: float(np.quantile(array, share)) if array.size else None for name, share in wanted.items()}


def _consistency(values: Column, covariances: Sequence[Tensor | None]) -> dict[str, Any] | None:
    """Of the NEES of the valid poses that have a covariance and a truth, and of the size of their regions."""
    if not len(values):
        return None
    nees = torch.from_numpy(values)
    finite = nees[nees.isfinite()]
    low, high = consistency.anees_bounds(len(nees))
    factor = consistency.conformal_factor(nees)
    mean = float(finite.mean()) if len(finite) else None
    return {
        "verdict": "no valid covariance" if mean is None else consistency.verdict(mean, len(finite)),
        "count": len(nees),
        "invalid_covariances": len(nees) - len(finite),
        "mean_nees": mean,
        "median_nees": float(finite.quantile(0.5)) if len(finite) else None,
        "anees": None if mean is None else mean / consistency.DEGREES_OF_FREEDOM,
        "mean_nees_bounds_95": [low, high],
        "coverage": {f"{level:g}": share for level, share in consistency.coverage(nees, _LEVELS).items()},
        "coverage_0.9_bounds_95": list(consistency.coverage_interval(nees, 0.9)),
        "factor_that_covers_0.9": factor if math.isfinite(factor) else None,
        "region_0.9": _region(covariances),
    }


def _region(covariances: Sequence[Tensor | None]) -> dict[str, float | None]:
    """How far the 90 % regions reach from the pose along the longest axis of each part: in the median."""
    known = [each.detach().cpu().double().numpy() for each in covariances if each is not None]
    reach = [consistency.region_reach(each, 0.9) for each in known if np.isfinite(each).all()]
    if not reach:
        return {"translation_mm": None, "rotation_deg": None}
    metres, radians = np.median(reach, 0)
    return {"translation_mm": 1000.0 * float(metres), "rotation_deg": math.degrees(radians)}


def _overlap(scores: Column, frames: int) -> dict[str, Any] | None:
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return None
    matches = int((scores > MATCH).sum())
    return {
        "threshold": MATCH,
        "share_of_all_frames": matches / frames,
        "share_of_valid_poses": matches / len(scores),
        **_quantiles(scores, {"median": 0.5, "p10": 0.1}),
    }


def _latency(records: Sequence[FrameResult]) -> dict[str, dict[str, float | None]]:
    stages = dict.fromkeys(stage for r in records for stage in r.latency)  # in the order of their first appearance
    times = {stage: [1000.0 * r.latency[stage] for r in records if stage in r.latency] for stage in stages}
    return {stage: _quantiles(values, {"median": 0.5, "p99": 0.99}) for stage, values in times.items()}


def table(summary: Mapping[str, Any]) -> str:
    """The summary of :func:`summarise` as aligned lines of text, one figure a line."""
    rows = figure_rows(summary)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def figure_rows(summary: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Name and text of each figure."""
    rows: list[tuple[str, str]] = []
    for name, value in summary.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            rows += figure_rows(value, f"{label} / ")
        else:
            rows.append((label, figure_text(value)))
    return rows


def figure_text(value: Any) -> str:
    """A figure as it is shown: four digits, ``-`` for what is not known."""
    if value is None:
        return "-"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " .. ".join(map(figure_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
