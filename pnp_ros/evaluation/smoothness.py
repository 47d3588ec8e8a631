"""How smoothly the estimated poses move, where no truth is known.

The second difference of three poses at equal intervals is their deviation from a constant velocity. What is left of it
when the motion is slow against the rate is the errors of the three poses; over their covariance it should then be
chi-square distributed. Real accelerations only add to it: a value well below 1 means covariances that are too large, or
errors that successive frames share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pnp_ros.evaluation.frame_errors import as_double
from pnp_ros.geometry import covariance, se3
from pnp_ros.pipeline.result import FrameResult

_INTERVAL_TOLERANCE = 0.2  # of the interval: beyond it a frame is missing between


def second_differences(records: Sequence[FrameResult]) -> tuple[Tensor, Tensor]:
    """Second differences (M, 6) [dt, dtheta] in camera axes of each three successive valid poses, and their (M, 6, 6)
    covariances if the three errors are independent; zeros where a covariance is missing."""
    differences, covariances = [], []
    for before, middle, after in zip(records, records[1:], records[2:]):
        if not (before.is_valid and middle.is_valid and after.is_valid and _even(before, middle, after)):
            continue
        poses = [as_double(r.pose) for r in (before, middle, after) if r.pose is not None]
        differences.append(se3.local(poses[1], poses[0]) + se3.local(poses[1], poses[2]))
        parts = [r.covariance.detach().cpu().double() for r in (before, middle, after) if r.covariance is not None]
        zero = torch.zeros(6, 6, dtype=torch.float64)
        covariances.append(parts[0] + 4.0 * parts[1] + parts[2] if len(parts) == 3 else zero)
    if not differences:
        return torch.zeros(0, 6, dtype=torch.float64), torch.zeros(0, 6, 6, dtype=torch.float64)
    return torch.stack(differences), torch.stack(covariances)


def _even(before: FrameResult, middle: FrameResult, after: FrameResult) -> bool:
    if before.stamp is None or middle.stamp is None or after.stamp is None:
        return True
    first, second = middle.stamp - before.stamp, after.stamp - middle.stamp
    return first > 0 and abs(second - first) <= _INTERVAL_TOLERANCE * first


def smoothness(records: Sequence[FrameResult]) -> dict[str, Any] | None:
    """Quantiles of the second differences, and their mean squared size over their covariance per degree of freedom.

    None with fewer than three successive valid poses.
    """
    differences, covariances = second_differences(records)
    if not len(differences):
        return None
    normalised = covariance.nees(differences, covariances)
    finite = normalised[normalised.isfinite()]
    translation, rotation = 1000.0 * differences[:, :3].norm(dim=-1), differences[:, 3:].norm(dim=-1).rad2deg()
    return {
        "count": len(differences),
        "translation_mm": _median_and_tail(translation),
        "rotation_deg": _median_and_tail(rotation),
        "normalised_median": float(finite.quantile(0.5)) / 6.0 if len(finite) else None,
    }


def _median_and_tail(values: Tensor) -> dict[str, float]:
    return {name: float(np.quantile(values.numpy(), share)) for name, share in (("median", 0.5), ("p90", 0.9))}
