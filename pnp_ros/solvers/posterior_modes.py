"""The modes of a pose posterior: where they are, and how wide."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.kernels import robust
from pnp_ros.kernels.robust import RobustKind
from pnp_ros.solvers import levenberg_marquardt
from pnp_ros.solvers.robust_loss import Cauchy, RobustLoss
from pnp_ros.types import Correspondences, Pose

MIN_DEPTH = 0.05  # of the object's depth: points nearer than this are held there, so that costs stay finite
# Directions that the points do not determine get a standard deviation of 1 rad or this share of the depth.
_PRIOR_POSITION = 0.5
_SAME_MODE = 16.0  # squared Mahalanobis distance under which two solutions are one mode
_NEGLIGIBLE = 25.0  # a mode whose cost exceeds the lowest by this has no weight in the posterior
_STARTS = 16


@dataclass(frozen=True, eq=False)
class Modes:
    """K modes of each of B problems, in float64.

    Args:
        pose: (B, K, 3, 3), (B, K, 3).
        covariance: (B, K, 6, 6) inverse Hessian of the cost, bounded where the points do not determine the pose.
        cost: (B, K).
        min_depth: (B, K) the depth at which nearer points are held, metres.
    """

    pose: Pose
    covariance: Tensor
    cost: Tensor
    min_depth: Tensor

    def select(self, index: Tensor) -> Modes:
        """The modes (B, J) at indices (B, J)."""
        row = torch.arange(len(index), device=index.device)[:, None]
        return Modes(
            Pose(self.pose.rotation[row, index], self.pose.translation[row, index]),
            self.covariance[row, index],
            self.cost[row, index],
            self.min_depth[row, index],
        )


def point_features(rows: Tensor, object_points: Tensor) -> Tensor:
    """(B, 12, 3 N): the products with ``M = [R | t]`` (12) are the N first numerators, N second ones and N depths.

    Args:
        rows: (B, N, 2, 3) of ``posterior_sampler.whitened_rows``.
        object_points: (B, N, 3) metres.
    """
    homogeneous = torch.cat([object_points, torch.ones_like(object_points[..., :1])], dim=-1).mT.contiguous()
    depth_row = rows.new_tensor([0.0, 0.0, 1.0])[:, None, None].expand(len(rows), 3, 1, rows.shape[1])
    columns = torch.cat([rows.permute(0, 3, 2, 1), depth_row], dim=2)  # (B, 3, 3, N): column, output, point
    return (columns[:, :, None] * homogeneous[:, None, :, None]).flatten(3).flatten(1, 2)


def modes_at(features: Tensor, correspondences: Correspondences, camera: Camera, pose: Pose, loss: RobustLoss) -> Modes:
    """The modes nearest to poses (B, K, 3, 3), (B, K, 3), by Levenberg-Marquardt, or these poses where they cost less.

    Points that fit no pose drive the object into the camera. There the solver leaves out points that the posterior
    counts: samples around such a pose would say that nowhere else is any better.

    Args:
        features: (B, 12, 3 N) of :func:`point_features`.
        correspondences: (B, N, 2), (B, N, 3), (B, N, 2) or (B, N, 2, 2).
        camera: intrinsics (4,) or (B, 4).
        pose: where to start.
        loss: robust loss.
    """
    start = Pose(pose.rotation.double(), pose.translation.double())
    refined = _refined(correspondences, camera, pose, loss)
    old, new = _residuals(features, start), _residuals(features, refined)
    old_cost, new_cost = _cost(old[0], loss), _cost(new[0], loss)
    better = (new_cost <= old_cost)[..., None]
    translation = torch.where(better, refined.translation, start.translation)
    cost = torch.where(better[..., 0], new_cost, old_cost)
    better = better[..., None]
    pose = Pose(torch.where(better, refined.rotation, start.rotation), translation)
    residual, inverse_depth = (torch.where(better, *both) for both in zip(new, old))
    return _modes(features, pose, residual, inverse_depth, cost, loss)


def _refined(correspondences: Correspondences, camera: Camera, pose: Pose, loss: RobustLoss) -> Pose:
    """Where Levenberg-Marquardt leads from poses (B, K, 3, 3), (B, K, 3), in float64."""
    batch, count = pose.translation.shape[:2]

    def repeat(tensor: Tensor) -> Tensor:
        return tensor[:, None].expand(-1, count, *tensor.shape[1:]).flatten(0, 1)

    repeated = Correspondences(
        repeat(correspondences.image_points), repeat(correspondences.object_points), repeat(correspondences.weights)
    )
    if camera.intrinsics.ndim > 1:
        camera = replace(camera, intrinsics=repeat(camera.intrinsics), distortion=repeat(camera.distortion))
    like = correspondences.image_points
    start = Pose(pose.rotation.flatten(0, 1).to(like), pose.translation.flatten(0, 1).to(like))
    solution = levenberg_marquardt.refine(repeated, camera, start, loss, anneal=False, accept=False).pose
    return Pose(
        solution.rotation.double().unflatten(0, (batch, count)),
        solution.translation.double().unflatten(0, (batch, count)),
    )


def _cost(residual: Tensor, loss: RobustLoss) -> Tensor:
    """(B, K) of whitened residuals (B, K, 2, N)."""
    return 0.5 * robust.rho(loss.kind, residual.square().sum(-2), loss.scale).double().sum(-1)


def _residuals(features: Tensor, pose: Pose) -> tuple[Tensor, Tensor]:
    """Whitened residuals (B, K, 2, N) at poses (B, K), and inverse depths (B, K, 1, N)."""
    matrix = torch.cat([pose.rotation, pose.translation[..., None]], dim=-1)
    values = (matrix.flatten(-2).to(features) @ features).unflatten(-1, (3, -1))  # (B, K, 3, N)
    scale = matrix[..., 2, 3].abs().clamp_min(1e-6)
    inverse_depth = values[..., 2:, :].clamp_min(1e-30).reciprocal()
    inverse_depth = torch.minimum(inverse_depth, (1.0 / (MIN_DEPTH * scale))[..., None, None].to(features))
    return values[..., :2, :] * inverse_depth, inverse_depth


def _evaluate(features: Tensor, pose: Pose, loss: RobustLoss) -> Modes:
    """Cost and covariance at poses (B, K)."""
    residual, inverse_depth = _residuals(features, pose)
    return _modes(features, pose, residual, inverse_depth, _cost(residual, loss), loss)


def _modes(
    features: Tensor, pose: Pose, residual: Tensor, inverse_depth: Tensor, cost: Tensor, loss: RobustLoss
) -> Modes:
    """The same of what :func:`_residuals` and :func:`_cost` give at these poses."""
    rotation, translation = pose.rotation, pose.translation
    # d M / d delta: translations move the last column, rotations turn the others.
    axes = torch.eye(3, dtype=rotation.dtype, device=rotation.device)
    shift = torch.zeros(*translation.shape[:-1], 3, 3, 4, dtype=rotation.dtype, device=rotation.device)
    shift[..., 3] = axes
    turn = torch.cat([so3.hat(axes) @ rotation[..., None, :, :], torch.zeros_like(shift[..., 3:])], dim=-1)
    tangents = torch.cat([shift, turn], dim=-3).flatten(-2)
    slopes = (tangents.flatten(1, 2).to(features) @ features).unflatten(1, (-1, 6)).unflatten(-1, (3, -1))

    scale = translation[..., 2].abs().clamp_min(1e-6)
    jacobian = (slopes[..., :2, :] - residual[..., None, :, :] * slopes[..., 2:, :]) * inverse_depth[..., None, :, :]
    weighted = jacobian
    if loss.kind != RobustKind.GAUSSIAN:
        weighted = jacobian * robust.weight(loss.kind, residual.square().sum(-2), loss.scale)[..., None, None, :]
    weighted = weighted.flatten(-2)
    hessian = (weighted @ jacobian.flatten(-2).mT).double()
    hessian = torch.where(hessian.isfinite().all(-1).all(-1)[..., None, None], hessian, 0.0)  # none if out of range
    prior = torch.ones_like(tangents[..., 0])
    prior[..., :3] = (_PRIOR_POSITION * scale).square().reciprocal()[..., None]
    return Modes(pose, _inverse(hessian + torch.diag_embed(prior)), cost, MIN_DEPTH * scale)


def _inverse(information: Tensor) -> Tensor:
    """Of positive definite matrices (..., 6, 6), scaled to a unit diagonal first."""
    scale = information.diagonal(dim1=-2, dim2=-1).rsqrt()
    outer = scale[..., :, None] * scale[..., None, :]
    jitter = 1e-12 * torch.eye(6, dtype=information.dtype, device=information.device)
    return outer * torch.cholesky_inverse(torch.linalg.cholesky_ex(information * outer + jitter)[0])


def find_modes(
    features: Tensor,
    correspondences: Correspondences,
    camera: Camera,
    loss: RobustLoss,
    count: int,
    generator: torch.Generator | None,
) -> Modes:
    """The ``count`` lowest distinct minima found from random orientations.

    Where there are fewer, they are repeated in turn, so that each gets about as many samples as the others.
    """
    points = correspondences.object_points.double()
    batch = len(points)
    rotation = so3.random_rotation(batch, _STARTS, generator=generator, dtype=torch.float32, device=points.device)
    translation = _position_given_rotation(features.double(), rotation.double(), points)
    start = Pose(rotation, translation)
    if loss.kind == RobustKind.GEMAN_MCCLURE:  # its basins are too narrow for random starts
        start = _refined(correspondences, camera, start, Cauchy(loss.scale))
    found = _evaluate(features, _refined(correspondences, camera, start, loss), loss)

    cost = found.cost.nan_to_num(nan=torch.inf)
    lowest = cost.amin(-1, keepdim=True)
    free = cost <= lowest + _NEGLIGIBLE
    chosen: list[Tensor] = []
    distinct = torch.ones(batch, dtype=torch.long, device=cost.device)
    for k in range(count):
        best = torch.where(free, cost, torch.inf).argmin(-1)
        if k > 0:
            distinct = distinct + free.any(-1)
            turn = torch.stack(chosen, -1).gather(-1, (k % distinct.clamp(max=k))[:, None]).squeeze(-1)
            best = torch.where(free.any(-1), best, turn)
        chosen.append(best)
        mode = found.select(best[:, None])
        delta = se3.local(Pose(mode.pose.rotation, mode.pose.translation), found.pose)
        whitened = torch.linalg.solve_triangular(
            torch.linalg.cholesky_ex(mode.covariance)[0], delta[..., None], upper=False
        )
        free = free & (whitened.squeeze(-1).square().sum(-1) > _SAME_MODE)
    return found.select(torch.stack(chosen, dim=-1))


def _position_given_rotation(features: Tensor, rotation: Tensor, points: Tensor) -> Tensor:
    """(B, K, 3) least-squares position for orientations (B, K, 3, 3): the residuals' numerators are linear in it."""
    blocks = features[..., : 2 * points.shape[-2]].unflatten(1, (3, 4))  # (B, 3, 4, 2 N)
    design = blocks[:, :, 3]
    flat = torch.cat([rotation, torch.zeros_like(rotation[..., :1])], dim=-1).flatten(-2)
    numerators = flat @ features[..., : 2 * points.shape[-2]]
    normal = design @ design.mT
    ridge = 1e-9 * normal.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None] + 1e-12
    normal = normal + ridge * torch.eye(3, dtype=normal.dtype, device=normal.device)
    position = -torch.linalg.solve(normal, design @ numerators.mT).mT
    radius = points.square().sum(-1).mean(-1).sqrt().clamp_min(1e-9)[:, None]
    # A wrong orientation can place the object in the camera, or behind it.
    depth = position[..., 2:].abs().clamp_min(2.0 * radius[..., None])
    return torch.cat([position[..., :2] / position[..., 2:].abs().clamp_min(1e-9) * depth, depth], dim=-1)
