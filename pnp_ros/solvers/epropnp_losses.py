"""Losses on a pose posterior, for networks that predict the correspondences (EPro-PnP, arXiv 2203.13254).

``monte_carlo_pose_loss`` is the Kullback-Leibler divergence from the posterior to the true pose, up to a constant: the
cost at the true pose plus the log-evidence. It trains image points, object points and weights, down to the scale of
the weights: predictions that claim to be better than they are cost as much as bad ones.
``derivative_regularisation`` sharpens the solution itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.kernels import posterior_sampler, posterior_sampler_reference
from pnp_ros.solvers.epropnp import flattened
from pnp_ros.solvers.posterior_modes import MIN_DEPTH
from pnp_ros.solvers.robust_loss import Gaussian, RobustLoss
from pnp_ros.types import Correspondences, Pose

_GAUSSIAN = Gaussian()


def pose_cost(correspondences: Correspondences, camera: Camera, pose: Pose, *, loss: RobustLoss = _GAUSSIAN) -> Tensor:
    """The cost (...) that ``sample_posterior`` uses, at a pose (..., 3, 3), (..., 3); differentiable.

    Points nearer than a twentieth of the object's depth are held there.
    """
    batch, flat, camera = flattened(correspondences, camera)
    rows = posterior_sampler.whitened_rows(flat, camera)
    pose = pose.to(rows.device, rows.dtype)
    rotation = pose.rotation.expand(*batch, 3, 3).reshape(batch.numel(), 3, 3)
    translation = pose.translation.expand(*batch, 3).reshape(batch.numel(), 3)
    depth = Pose(rotation, translation).transform(flat.object_points)[..., 2].mean(-1).abs().clamp_min(1e-6)
    cost = posterior_sampler_reference.pose_costs(
        rows,
        flat.object_points,
        rotation[:, None],
        translation[:, None],
        MIN_DEPTH * depth[:, None],
        loss.kind,
        loss.scale,
    )
    return cost.reshape(batch)


def monte_carlo_pose_loss(
    log_evidence: Tensor,
    correspondences: Correspondences,
    camera: Camera,
    target: Pose,
    *,
    loss: RobustLoss = _GAUSSIAN,
) -> Tensor:
    """Negative log-density (...) of the true pose under the posterior (equation 6 of the paper), per m^3 rad^3.

    Args:
        log_evidence: (...) of ``sample_posterior`` for the same correspondences, camera and robust loss.
        correspondences: (..., N, 2) px, (..., N, 3) m, (..., N, 2) or (..., N, 2, 2) 1/px.
        camera: of any model.
        target: true pose.
        loss: robust loss.
    """
    return pose_cost(correspondences, camera, target, loss=loss) + log_evidence


class MonteCarloPoseLoss(nn.Module):
    """The mean of :func:`monte_carlo_pose_loss`, divided by a running mean of the weights' scale.

    The loss's gradient with respect to an image point grows as the weights do, and they grow as training goes on. The
    division keeps it where it was, so that one learning rate and one loss weight serve (section 4.1 of the paper).

    Args:
        momentum: share of the newest batch in the running mean.
        floor: 1/px, the least that is divided by. The gradient at an image point falls as the weights do, that of the
            weights' scale does not: without a floor it outweighs all else where weights have collapsed.
    """

    scale: Tensor

    def __init__(self, momentum: float = 0.01, floor: float = 1e-12) -> None:
        super().__init__()
        self.momentum, self.floor = momentum, floor
        self.register_buffer("scale", torch.tensor(math.nan))

    def forward(
        self,
        log_evidence: Tensor,
        correspondences: Correspondences,
        camera: Camera,
        target: Pose,
        *,
        loss: RobustLoss = _GAUSSIAN,
    ) -> Tensor:
        """Scalar loss; arguments as for :func:`monte_carlo_pose_loss`."""
        if self.training:
            newest = correspondences.axis_weights.detach().mean().to(self.scale)
            known = torch.where(self.scale.isnan(), newest, self.scale)
            self.scale.copy_(known + self.momentum * (newest - known))
        divergence = monte_carlo_pose_loss(log_evidence, correspondences, camera, target, loss=loss)
        scale = torch.where(self.scale.isnan(), torch.ones_like(self.scale), self.scale).clamp_min(self.floor)
        return divergence.mean() / scale


def derivative_regularisation(
    correspondences: Correspondences,
    camera: Camera,
    solution: Pose,
    target: Pose,
    *,
    position_scale: float,
    loss: RobustLoss = _GAUSSIAN,
    damping: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """How far one Gauss-Newton step from the solution, seen as a constant, leads from the true pose.

    The step is zero in value but not in its derivatives: its gradient says how the correspondences must change to move
    the solution to the true pose (equations 14-16 of arXiv 2203.13254).

    Args:
        correspondences: (..., N, 2) px, (..., N, 3) m, (..., N, 2) or (..., N, 2, 2) 1/px.
        camera: of any model.
        solution: of ``solve_pnp`` for these correspondences; its gradient is not used.
        target: true pose.
        position_scale: metres; smaller errors count with their square, larger ones linearly. A tenth of the object's
            diameter is a good choice.
        loss: robust loss.
        damping: share of the Hessian's diagonal that is added to it.

    Returns:
        Position term (...), smooth L1 in units of ``position_scale``, and orientation term (...), 1 - cos(angle).
    """
    correspondences = correspondences.harmless
    like = correspondences.image_points
    rows = posterior_sampler.whitened_rows(correspondences, camera.to(like.device, like.dtype))
    solution, target = solution.to(like.device, like.dtype), target.to(like.device, like.dtype)
    rotation, translation = solution.rotation.detach(), solution.translation.detach()
    rotated = correspondences.object_points @ rotation.mT
    points = rotated + translation[..., None, :]
    depth = points[..., 2].clamp_min(1e-3 * translation[..., 2:].detach().abs() + 1e-9)[..., None]
    residual = (rows @ points[..., None]).squeeze(-1) / depth
    axis = points.new_tensor([0.0, 0.0, 1.0])
    slope = (rows - residual[..., None] * axis) / depth[..., None]  # d residual / d point
    jacobian = torch.cat([slope, -slope @ so3.hat(rotated)], dim=-1)
    squared = residual.square().sum(-1)[..., None]
    weight = loss.weight(squared)
    gradient = jacobian.flatten(-3, -2).mT @ (weight * residual).flatten(-2)[..., None]
    # The loss curves, too: along the residual an outlier tells less, down to nothing (Triggs et al., 2000, eq. 11).
    bend = torch.maximum(2.0 * loss.weight_slope(squared), -weight / squared.clamp_min(1e-30))[..., None]
    along = residual[..., None, :] @ jacobian
    bent = weight[..., None] * jacobian + bend * residual[..., None] * along
    hessian = bent.flatten(-3, -2).mT @ jacobian.flatten(-3, -2)
    # Metres and radians apart, the Hessian is solved with a unit diagonal.
    scale = hessian.detach().diagonal(dim1=-2, dim2=-1).clamp_min(1e-20).rsqrt()[..., None]
    damped = hessian * scale * scale.mT + damping * torch.eye(6, dtype=scale.dtype, device=scale.device)
    step = -(scale * torch.linalg.solve_ex(damped, scale * gradient)[0]).squeeze(-1)
    moved = se3.retract(Pose(rotation, translation), step)

    distance = (moved.translation - target.translation) / position_scale
    position = nn.functional.smooth_l1_loss(distance, torch.zeros_like(distance), reduction="none").sum(-1)
    trace = (moved.rotation * target.rotation).sum((-2, -1))
    return position, 0.5 * (3.0 - trace)
