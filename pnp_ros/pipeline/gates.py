"""Whether a solved pose may be trusted: valid, uncertain or lost, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.pipeline.calibration import relative_sigma
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.sources.source import Sighting
from pnp_ros.types import Correspondences, PoseEstimate, SolveStatus

_INLIER_WEIGHT = 0.5  # a Cauchy weight of a half means: one scale away


@dataclass(frozen=True)
class Verdict:
    """A state and, unless it is valid, the reason in words."""

    state: ObjectState
    reason: str = ""


def reduced_chi_square(estimate: PoseEstimate, correspondences: Correspondences, camera: Camera) -> Tensor:
    """(...) robustly weighted mean squared whitened residual per degree of freedom; about 1 if all is right."""
    residual = camera.project(estimate.pose.transform(correspondences.object_points)) - correspondences.image_points
    squared = correspondences.whiten(residual).square().sum(-1)
    freedom = (correspondences.residual_count * estimate.inlier_weights).sum(-1) - 6.0
    return (squared * estimate.inlier_weights).sum(-1) / freedom.clamp_min(1.0)


def judge(
    estimate: PoseEstimate, sighting: Sighting, camera: Camera, diameter: float, config: EstimatorConfig
) -> Verdict:
    """Check one pose against the correspondences that it was solved from (no batch dimensions).

    Args:
        estimate: with its calibrated covariance.
        sighting: what it was solved from; asked before by :func:`absent`, which spares the solve.
        camera: of the whole image.
        diameter: of the object, metres.
        config: thresholds.
    """
    presence, correspondences = sighting.score, sighting.correspondences
    lost = _lost_reason(estimate, sighting, diameter, config)
    if lost:
        return Verdict(ObjectState.LOST, lost)
    if presence < config.valid_presence:
        return _uncertain(f"presence {presence:.2f} is below {config.valid_presence:.2f}")
    count = int((estimate.inlier_weights > _INLIER_WEIGHT).sum())
    if sighting.matched:
        if count < config.valid_matches:
            return _uncertain(f"{count} matches agree, expected at least {config.valid_matches}")
        return judge_covariance(estimate, config)
    needed = config.valid_inliers * estimate.inlier_weights.shape[-1]
    if count < needed:
        return _uncertain(f"{count} keypoints agree, expected at least {needed:.0f}")
    chi_square = float(reduced_chi_square(estimate, correspondences, camera))
    if not chi_square <= config.max_chi_square:
        return _uncertain(f"reduced chi-square {chi_square:.1f} is above {config.max_chi_square:.1f}")
    sigma = float(relative_sigma(estimate.pose, correspondences, camera, diameter, sighting.dense))
    if not sigma <= config.max_keypoint_sigma:
        return _uncertain(f"keypoint sigma {sigma:.3f} of the object's size is above {config.max_keypoint_sigma:.3f}")
    return judge_covariance(estimate, config)


def judge_covariance(estimate: PoseEstimate, config: EstimatorConfig) -> Verdict:
    """Valid if the pose is known well enough to be of use."""
    covariance = estimate.covariance.detach().cpu().numpy()
    blocks = covariance[:3, :3], covariance[3:, 3:]
    sigma_translation, sigma_rotation = (math.sqrt(max(float(np.linalg.eigvalsh(b)[-1]), 0.0)) for b in blocks)
    if not sigma_rotation <= config.max_rotation_sigma:
        return _uncertain(f"rotation sigma {sigma_rotation:.2f} rad is above {config.max_rotation_sigma:.2f}")
    allowed = config.max_translation_sigma * math.hypot(*estimate.pose.translation.tolist())
    if not sigma_translation <= allowed:
        return _uncertain(f"translation sigma {sigma_translation:.3f} m is above {allowed:.3f}")
    return Verdict(ObjectState.VALID)


def absent(sighting: Sighting, config: EstimatorConfig) -> str:
    """Why the object is not where it was looked for, in words; empty if it may be."""
    if sighting.score >= config.lost_presence:
        return ""
    return f"object absent: presence {sighting.score:.2f} is below {config.lost_presence:.2f}"


def _lost_reason(estimate: PoseEstimate, sighting: Sighting, diameter: float, config: EstimatorConfig) -> str:
    if not bool(estimate.usable):
        return f"no pose: {SolveStatus(int(estimate.status)).name.lower().replace('_', ' ')}"
    values = (estimate.pose.rotation, estimate.pose.translation, estimate.covariance)
    if not all(bool(torch.isfinite(value).all()) for value in values):
        return "no pose: not finite"
    count = int((estimate.inlier_weights > _INLIER_WEIGHT).sum())
    what, needed = ("matches", config.min_matches) if sighting.matched else ("keypoints", config.min_inliers)
    if count < needed:
        return f"only {count} {what} agree, expected at least {needed}"
    distance = float(estimate.pose.translation[2])
    low, high = config.min_distance * diameter, config.max_distance * diameter
    if not low <= distance <= high:
        return f"implausible distance {distance:.3f} m, expected {low:.3f} to {high:.3f}"
    return ""


def _uncertain(reason: str) -> Verdict:
    return Verdict(ObjectState.UNCERTAIN, reason)
