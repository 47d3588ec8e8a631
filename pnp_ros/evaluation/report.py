"""The figures of a run: accuracy, consistency, false poses, overlap and latency, as JSON and as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pnp_ros.evaluation import consistency, pose_error
from pnp_ros.evaluation.overlap import MATCH
from pnp_ros.types import Pose

VALID = "valid"
_LEVELS = (0.5, 0.9, 0.95)


@dataclass(frozen=True)
class FrameRecord:
    """What is known of one object in one picture.

    Args:
        state: ``valid``, ``uncertain`` or ``lost``.
        estimate: the estimated pose, without batch dimensions; None if lost.
        covariance: (6, 6) of the estimate.
        truth: the true pose; None if not known.
        visible: whether the object is to be seen; None if not known. A true pose alone means: yes.
        latency: seconds by stage.
        ncc: correlation of the re-rendered object with the picture, None if not computed.
    """

    state: str
    estimate: Pose | None = None
    covariance: Tensor | None = None
    truth: Pose | None = None
    visible: bool | None = None
    latency: Mapping[str, float] = field(default_factory=dict)
    ncc: float | None = None

    @property
    def is_valid(self) -> bool:
        """Whether the pose was given out for use."""
        return self.state == VALID and self.estimate is not None

    @property
    def is_visible(self) -> bool:
        """Whether the object is known to be there to be found."""
        return self.truth is not None if self.visible is None else self.visible


def summarise(
    records: Sequence[FrameRecord], points: Tensor, diameter: float, symmetries: Tensor | None = None
) -> dict[str, Any]:
    """The figures of a run, JSON-able; None where the records do not tell.

    Only poses in the state ``valid`` count as found: an uncertain one is a miss, as a user must not act on it.

    Args:
        records: one a picture.
        points: (V, 3) of the object's surface in metres; a few thousand are enough.
        diameter: of the object in metres.
        symmetries: (S, 4, 4) where the object has some; then ADD-S takes the place of ADD.
    """
    valid = [r for r in records if r.is_valid]
    visible = [r for r in records if r.is_visible]
    judged = [r for r in visible if r.truth is not None]
    scored = [r for r in judged if r.is_valid]
    estimates, truths = _poses([r.estimate for r in scored]), _poses([r.truth for r in scored])
    symmetric = symmetries is not None and len(symmetries) > 1
    metric = pose_error.adds if symmetric else pose_error.add
    add = metric(estimates, truths, points) / diameter if scored else torch.zeros(0)
    return {
        "frames": {
            "total": len(records),
            "visible": len(visible),
            **{state: sum(r.state == state for r in records) for state in (VALID, "uncertain", "lost")},
        },
        "accuracy": _accuracy(estimates, truths, add, len(judged), "ADD-S" if symmetric else "ADD", symmetries),
        "consistency": _consistency(scored),
        "false_poses": {
            "valid_while_not_visible": sum(r.is_valid for r in records if r.visible is False),
            "valid_beyond_10_percent": int((add > 0.10).sum()),
        },
        "overlap": _overlap(valid, len(records)),
        "latency_ms": _latency(records),
    }


def _poses(poses: Sequence[Pose | None]) -> Pose:
    found = [pose for pose in poses if pose is not None]
    if not found:
        return Pose(torch.zeros(0, 3, 3, dtype=torch.float64), torch.zeros(0, 3, dtype=torch.float64))
    rotation = torch.stack([pose.rotation.detach().cpu().double() for pose in found])
    return Pose(rotation, torch.stack([pose.translation.detach().cpu().double() for pose in found]))


def _accuracy(
    estimates: Pose, truths: Pose, add: Tensor, visible: int, metric: str, symmetries: Tensor | None
) -> dict[str, Any] | None:
    """Recalls are shares of the visible frames; error statistics are over the frames with a valid pose."""
    if visible == 0:
        return None
    figures: dict[str, Any] = {
        "metric": metric,
        "recall_5_percent": int((add < 0.05).sum()) / visible,
        "recall_10_percent": int((add < 0.10).sum()) / visible,
        "auc_10_percent": pose_error.auc(add, 0.10) * len(add) / visible,
        "recall_5cm_5deg": 0.0,
    }
    errors = {
        "rotation_deg": torch.zeros(0),
        "translation_mm": torch.zeros(0),
        f"{metric.lower()}_percent": 100.0 * add,
    }
    if len(add):
        figures["recall_5cm_5deg"] = int(pose_error.within_5cm_5deg(estimates, truths, symmetries).sum()) / visible
        errors["rotation_deg"] = pose_error.rotation_error(estimates, truths, symmetries).rad2deg()
        errors["translation_mm"] = 1000.0 * pose_error.translation_error(estimates, truths, symmetries)
    return figures | {name: _quantiles(values, {"median": 0.5, "p90": 0.9}) for name, values in errors.items()}


def _quantiles(values: Tensor | Sequence[float], wanted: Mapping[str, float]) -> dict[str, float | None]:
    array = np.asarray(values, np.float64)
    return {name: float(np.quantile(array, share)) if array.size else None for name, share in wanted.items()}


def _consistency(scored: Sequence[FrameRecord]) -> dict[str, Any] | None:
    """Of the valid poses that have a covariance and a truth."""
    scored = [r for r in scored if r.covariance is not None]
    if not scored:
        return None
    cov = torch.stack([r.covariance.detach().cpu().double() for r in scored if r.covariance is not None])
    nees = consistency.nees(_poses([r.estimate for r in scored]), cov, _poses([r.truth for r in scored]))
    finite = nees[nees.isfinite()]
    low, high = consistency.anees_bounds(len(nees))
    mean = float(finite.mean()) if len(finite) else None
    return {
        "count": len(nees),
        "invalid_covariances": len(nees) - len(finite),
        "mean_nees": mean,
        "median_nees": float(finite.median()) if len(finite) else None,
        "anees": None if mean is None else mean / consistency.DEGREES_OF_FREEDOM,
        "mean_nees_bounds_95": [low, high],
        "coverage": {f"{level:g}": share for level, share in consistency.coverage(nees, _LEVELS).items()},
    }


def _overlap(valid: Sequence[FrameRecord], frames: int) -> dict[str, Any] | None:
    scores = [r.ncc for r in valid if r.ncc is not None and math.isfinite(r.ncc)]
    if not scores:
        return None
    matches = sum(score > MATCH for score in scores)
    return {
        "threshold": MATCH,
        "share_of_all_frames": matches / frames,
        "share_of_valid_poses": matches / len(scores),
        **_quantiles(scores, {"median": 0.5, "p10": 0.1}),
    }


def _latency(records: Sequence[FrameRecord]) -> dict[str, dict[str, float | None]]:
    stages = dict.fromkeys(stage for r in records for stage in r.latency)  # in the order of their first appearance
    times = {stage: [1000.0 * r.latency[stage] for r in records if stage in r.latency] for stage in stages}
    return {stage: _quantiles(values, {"median": 0.5, "p99": 0.99}) for stage, values in times.items()}


def table(summary: Mapping[str, Any]) -> str:
    """The summary of :func:`summarise` as aligned lines of text, one figure a line."""
    rows = list(_rows(summary))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _rows(summary: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in summary.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            rows += _rows(value, f"{label} / ")
        else:
            rows.append((label, _text(value)))
    return rows


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " .. ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
