"""The cost of many poses of the same points, and its gradient: where a Monte-Carlo pose posterior spends its time.

The whitened residual of a point ``x`` at the pose ``M = [R | t]`` is ``r = A p / p_z`` with ``p = M [x, 1]`` and ``A``
(2, 3) of the point alone, so numerator and depth are linear in the twelve numbers of ``M``: one matrix product gives
them for all points and poses, and another one gives the gradient. What is left is a division and a sum. On a CPU this
runs at the speed of the vector unit, on CUDA at that of the memory; a loop over the points reaches neither.

Poses come as differences to a centre whose numerators are known precisely, so that single precision serves even where
all poses lie within its resolution of each other. ``posterior_sampler_reference`` defines the truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels import robust
from pnp_ros.kernels.robust import RobustKind
from pnp_ros.types import Correspondences

_MIN_FORWARD = 0.05  # cosine of the largest angle between a ray and the optical axis
_CHUNK = {"cpu": 1 << 18, "cuda": 1 << 27}  # numbers in the work buffer: the CPU's second-level cache; GPU memory


def whitened_rows(correspondences: Correspondences, camera: Camera) -> Tensor:
    """Rows ``A`` (..., N, 2, 3): ``A p / p_z`` is the weighted reprojection error of a camera-frame point ``p``.

    Exact for a pinhole camera; other lenses are linearised at the image point, which leaves an error quadratic in the
    reprojection error. Rays more than 87 deg away from the optical axis get no weight. Differentiable with respect to
    image points and weights.
    """
    with torch.no_grad():
        bearings = camera.unproject(correspondences.image_points)
        forward = bearings[..., 2:] > _MIN_FORWARD
        plane = bearings / bearings[..., 2:].clamp_min(_MIN_FORWARD)
        jacobian = camera.project_with_jacobian(plane)[1][..., :2]
        predicted = (jacobian @ plane[..., :2, None]).squeeze(-1)
    # d predicted / d image point is one, whatever the lens.
    predicted = predicted + (correspondences.image_points - correspondences.image_points.detach())
    rows = torch.cat([jacobian, -predicted[..., None]], dim=-1)
    return (correspondences.weights * forward)[..., None] * rows


def point_features(rows: Tensor, object_points: Tensor) -> Tensor:
    """(B, 12, 3 N): the products with ``M`` (12) are the N first numerators, the N second ones and the N depths.

    Args:
        rows: (B, N, 2, 3) whitened residual rows ``A``.
        object_points: (B, N, 3) metres.
    """
    homogeneous = torch.cat([object_points, torch.ones_like(object_points[..., :1])], dim=-1).mT.contiguous()
    depth_row = rows.new_tensor([0.0, 0.0, 1.0])[:, None, None].expand(len(rows), 3, 1, rows.shape[1])
    columns = torch.cat([rows.permute(0, 3, 2, 1), depth_row], dim=2)  # (B, 3, 3, N): column, output, point
    return (columns[:, :, None] * homogeneous[:, None, :, None]).flatten(3).flatten(1, 2)


def pose_costs(
    features: Tensor,
    centre: Tensor,
    offsets: Tensor,
    min_depth: Tensor,
    kind: RobustKind = RobustKind.GAUSSIAN,
    scale: float = 1.0,
    known: Tensor | None = None,
) -> Tensor:
    """Robust cost ``1/2 sum rho(|r|^2)`` (B, K, S) of poses, differentiable with respect to ``features`` alone.

    Args:
        features: (B, 12, 3 N) of :func:`point_features`.
        centre: (B, K, 12) float64, row-major ``M`` of the K centres.
        offsets: (B, K, 12, S) what the poses' ``M`` have more than their centre's, in the features' dtype.
        min_depth: (B, K) nearer points, and those behind the camera, are held at this depth (m).
        kind: robust loss.
        scale: its scale in standard deviations.
        known: the result, where it is known already and only the gradient is wanted.
    """
    costs: Tensor = _PoseCosts.apply(features, centre, offsets, min_depth, kind, scale, known)
    return costs


class _PoseCosts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        centre: Tensor,
        offsets: Tensor,
        min_depth: Tensor,
        kind: RobustKind,
        scale: float,
        known: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(features, centre, offsets, min_depth)
        ctx.loss = kind, scale
        if known is not None:
            return known.clone()
        costs = torch.empty_like(offsets[:, :, 0])
        flat = costs.flatten(0, 1)
        for part, residual, _ in _residuals(features, centre, offsets, min_depth):
            if kind == RobustKind.GAUSSIAN:
                flat[part] = 0.5 * torch.linalg.vector_norm(residual, dim=-1).square()
            else:
                flat[part] = 0.5 * robust.rho(kind, _squared_norm(residual), scale).sum(-1)
        return costs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        features, centre, offsets, min_depth = ctx.saved_tensors
        kind, scale = ctx.loss
        modes = centre.shape[1]
        grad_costs = grads[0].flatten(0, 1)[..., None]
        poses = (centre[..., None].to(offsets) + offsets).flatten(0, 1)
        grad_features = features.new_zeros(len(poses), *features.shape[1:])
        buffer: Tensor | None = None
        for part, residual, inverse_depth in _residuals(features, centre, offsets, min_depth):
            count = inverse_depth.shape[-1]
            # A point held at the least depth does not feel a change of its depth.
            limit = min_depth.flatten()[part, None, None].to(features).reciprocal()
            held = inverse_depth >= limit if (inverse_depth.amax((1, 2), keepdim=True) >= limit).any() else None
            # All with the sign turned, which the numerators' features get back at the end.
            influence = inverse_depth.mul_(-grad_costs[part])
            if kind != RobustKind.GAUSSIAN:
                influence.mul_(robust.weight(kind, _squared_norm(residual), scale))
            buffer = features.new_empty(*residual.shape[:2], 3 * count) if buffer is None else buffer
            grad = buffer[: len(residual)]
            (first, second), grad_depth = grad[..., : 2 * count].chunk(2, dim=-1), grad[..., 2 * count :]
            torch.mul(residual[..., :count], influence, out=first)
            torch.mul(residual[..., count:], influence, out=second)
            torch.mul(residual[..., :count], first, out=grad_depth)
            grad_depth.addcmul_(residual[..., count:], second)
            if held is not None:
                grad_depth.masked_fill_(held, 0.0)
            torch.bmm(poses[part], grad, out=grad_features[part])
        summed = grad_features.unflatten(0, (-1, modes)).sum(1)
        summed[..., : summed.shape[-1] // 3 * 2].neg_()
        return summed, None, None, None, None, None, None


def _squared_norm(residual: Tensor) -> Tensor:
    first, second = residual.chunk(2, dim=-1)
    return first.square().addcmul_(second, second)


def _residuals(
    features: Tensor, centre: Tensor, offsets: Tensor, min_depth: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Whitened residuals (C, S, 2 N) and inverse depths (C, S, N) of a few of the B K centres at a time.

    The buffer is used again: each part must be done with before the next is asked for.
    """
    batch, modes, _, samples = offsets.shape
    base = (centre @ features.double()).to(features).flatten(0, 1)[:, None]
    flat_offsets = offsets.flatten(0, 1).mT
    flat_depth = min_depth.flatten().to(features)[:, None, None]
    if modes > 1:
        features = features[:, None].expand(-1, modes, -1, -1).flatten(0, 1)
    width = features.shape[-1]
    limit = _CHUNK.get(features.device.type, _CHUNK["cuda"])
    size = max(1, min(batch * modes, limit // max(samples * width, 1)))
    buffer = torch.empty(size, samples, width, dtype=features.dtype, device=features.device)
    count = width // 3
    for start in range(0, batch * modes, size):
        part = slice(start, min(start + size, batch * modes))
        work = torch.baddbmm(base[part], flat_offsets[part], features[part], out=buffer[: part.stop - start])
        residual, depth = work[..., : 2 * count], work[..., 2 * count :]
        inverse_depth = torch.maximum(depth, flat_depth[part], out=depth).reciprocal_()
        residual.unflatten(-1, (2, count)).mul_(inverse_depth[..., None, :])
        yield part, residual, inverse_depth
