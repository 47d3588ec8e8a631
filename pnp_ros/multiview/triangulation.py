"""Points from the rays of several views, in spite of wrong ones."""

from __future__ import annotations

import torch
from torch import Tensor

from pnp_ros.solvers.robust_loss import GemanMcClure
from pnp_ros.types import Pose

LOSS = GemanMcClure()
INLIER = 0.25  # robust weight of an image point that confirms its point: within three sigmas


def triangulate(bearings: Tensor, poses: Pose, weights: Tensor, hypotheses: int = 24) -> tuple[Tensor, Tensor]:
    """Points (M, 3) that most of their rays meet, and the parallax (M) in rad of those rays; 0 where none is found.

    For each point the best of some two-ray hypotheses, refined by reweighted least squares on the distances to the
    rays (Geman-McClure on the angles).

    Args:
        bearings: (V, M, 3) unit, in each camera's frame.
        poses: (V) ``T_camera_object``.
        weights: (V, M) inverse standard deviation of the bearings, 1/rad; zero where not seen.
        hypotheses: pairs of rays tried for each point.
    """
    rays = bearings @ poses.rotation
    centres = -(poses.rotation.mT @ poses.translation[..., None]).squeeze(-1)[:, None]
    seen = weights > 0
    lottery = torch.rand(hypotheses, *weights.shape, generator=torch.Generator().manual_seed(0)).to(rays)
    threshold = torch.where(seen, lottery, -1.0).topk(2, dim=1).values[:, 1:]
    pairs = (seen & (lottery >= threshold)).to(rays)
    points, _ = _nearest(rays, centres, pairs)
    support = _ray_weights(points, rays, centres, weights)
    best = support.sum(1).argmax(0)
    chosen = support[best, :, torch.arange(len(best))].mT
    for _ in range(5):
        points, normal = _nearest(rays, centres, chosen)
        chosen = _ray_weights(points, rays, centres, weights)
    # Two rays at an angle phi: the smallest eigenvalue of the mean of their projectors is (1 - cos phi) / 2.
    share = torch.linalg.eigvalsh(normal)[:, 0] / chosen.sum(0).clamp(min=1e-12)
    parallax = torch.acos((1.0 - 2.0 * share).clamp(-1.0, 1.0))
    return points, torch.where((chosen > INLIER).sum(0) >= 2, parallax, torch.zeros_like(parallax))


def _nearest(rays: Tensor, centres: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Points (..., M, 3) nearest to rays (V, M, 3) from centres (V, 1, 3), and the normal matrices (..., M, 3, 3)."""
    across = torch.eye(3).to(rays) - rays[..., :, None] * rays[..., None, :]
    target = (across @ centres[..., None]).squeeze(-1)
    normal = torch.einsum("...vm,vmij->...mij", weights, across)
    right = torch.einsum("...vm,vmi->...mi", weights, target)
    return torch.linalg.solve(normal + 1e-9 * torch.eye(3).to(rays), right), normal


def _ray_weights(points: Tensor, rays: Tensor, centres: Tensor, weights: Tensor) -> Tensor:
    """Robust weights (..., V, M) of rays, by their angle to points (..., M, 3)."""
    towards = points[..., None, :, :] - centres
    off = torch.linalg.cross(towards, rays.expand_as(towards)).norm(dim=-1) / towards.norm(dim=-1).clamp(min=1e-12)
    ahead = (towards * rays).sum(-1) > 0
    return torch.where(ahead & (weights > 0), LOSS.weight((weights * off).square()), torch.zeros_like(off))
