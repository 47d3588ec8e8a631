"""What goes into a Levenberg-Marquardt solve and what comes out, common to all implementations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels.pose_prior import PosePrior
from pnp_ros.kernels.robust import RobustKind

BEHIND_PENALTY = 4.0  # focal lengths of residual per axis for a point that the camera cannot see
MIN_PIVOT = {torch.float32: 1e-5, torch.float64: 1e-12}  # of the scaled information matrix; below it is singular
ROUNDING = 16, 128, 1024, 8192  # units in the last place that variances grow by, one after another, to be a covariance
MIN_PIVOT_WITH_PRIOR = {torch.float32: 1e-6, torch.float64: 1e-13}  # the prior fills in what the points do not tell
LAMBDA_START, LAMBDA_MIN, LAMBDA_MAX = 1e-3, 1e-7, 1e7
GOOD_COST = 0.25  # of scale^2 a point: an annealed solve below this (half of Geman-McClure's bound) is not tried again
SECOND = 49  # numbers of a second hypothesis: rotation, translation, covariance, probability
ANNEAL_STEPS = 8  # accepted steps from the first scale to the last


@dataclass(frozen=True)
class LMSettings:
    """How to solve.

    Args:
        kind: the robust loss.
        scale: its scale in standard deviations.
        anneal_from: the scale of the first step; it falls geometrically to ``scale`` over ``ANNEAL_STEPS`` steps.
        max_iterations: steps tried, accepted or not.
        tolerance: the solve has converged when the Newton step is shorter than this many standard deviations of the
            pose (a Mahalanobis length, so units do not matter).
        samples: of three points, drawn at most where no initial pose is given, or the given one leads to none that
            explains half of the points, or a third beyond doubt; 0: none.
        accept: whether the pose is judged, and another one sought that may be the right one; a step on the way to a
            solution does without.
    """

    kind: RobustKind = RobustKind.GAUSSIAN
    scale: float = 1.0
    anneal_from: float = 1.0
    max_iterations: int = 50
    tolerance: float = 5e-3
    samples: int = 0
    accept: bool = True


@dataclass(frozen=True, eq=False)
class LMProblem:
    """A flat batch of problems.

    Args:
        image_points: (B, N, 2) pixels.
        object_points: (B, N, 3) metres.
        weights: (B, N, 2, 2) square-root information, 1/px.
        camera: intrinsics (4,) or (B, 4).
        rotation: (B, 3, 3) initial rotation.
        translation: (B, 3) initial translation, metres.
        prior: on the pose, or None.
    """

    image_points: Tensor
    object_points: Tensor
    weights: Tensor
    camera: Camera
    rotation: Tensor
    translation: Tensor
    prior: PosePrior | None = None

    @property
    def used(self) -> Tensor:
        """(B, N) bool: whether a point has a weight."""
        return (self.weights != 0).flatten(-2).any(-1)

    @property
    def weight_columns(self) -> Tensor:
        """(B, N, 2) 1/px: how much a weight tells of u and of v, the lengths of its columns."""
        return self.weights.norm(dim=-2)


@dataclass(frozen=True, eq=False)
class LMResult:
    """rotation (B, 3, 3), translation (B, 3), covariance (B, 6, 6), inlier_weights (B, N), cost (B), status (B)."""

    rotation: Tensor
    translation: Tensor
    covariance: Tensor
    inlier_weights: Tensor
    cost: Tensor
    status: Tensor
