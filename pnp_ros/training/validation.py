"""How well a package does on held-out pictures, through the very estimator that users run.

Keypoint errors of one picture are correlated, so the solver's covariance is too small by a factor that only data can
tell. Half of the pictures gives that factor, the other half the figures.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.geometry.covariance import nees
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import ObjectEstimate, PoseEstimator
from pnp_ros.pipeline.gates import ObjectState
from pnp_ros.types import Pose

logger = logging.getLogger(__name__)
_GROSS = 10.0  # times the median NEES: beyond it a pose is a gross error, which no covariance can cover
_MIN_FOR_CALIBRATION = 8
_SCALE_LIMITS = (0.1, 1e3)
DEGREES_OF_FREEDOM = 6


@dataclass(frozen=True, eq=False)
class HeldOutPicture:
    """One picture with its truth.

    Args:
        image: (H, W, 3) uint8 RGB.
        camera: that took it.
        pose: true ``T_camera_object``; None where the object is absent.
        visible: share of the object that is seen, 0 to 1.
    """

    image: np.ndarray
    camera: Camera
    pose: Pose | None
    visible: float


@dataclass(frozen=True)
class PoseScore:
    """One pose against the truth: ADD and translation in metres, rotation in radians."""

    state: ObjectState
    add: float
    rotation_error: float
    translation_error: float
    nees: float


@dataclass(frozen=True)
class Validation:
    """Figures over held-out pictures.

    Args:
        pictures: with the object in them, and ``empty`` those without.
        detected: share of the pictures with a pose (valid or uncertain), and ``valid`` with a valid one.
        false_valid: share of the empty pictures in which a valid pose was reported.
        add_within_10, add_within_5: share of the pictures whose ADD is below 10 % and 5 % of the diameter, lost ones
            counted as failures.
        median_rotation, median_translation: of the poses given, degrees and metres.
        mean_nees: of the valid poses, after calibration; 6 is consistent.
        covariance_scale: the calibration.
        latency: median seconds by stage.
    """

    pictures: int
    empty: int
    detected: float
    valid: float
    false_valid: float
    add_within_10: float
    add_within_5: float
    median_rotation: float
    median_translation: float
    mean_nees: float
    covariance_scale: float
    latency: dict[str, float]

    def table(self) -> list[tuple[str, str]]:
        """Rows of name and value to print."""
        return [
            ("pictures (empty ones)", f"{self.pictures} ({self.empty})"),
            ("pose found, valid", f"{self.detected:.1%}, {self.valid:.1%}"),
            ("valid though absent", f"{self.false_valid:.1%}"),
            ("ADD < 10 %, < 5 %", f"{self.add_within_10:.1%}, {self.add_within_5:.1%}"),
            ("median rotation error", f"{self.median_rotation:.2f} deg"),
            ("median translation error", f"{1e3 * self.median_translation:.1f} mm"),
            ("mean NEES (6 is right)", f"{self.mean_nees:.1f}"),
            ("covariance scale", f"{self.covariance_scale:.2f}"),
            ("latency", ", ".join(f"{stage} {1e3 * value:.1f} ms" for stage, value in self.latency.items())),
        ]


def validate(
    package: ObjectPackage, pictures: Iterable[HeldOutPicture], device: torch.device | str = "cpu"
) -> tuple[Validation, list[ObjectEstimate]]:
    """Figures of a package as it is; each picture is searched anew, without tracking."""
    estimator = PoseEstimator(package, EstimatorConfig(track=False), device)
    estimates, scores, empty_states, count = [], [], [], 0
    for picture in pictures:
        estimate = estimator.estimate(picture.image, picture.camera, 0.0)[0]
        estimates.append(estimate)
        if picture.pose is None:
            empty_states.append(estimate.state)
            continue
        count += 1
        if estimate.estimate is not None:
            scores.append(_score(estimate, picture.pose, package))
    return _figures(package, estimates, scores, empty_states, count), estimates


def calibrate(package: ObjectPackage, pictures: Iterable[HeldOutPicture], device: torch.device | str = "cpu") -> float:
    """The covariance scale that makes the mean NEES of the package's valid poses 6.

    The package's present scale is included; with too few valid poses it is returned unchanged.
    """
    present = float(package.network["covariance_scale"])
    estimator = PoseEstimator(package, EstimatorConfig(track=False), device)
    scores = []
    for picture in pictures:
        estimate = estimator.estimate(picture.image, picture.camera, 0.0)[0]
        if picture.pose is not None and estimate.estimate is not None:
            scores.append(_score(estimate, picture.pose, package))
    values = np.array([score.nees for score in scores if score.state is ObjectState.VALID])
    if len(values) < _MIN_FOR_CALIBRATION:
        logger.warning("only %d valid poses: the covariance stays as the solver gives it", len(values))
        return present
    trusted = values[values <= _GROSS * np.median(values)]
    return float(np.clip(present * trusted.mean() / DEGREES_OF_FREEDOM, *_SCALE_LIMITS))


def _score(estimate: ObjectEstimate, truth: Pose, package: ObjectPackage) -> PoseScore:
    assert estimate.estimate is not None
    pose, covariance = estimate.estimate.pose, estimate.estimate.covariance
    truth = Pose(truth.rotation.to(pose.rotation), truth.translation.to(pose.translation))
    if not package.symmetry.is_trivial:
        truth = package.symmetry.canonicalise(truth, pose)
    points = torch.from_numpy(package.mesh.vertices[:: max(1, len(package.mesh.vertices) // 500)])
    return PoseScore(
        state=estimate.state,
        add=float((pose.transform(points) - truth.transform(points)).norm(dim=-1).mean()),
        rotation_error=float(so3.angle_between(pose.rotation, truth.rotation)),
        translation_error=float((pose.translation - truth.translation).norm()),
        nees=float(nees(se3.local(pose, truth), covariance)),
    )


def _figures(
    package: ObjectPackage,
    estimates: Sequence[ObjectEstimate],
    scores: Sequence[PoseScore],
    empty_states: Sequence[ObjectState],
    count: int,
) -> Validation:
    valid = [score for score in scores if score.state is ObjectState.VALID]
    share = 1.0 / max(1, count)
    stages = estimates[0].latency if estimates else {}
    return Validation(
        pictures=count,
        empty=len(empty_states),
        detected=len(scores) * share,
        valid=len(valid) * share,
        false_valid=sum(state is ObjectState.VALID for state in empty_states) / max(1, len(empty_states)),
        add_within_10=sum(score.add < 0.10 * package.diameter for score in scores) * share,
        add_within_5=sum(score.add < 0.05 * package.diameter for score in scores) * share,
        median_rotation=math.degrees(_median([score.rotation_error for score in scores])),
        median_translation=_median([score.translation_error for score in scores]),
        mean_nees=float(np.mean([score.nees for score in valid])) if valid else 0.0,
        covariance_scale=float(package.network["covariance_scale"]),
        latency={stage: _median([estimate.latency[stage] for estimate in estimates]) for stage in stages},
    )


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if len(values) else 0.0
