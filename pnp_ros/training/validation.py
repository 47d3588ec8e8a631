"""How well a package does on held-out images, through the very estimator that users run.

Half of the images calibrates the covariance (:mod:`pnp_ros.pipeline.calibration`), the other half gives the figures.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pnp_ros.evaluation import consistency
from pnp_ros.evaluation.evaluator import evaluate_one
from pnp_ros.evaluation.frames import Frame
from pnp_ros.evaluation.overlay import GREEN, ORANGE, MeshOverlay, contact_sheet
from pnp_ros.evaluation.report import measure
from pnp_ros.evaluation.told import running
from pnp_ros.evaluation.truth import Truth
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.calibration import CovarianceCalibration
from pnp_ros.pipeline.calibration_fit import fit_calibration
from pnp_ros.pipeline.config import NETWORKS_ALONE, EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import FrameResult
from pnp_ros.rendering.validation_frames import ValidationFrame
from pnp_ros.types import Pose

_USABLE, _GOOD = 0.5, 0.75  # recall on held-out renders, which are harder than most cameras' images
_SEARCH = EstimatorConfig(track=False)
FEWEST = 25  # images that are enough to tell whatever the time
SEEN = 0.3  # share of the object that must be visible in a render for a miss to count


@dataclass(frozen=True)
class Verdict:
    """Whether a trained object can be used, one line that says so, and in how many minutes it would be better."""

    usable: bool
    text: str
    minutes: float | None = None


def verdict(figures: Mapping[str, Any], minutes: float) -> Verdict:
    """What the held-out images say of a training that took so many ``minutes``."""
    recall = figures["accuracy"]["recall_10_percent"] or 0.0
    found = f"{recall:.0%} of the held-out images have a valid pose within 10 % of the diameter"
    longer = max(20.0, 2.0 * minutes)
    if recall < _USABLE:
        return Verdict(False, f"not usable yet: {found}", longer)
    if recall < _GOOD:
        return Verdict(True, f"usable, and more training would help: {found}", longer)
    return Verdict(True, f"usable: {found}")


def judged(
    package: ObjectPackage,
    images: Sequence[ValidationFrame],
    device: torch.device | str = "cpu",
    seen: Callable[[], None] = lambda: None,
    config: EstimatorConfig = _SEARCH,
    until: float = math.inf,
) -> list[FrameResult]:
    """The estimator's result for each image by itself, beside the truth; ``seen`` is called after each.

    No image is begun after the time ``until`` (``time.monotonic``), but for the :data:`FEWEST` first.
    """
    estimator = PoseEstimator(package, config, device)

    def truth_of(frame: Frame) -> Truth:
        seen()
        image = images[frame.image_id]
        known = image.T_camera_object
        pose = None if known is None else Pose.from_matrix(torch.from_numpy(known).float())
        return Truth(pose, image.visible >= SEEN)

    within_time = itertools.takewhile(lambda each: each[0] < FEWEST or time.monotonic() < until, enumerate(images))
    frames = (Frame(index, index, image.rgb, image.camera) for index, image in within_time)
    return evaluate_one(frames, package, running(estimator), truth_of).records


def calibrate(
    package: ObjectPackage,
    images: Sequence[ValidationFrame],
    device: torch.device | str = "cpu",
    seen: Callable[[], None] = lambda: None,
    until: float = math.inf,
) -> CovarianceCalibration:
    """The covariance calibration that suits the valid poses of a package which has none yet."""
    records = judged(package, images, device, seen, NETWORKS_ALONE, until)
    nees, doubts = [], []
    for record in records:
        if (
            record.is_valid
            and record.truth is not None
            and record.covariance is not None
            and record.pose
            and record.doubt
        ):
            nees.append(float(consistency.nees(record.pose, record.covariance, record.truth)))
            doubts.append(record.doubt)
    return fit_calibration(nees, doubts)


def summary(package: ObjectPackage, records: Sequence[FrameResult]) -> dict[str, Any]:
    """The figures, JSON-able."""
    return measure(records, package)[0] | {"calibration": dict(package.calibration)}


def validation_image(
    package: ObjectPackage, images: Sequence[ValidationFrame], records: Sequence[FrameResult], count: int = 30
) -> np.ndarray:
    """A sheet of images with the mesh drawn at the estimated pose: green if valid, orange if uncertain."""
    overlay = MeshOverlay(package.mesh)
    cells = []
    for image, record in list(zip(images, records, strict=True))[:count]:
        colour = GREEN if record.is_valid else ORANGE
        drawn = image.rgb
        if record.pose is not None:
            drawn = overlay.draw(drawn, record.pose, image.camera, colour)
        cells.append(drawn)
    captions = [record.state if record.truth is not None else f"{record.state} (absent)" for record in records[:count]]
    return contact_sheet(cells, captions=captions)
