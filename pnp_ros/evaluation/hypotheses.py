"""Whether hypotheses tell the truth: is the true pose among them, and as often the right one as they say?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.evaluation import consistency
from pnp_ros.evaluation.svg import BLUE, GREEN, legend, svg_of
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.result import FrameResult

RIGHT = 0.1  # of the diameter: ADD of a pose that counts as the true one,
_REGION = 22.5  # or its NEES: 99.9 % of consistent estimates. Far off, depth is known no better
_BINS = np.array([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])


def true_hypothesis(record: FrameResult, points: Tensor, diameter: float) -> int | None:
    """Which of a record's hypotheses is the true pose; None if none of them is.

    Args:
        record: with a truth.
        points: (V, 3) of the object's surface, metres.
        diameter: of the object, metres.
    """
    assert record.truth is not None
    truth = record.truth.to("cpu", points.dtype)
    errors = []
    for hypothesis in record.hypotheses:
        pose = hypothesis.pose.to("cpu", points.dtype)
        inside = float(consistency.nees(pose, hypothesis.covariance.to(points), truth)) <= _REGION
        away = (pose.transform(points) - truth.transform(points)).norm(dim=-1).mean()
        errors.append(0.0 if inside else float(away) / diameter)
    best = int(np.argmin(errors))
    return best if errors[best] < RIGHT else None


def told_and_true(
    records: Sequence[FrameResult], points: Tensor, diameter: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_], int, int]:
    """Of all hypotheses: probability and whether it was the true pose, both (H). Images with some, with the truth."""
    said: list[float] = []
    was: list[bool] = []
    images = among = 0
    for record in records:
        if record.hypotheses and record.truth is not None:
            true = true_hypothesis(record, points, diameter)
            images, among = images + 1, among + (true is not None)
            said += [h.probability for h in record.hypotheses]
            was += [k == true for k in range(len(record.hypotheses))]
    return np.array(said, np.float64), np.array(was, np.bool_), images, among


def figures(records: Sequence[FrameResult], points: Tensor, diameter: float) -> dict[str, Any] | None:
    """Of the images in which several poses were told and the true one is known; None without any.

    The calibration error is the mean difference of told probability and share of right ones, over bins.
    """
    said, was, images, among = told_and_true(records, points, diameter)
    if not images:
        return None
    bins = _binned(said, was)
    return {
        "images": images,
        "poses_an_image": len(said) / images,
        "truth_among": among / images,
        "told_of_the_truth": float(said[was].mean()) if was.any() else None,
        "calibration_error": float(sum(count * abs(told - right) for told, right, count in bins) / len(said)),
    }


def _binned(said: NDArray[np.float64], was: NDArray[np.bool_]) -> list[tuple[float, float, int]]:
    """Mean probability, share that was right and number of the hypotheses in each bin that has some."""
    place = np.digitize(said, _BINS[1:-1])
    inside = [place == k for k in range(len(_BINS) - 1)]
    return [(float(said[i].mean()), float(was[i].mean()), int(i.sum())) for i in inside if i.any()]


def reliability_plots(records: Sequence[FrameResult], package: ObjectPackage) -> list[tuple[str, str]]:
    """Title and SVG: told probability against the share that was right; none where there is nothing to draw."""
    points = torch.from_numpy(package.mesh.extreme_points)
    said, was, images, _ = told_and_true(records, points, package.diameter)

    def draw(axes: Axes) -> bool:
        told, right, count = np.array(_binned(said, was)).T
        spread = np.sqrt(np.maximum(told * (1.0 - told), 1e-4) / count)  # of the share, if the probabilities are true
        axes.plot([0, 1], [0, 1], color=GREEN, lw=1, label="calibrated")
        label = f"{len(said)} poses in {images} images, with 2 sigma"
        axes.errorbar(told, right, 2.0 * spread, fmt="o", color=BLUE, capsize=3, label=label)
        axes.set(xlabel="probability told", ylabel="share that was right", xlim=(0, 1), ylim=(-0.05, 1.05))
        legend(axes)
        return True

    svg = svg_of(draw) if images else None
    return [] if svg is None else [("Hypotheses: reliability", svg)]
