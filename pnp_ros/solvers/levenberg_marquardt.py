"""Weighted robust Levenberg-Marquardt with covariance."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels import lm
from pnp_ros.kernels.lm_problem import LMSettings
from pnp_ros.kernels.pose_prior import PosePrior
from pnp_ros.solvers.robust_loss import RobustLoss
from pnp_ros.types import Correspondences, Pose, PoseEstimate


@dataclass(frozen=True)
class LevenbergMarquardt:
    """How a pose is refined.

    Args:
        max_iterations: steps tried in one minimisation; 0 judges the initial pose as it is.
        tolerance: in standard deviations of the pose; None is 5e-3 for float32 and 1e-7 for float64.
        samples: of three points, drawn at most where no initial pose is given.

    Raises:
        ValueError: if a field is out of range; the message names it.
    """

    max_iterations: int = 50
    tolerance: float | None = None
    samples: int = 80_000

    def __post_init__(self) -> None:
        if self.max_iterations < 0:
            raise ValueError(f"max_iterations: expected 0 or more, got {self.max_iterations}")
        if self.tolerance is not None and not (math.isfinite(self.tolerance) and self.tolerance > 0):
            raise ValueError(f"tolerance: expected a positive number of deviations or None, got {self.tolerance}")
        if self.samples < 1:
            raise ValueError(f"samples: expected 1 or more, got {self.samples}")


def refine(
    correspondences: Correspondences,
    camera: Camera,
    init: Pose | None,
    loss: RobustLoss,
    solver: LevenbergMarquardt | None = None,
    *,
    anneal: bool = True,
    accept: bool = True,
    prior: PoseEstimate | PosePrior | None = None,
    likelihood: Tensor | None = None,
) -> PoseEstimate:
    """Minimise the robust reprojection error.

    From a pose, an annealed loss starts wide and narrows, and unless that explains most points it is solved again
    without annealing; the lower cost is kept. Without a pose, samples of three points (P3P) are drawn until a better
    one is improbable, the solution of lowest cost is refined, and a status of ``DEGENERATE`` says that it explains no
    more points than chance would.

    Args:
        correspondences: (..., N, 2) px, (..., N, 3) m, (..., N, 2) or (..., N, 2, 2) 1/px.
        camera: of any model; it follows the correspondences' dtype and device.
        init: (..., 3, 3), (..., 3), or None.
        loss: robust loss.
        solver: limits; None takes the defaults.
        anneal: False if ``init`` is known to lie in the basin of ``loss`` itself.
        accept: False for a step on the way to a solution: the pose is not judged, and no other sought.
        prior: pose and covariance whose residual joins the points'.
        likelihood: (..., N) how probably each point is an inlier; guides the samples.
    """
    like = correspondences.image_points
    settings = _settings(solver or _DEFAULT, loss, anneal, like.dtype is torch.float64, accept)
    before = PosePrior.of(prior, like) if isinstance(prior, PoseEstimate) else prior
    return lm.solve(correspondences, camera, init, settings, prior=before, likelihood=likelihood)


_DEFAULT = LevenbergMarquardt()


@functools.lru_cache(maxsize=256)
def _settings(solver: LevenbergMarquardt, loss: RobustLoss, anneal: bool, double: bool, accept: bool) -> LMSettings:
    """Cached, because the kernel's launch takes settings anew only when they are another object."""
    anneal_from = loss.schedule_from if anneal else loss.scale
    tolerance = solver.tolerance if solver.tolerance is not None else (1e-7 if double else 5e-3)
    return LMSettings(loss.kind, loss.scale, anneal_from, solver.max_iterations, tolerance, solver.samples, accept)
