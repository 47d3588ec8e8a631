"""How well a package does on held-out images, through the very estimator that users run.

Half of the images calibrates the covariance (:mod:`pnp_ros.pipeline.calibration`), the other half gives the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pnp_ros.evaluation import consistency
from pnp_ros.evaluation.overlay import GREEN, ORANGE, MeshOverlay, contact_sheet
from pnp_ros.evaluation.report import FrameRecord, summarise
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.calibration import CovarianceCalibration, fit_calibration, relative_sigma
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.rendering.validation_frames import ValidationFrame
from pnp_ros.types import Pose

_SURFACE_POINTS = 2000
_VISIBLE = 0.3  # share of the object that must be seen for it to count as there to be found


@dataclass(frozen=True)
class Judged:
    """What the estimator said of an image beside the truth.

    Args:
        record: estimate and truth.
        sigma: of the keypoints, as a share of the object's size in the image; None without a pose.
    """

    record: FrameRecord
    sigma: float | None


def evaluate(
    package: ObjectPackage, images: Iterable[ValidationFrame], device: torch.device | str = "cpu"
) -> list[Judged]:
    """What the estimator says of each image, each searched anew."""
    estimator = PoseEstimator(package, EstimatorConfig(track=False), device)
    return [_judged(estimator, image) for image in images]


def _judged(estimator: PoseEstimator, image: ValidationFrame) -> Judged:
    found = estimator.estimate(image.rgb, image.camera, 0.0)[0]
    solved, package = found.estimate, estimator.package
    truth = None
    if image.T_camera_object is not None:
        truth = Pose.from_matrix(torch.from_numpy(image.T_camera_object).float())
        if solved is not None and not package.symmetry.is_trivial:
            truth = package.symmetry.canonicalise(truth, solved.pose)
    sigma = None
    if solved is not None and found.correspondences is not None:
        sigma = float(relative_sigma(solved.pose, found.correspondences, image.camera, package.diameter))
    record = FrameRecord(
        state=str(found.state),
        estimate=solved.pose if solved else None,
        covariance=solved.covariance if solved else None,
        truth=truth,
        visible=image.visible >= _VISIBLE,
        latency=found.latency,
    )
    return Judged(record, sigma)


def calibrate(judged: Sequence[Judged]) -> CovarianceCalibration:
    """The covariance calibration that suits the valid poses, whose covariances are the solver's own."""
    nees, sigmas = [], []
    for item in judged:
        record = item.record
        if record.is_valid and record.truth is not None and record.covariance is not None and record.estimate:
            nees.append(float(consistency.nees(record.estimate, record.covariance, record.truth)))
            sigmas.append(item.sigma or 0.0)
    return fit_calibration(nees, sigmas)


def summary(package: ObjectPackage, records: Sequence[FrameRecord]) -> dict[str, Any]:
    """The figures, JSON-able."""
    vertices = package.mesh.vertices[:: max(1, len(package.mesh.vertices) // _SURFACE_POINTS)]
    symmetries = None if package.symmetry.is_trivial else package.symmetry.transforms()
    return summarise(records, torch.from_numpy(vertices), package.diameter, symmetries) | {
        "calibration": {key: package.network[f"covariance_{key}"] for key in ("scale", "growth")}
    }


def validation_image(
    package: ObjectPackage, images: Sequence[ValidationFrame], records: Sequence[FrameRecord], count: int = 30
) -> np.ndarray:
    """A sheet of images with the mesh drawn at the estimated pose: green if valid, orange if uncertain."""
    overlay = MeshOverlay(package.mesh)
    cells = []
    for image, record in list(zip(images, records, strict=True))[:count]:
        colour = GREEN if record.is_valid else ORANGE
        drawn = image.rgb
        if record.estimate is not None:
            drawn = overlay.draw(drawn, record.estimate, image.camera, colour)
        cells.append(drawn)
    captions = [record.state if record.truth is not None else f"{record.state} (absent)" for record in records[:count]]
    return contact_sheet(cells, captions=captions)
