"""The weights' common scale from the residuals: how many standard deviations a stated one really is.

The scale ``s`` solves ``sum w(x) x = (E[w x] / E[w]) sum w(x) (1 - p / m)`` with ``x = r^2 / s^2``: the weighted mean
of the squared residuals is what it is for Gaussian noise, less what the fit of p parameters to m residuals took off
(Huber, "Robust Statistics", 1981, chapter 7; for a Gaussian loss the classical ``sum r^2 / (m - p)``). Pose and scale
are solved for in turn, as GMLPnP does (arXiv 2408.01945). The weights may be wrong by about ten; from a start without
a pose, a robust loss must at least find some inliers with them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels import robust
from pnp_ros.solvers.robust_loss import RobustLoss
from pnp_ros.types import Correspondences, PoseEstimate

ROUNDS = 4  # of pose and scale in turn
_STEPS = 20  # towards the scale at one pose
_LIMITS = (1e-3, 1e3)


@torch.no_grad()
def noise_scale(correspondences: Correspondences, camera: Camera, estimate: PoseEstimate, loss: RobustLoss) -> Tensor:
    """The scale (...), 1 where the weights are right; 2 where the noise is twice what they say.

    Args:
        correspondences: (..., N).
        camera: of any model.
        estimate: the pose, at a minimum of the cost.
        loss: its robust loss.
    """
    used = correspondences.has_weight
    points = torch.where(used[..., None], correspondences.object_points, 0.0)
    camera = camera.to(points.device, points.dtype)
    offset = camera.project(estimate.pose.transform(points)) - correspondences.image_points
    squared = torch.where(used, correspondences.whiten(offset).square().sum(-1), 0.0).nan_to_num(1e12).double()
    counts = correspondences.residual_count.double()
    expected, usual = torch.ones_like(counts), torch.ones_like(counts)
    for residuals in (1, 2):
        gaussian = robust.mean_square(loss.kind, loss.scale, residuals)
        expected = torch.where(counts == residuals, gaussian, expected)
        mean_weight = robust.calibration(loss.kind, loss.scale, residuals).mean_weight
        usual = torch.where(counts == residuals, mean_weight, usual)
    scale = torch.ones_like(squared.sum(-1))
    for _ in range(_STEPS):
        s = squared / scale.square()[..., None]
        weight = loss.weight(s) * used
        told = (weight * counts).sum(-1)
        inliers = (weight / usual).sum(-1)  # all parameters were fitted to these
        spent = robust.NUM_PARAMETERS * weight.sum(-1) / inliers.clamp_min(1.0)
        left = (1.0 - spent / told.clamp_min(1e-9)).clamp_min(0.1)
        ratio = (weight * s).sum(-1) / ((weight * expected).sum(-1) * left).clamp_min(1e-12)
        scale = (scale * ratio.clamp(0.01, 100.0).sqrt()).clamp(*_LIMITS)
    return scale.to(correspondences.image_points)


def freedom_factor(correspondences: Correspondences, estimate: PoseEstimate) -> Tensor:
    """How much larger (...) a pose's covariance is where its noise was estimated, too.

    The squared error in units of the estimated covariance has 6 times an F distribution of 6 and n degrees of freedom
    in place of a chi-square one; by the ratio of their 90 % quantiles the 90 % region holds what it says. From n = 4 on
    ``1 + 3.28 / (n - 1.45)`` is that ratio within 1 %.
    """
    told = (estimate.inlier_weights * correspondences.residual_count).sum(-1)
    freedom = (told - robust.NUM_PARAMETERS).clamp_min(3.0)
    return 1.0 + 3.28 / (freedom - 1.45)
