"""Weighted robust Levenberg-Marquardt with covariance."""

from __future__ import annotations

import functools

import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels import lm
from pnp_ros.kernels.lm_problem import LMSettings
from pnp_ros.solvers.robust_loss import RobustLoss
from pnp_ros.types import Correspondences, Pose, PoseEstimate


def refine(
    correspondences: Correspondences,
    camera: Camera,
    init: Pose | None,
    loss: RobustLoss,
    *,
    anneal: bool = True,
    max_iterations: int = 50,
    tolerance: float | None = None,
    samples: int = 3000,
) -> PoseEstimate:
    """Minimise the robust reprojection error.

    From a pose, an annealed loss starts wide and narrows, and unless that explains most points it is solved again
    without annealing; the lower cost is kept. Without a pose, samples of three points (P3P) are drawn until a better
    one is improbable, the solution of lowest cost is refined, and a status of ``DEGENERATE`` says that it explains no
    more points than chance would.

    Args:
        correspondences: (..., N, 2) px, (..., N, 3) m, (..., N, 2) 1/px.
        camera: of any model.
        init: (..., 3, 3), (..., 3), or None.
        loss: robust loss.
        anneal: False if ``init`` is known to lie in the basin of ``loss`` itself.
        max_iterations: steps tried in one minimisation.
        tolerance: in standard deviations of the pose; None is 5e-3 for float32 and 1e-7 for float64.
        samples: drawn at most, where ``init`` is None.
    """
    double = correspondences.image_points.dtype == torch.float64
    settings = _settings(
        loss, anneal and init is not None, max_iterations, tolerance, samples if init is None else 0, double
    )
    return lm.solve(correspondences, camera, init, settings)


@functools.lru_cache(maxsize=256)
def _settings(
    loss: RobustLoss, anneal: bool, max_iterations: int, tolerance: float | None, samples: int, double: bool
) -> LMSettings:
    """Cached, because the kernel's launch takes settings anew only when they are another object."""
    anneal_from = loss.schedule_from if anneal else loss.scale
    if tolerance is None:
        tolerance = 1e-7 if double else 5e-3
    return LMSettings(loss.kind, loss.scale, anneal_from, max_iterations, tolerance, samples)


def evaluate(correspondences: Correspondences, camera: Camera, pose: Pose, loss: RobustLoss) -> PoseEstimate:
    """Covariance, inlier weights, cost and status of a given pose, which stays as it is."""
    return refine(correspondences, camera, pose, loss, anneal=False, max_iterations=0)
