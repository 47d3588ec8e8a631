"""How well a package does on held-out pictures, through the very estimator that users run.

Keypoint errors of one picture are correlated, so the solver's covariance is too small by a factor that only data can
tell. Half of the pictures gives that factor, the other half the figures.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from pnp_ros.evaluation import consistency
from pnp_ros.evaluation.overlay import GREEN, ORANGE, MeshOverlay, contact_sheet
from pnp_ros.evaluation.report import FrameRecord, summarise
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.rendering.validation_frames import ValidationFrame
from pnp_ros.types import Pose

logger = logging.getLogger(__name__)
_SURFACE_POINTS = 2000
_GROSS = 10.0  # times the median NEES: beyond it a pose is a gross error, which no covariance can cover
_MIN_FOR_CALIBRATION = 8
_SCALE_LIMITS = (0.1, 1e3)
_VISIBLE = 0.3  # share of the object that must be seen for it to count as there to be found


def evaluate(
    package: ObjectPackage, pictures: Iterable[ValidationFrame], device: torch.device | str = "cpu"
) -> list[FrameRecord]:
    """What the estimator says of each picture, each searched anew, beside the truth."""
    estimator = PoseEstimator(package, EstimatorConfig(track=False), device)
    return [_record(estimator, picture) for picture in pictures]


def _record(estimator: PoseEstimator, picture: ValidationFrame) -> FrameRecord:
    found = estimator.estimate(picture.rgb, picture.camera, 0.0)[0]
    truth, symmetry = None, estimator.package.symmetry
    if picture.T_camera_object is not None:
        truth = Pose.from_matrix(torch.from_numpy(picture.T_camera_object).float())
        if found.estimate is not None and not symmetry.is_trivial:
            truth = symmetry.canonicalise(truth, found.estimate.pose)
    return FrameRecord(
        state=str(found.state),
        estimate=found.estimate.pose if found.estimate else None,
        covariance=found.estimate.covariance if found.estimate else None,
        truth=truth,
        visible=picture.visible >= _VISIBLE,
        latency=found.latency,
    )


def covariance_factor(records: Sequence[FrameRecord]) -> float:
    """The factor on the covariances that makes the mean NEES of the valid poses 6; 1 with too few poses to tell."""
    values = []
    for record in records:
        if record.is_valid and record.truth is not None and record.covariance is not None and record.estimate:
            estimate = Pose(record.estimate.rotation.double(), record.estimate.translation.double())
            truth = Pose(record.truth.rotation.double(), record.truth.translation.double())
            values.append(float(consistency.nees(estimate, record.covariance.double(), truth)))
    nees = np.array([value for value in values if np.isfinite(value)])
    if len(nees) < _MIN_FOR_CALIBRATION:
        logger.warning("only %d valid poses: the covariance stays as the solver gives it", len(nees))
        return 1.0
    trusted = nees[nees <= _GROSS * np.median(nees)]
    return float(np.clip(trusted.mean() / consistency.DEGREES_OF_FREEDOM, *_SCALE_LIMITS))


def summary(package: ObjectPackage, records: Sequence[FrameRecord]) -> dict[str, Any]:
    """The figures, JSON-able."""
    vertices = package.mesh.vertices[:: max(1, len(package.mesh.vertices) // _SURFACE_POINTS)]
    symmetries = None if package.symmetry.is_trivial else package.symmetry.transforms()
    return summarise(records, torch.from_numpy(vertices), package.diameter, symmetries) | {
        "covariance_scale": package.network["covariance_scale"]
    }


def validation_picture(
    package: ObjectPackage, pictures: Sequence[ValidationFrame], records: Sequence[FrameRecord], count: int = 30
) -> np.ndarray:
    """A sheet of pictures with the mesh drawn at the estimated pose: green if valid, orange if uncertain."""
    overlay = MeshOverlay(package.mesh)
    cells = []
    for picture, record in list(zip(pictures, records, strict=True))[:count]:
        colour = GREEN if record.is_valid else ORANGE
        drawn = picture.rgb
        if record.estimate is not None:
            drawn = overlay.draw(drawn, record.estimate, picture.camera, colour)
        cells.append(drawn)
    captions = [record.state if record.truth is not None else f"{record.state} (absent)" for record in records[:count]]
    return contact_sheet(cells, captions=captions)
