"""Weighted robust Levenberg-Marquardt with covariance, from an initial pose."""

from __future__ import annotations

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels import lm
from pnp_ros.kernels.lm_problem import LMSettings
from pnp_ros.kernels.robust import RobustKind
from pnp_ros.solvers.robust_loss import RobustLoss
from pnp_ros.types import Correspondences, Pose, PoseEstimate


def refine(
    correspondences: Correspondences,
    camera: Camera,
    init: Pose,
    loss: RobustLoss,
    *,
    anneal: bool = True,
    max_iterations: int = 30,
    tolerance: float | None = None,
) -> PoseEstimate:
    """Minimise the robust reprojection error from ``init``.

    An annealed loss is solved twice, from its wide scale and from its own (through a Cauchy loss, whose basin is
    wide), and the lower cost is kept: annealing withstands more outliers, a fixed loss a worse start.

    Args:
        correspondences: (..., N, 2) px, (..., N, 3) m, (..., N, 2) 1/px.
        camera: of any model.
        init: (..., 3, 3), (..., 3).
        loss: robust loss.
        anneal: False if ``init`` is known to lie in the basin of ``loss`` itself.
        max_iterations: steps tried in one solve.
        tolerance: in standard deviations of the pose; None is 1e-3 for float32 and 1e-7 for float64.
    """
    if tolerance is None:
        tolerance = 1e-3 if correspondences.image_points.dtype == torch.float32 else 1e-7

    def run(start: Pose, kind: RobustKind, scale: float, anneal_from: float) -> PoseEstimate:
        return lm.solve(correspondences, camera, start, LMSettings(kind, scale, anneal_from, max_iterations, tolerance))

    if not anneal or loss.schedule_from <= loss.scale:
        return run(init, loss.kind, loss.scale, loss.scale)
    annealed = run(init, loss.kind, loss.scale, loss.schedule_from)
    wide = run(init, RobustKind.CAUCHY, loss.scale, loss.scale)
    fixed = run(wide.pose, loss.kind, loss.scale, loss.scale)
    return select(annealed.usable & ~((fixed.cost < annealed.cost) & fixed.usable), annealed, fixed)


def evaluate(correspondences: Correspondences, camera: Camera, pose: Pose, loss: RobustLoss) -> PoseEstimate:
    """Covariance, inlier weights, cost and status of a given pose, which stays as it is."""
    return refine(correspondences, camera, pose, loss, anneal=False, max_iterations=0)


def select(condition: Tensor, a: PoseEstimate, b: PoseEstimate) -> PoseEstimate:
    """``a`` where the condition (...) holds, else ``b``."""

    def pick(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(condition.reshape(condition.shape + (1,) * (x.ndim - condition.ndim)), x, y)

    return PoseEstimate(
        Pose(pick(a.pose.rotation, b.pose.rotation), pick(a.pose.translation, b.pose.translation)),
        pick(a.covariance, b.covariance),
        pick(a.inlier_weights, b.inlier_weights),
        pick(a.cost, b.cost),
        pick(a.status, b.status),
    )
