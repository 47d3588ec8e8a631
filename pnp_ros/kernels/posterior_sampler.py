"""The cost of many poses of the same points, and its gradient: where a Monte-Carlo pose posterior spends its time.

The whitened residual of a point ``x`` at the pose ``M = [R | t]`` is ``r = A p / p_z`` with ``p = M [x, 1]`` and ``A``
(2, 3) of the point alone. Poses come as differences to a centre whose numerators ``A p`` are known precisely, so that
single precision serves even where all poses lie within its resolution of each other. float32 runs in the kernels of
``posterior_warp``, all else in ``posterior_sampler_reference``, which defines the truth.
"""

from __future__ import annotations

from typing import Any

import torch
import warp as wp
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels import lm_launch, posterior_sampler_reference, posterior_warp
from pnp_ros.kernels.robust import RobustKind
from pnp_ros.types import Correspondences

_MIN_FORWARD = 0.05  # cosine of the largest angle between a ray and the optical axis
_LARGE = 1e30  # a cost beyond the precision's range
_WIDTH = {"cpu": 16}  # points in a chunk; elsewhere one, as threads make the vectors there


def whitened_rows(correspondences: Correspondences, camera: Camera) -> Tensor:
    """Rows ``A`` (..., N, 2, 3): ``A p / p_z`` is the weighted reprojection error of a camera-frame point ``p``.

    Exact for a pinhole camera; other lenses are linearised at the image point, which leaves an error quadratic in the
    reprojection error. Rays more than 87 deg away from the optical axis get no weight, and points without weight may
    hold anything. Differentiable with respect to image points and weights.
    """
    with torch.no_grad():
        bearings = camera.unproject(correspondences.image_points).nan_to_num(0.0)  # no ray arrives there: no weight
        forward = (bearings[..., 2:] > _MIN_FORWARD) & correspondences.has_weight[..., None]
        plane = bearings / bearings[..., 2:].clamp_min(_MIN_FORWARD)
        jacobian = camera.project_with_jacobian(plane)[1][..., :2]
        predicted = (jacobian @ plane[..., :2, None]).squeeze(-1)
    # d predicted / d image point is one, whatever the lens.
    predicted = predicted + (correspondences.image_points - correspondences.image_points.detach())
    rows = torch.where(forward[..., None], torch.cat([jacobian, -predicted[..., None]], dim=-1), 0.0)
    if correspondences.has_matrices:
        return (correspondences.weights[..., None] * rows[..., None, :, :]).sum(-2)
    return correspondences.weights[..., None] * rows


class PoseCosts:
    """Robust costs ``1/2 sum rho(|r|^2)`` of poses of B problems, about K centres each.

    Args:
        rows: (B, N, 2, 3) of :func:`whitened_rows`.
        object_points: (B, N, 3) metres.
        centre: (B, K, 12) float64, row-major ``M`` of the centres.
        min_depth: (B, K) nearer points, and those behind the camera, are held at this depth (m).
        kind: robust loss.
        scale: its scale in standard deviations.
    """

    def __init__(
        self,
        rows: Tensor,
        object_points: Tensor,
        centre: Tensor,
        min_depth: Tensor,
        kind: RobustKind = RobustKind.GAUSSIAN,
        scale: float = 1.0,
    ) -> None:
        self.rows, self.object_points = rows, object_points
        self.centre, self.min_depth, self.loss = centre, min_depth, (kind, scale)
        self._packed: _Packed | None = None
        if rows.dtype == torch.float32 and lm_launch.supports(rows.device):
            self._packed = _Packed(rows.detach(), object_points.detach(), centre, min_depth, kind, scale)

    @torch.no_grad()
    def __call__(self, offsets: Tensor) -> Tensor:
        """(B, K, S), constants. ``offsets``: (B, K, 12, S) what the poses' ``M`` have more than their centre's."""
        costs = self._packed.costs(offsets) if self._packed is not None else self._reference(offsets)
        return costs.nan_to_num_(nan=_LARGE, posinf=_LARGE)

    def differentiable(self, offsets: Tensor, costs: Tensor) -> Tensor:
        """The same costs (B, K, S), with gradients with respect to rows and object points."""
        if self._packed is None:
            return self._reference(offsets)
        result: Tensor = _WithGradient.apply(self.rows, self.object_points, offsets, costs, self._packed)
        return result

    def _reference(self, offsets: Tensor) -> Tensor:
        samples = offsets.shape[-1]
        matrix = (self.centre[..., None] + offsets).to(self.rows).mT.flatten(1, 2).unflatten(-1, (3, 4))
        depth = self.min_depth.to(self.rows).repeat_interleave(samples, dim=1)
        rotation, translation = matrix[..., :3], matrix[..., 3]
        costs = posterior_sampler_reference.pose_costs(
            self.rows, self.object_points, rotation, translation, depth, *self.loss
        )
        return costs.unflatten(1, (-1, samples))


class _Packed:
    """The points in chunks, structure of arrays, as the kernels want them."""

    def __init__(
        self, rows: Tensor, points: Tensor, centre: Tensor, min_depth: Tensor, kind: RobustKind, scale: float
    ) -> None:
        lm_launch.initialise()
        self.width = _WIDTH.get(rows.device.type, 1)
        self.points = self._chunked(torch.cat([rows.flatten(-2), points], dim=-1))
        matrix = centre.unflatten(-1, (3, 4))
        placed = points[:, None].double() @ matrix[..., :3].mT + matrix[..., None, :, 3]  # (B, K, N, 3)
        numerators = (rows[:, None] * placed[..., None, :]).sum(-1)
        self.centred = self._chunked(torch.cat([numerators, placed], dim=-1).float().flatten(0, 1))
        self.centre = centre.float().flatten(0, 1).contiguous()
        self.min_depth = min_depth.float().flatten().contiguous()
        self.settings = int(kind), scale
        self.modes = centre.shape[1]

    def _chunked(self, values: Tensor) -> Tensor:
        """(B, chunks, D, width) of values (B, N, D), filled up with zeros."""
        missing = -values.shape[1] % self.width
        return torch.nn.functional.pad(values, (0, 0, 0, missing)).unflatten(1, (-1, self.width)).mT.contiguous()

    def costs(self, offsets: Tensor) -> Tensor:
        costs = offsets.new_empty(len(self.centre), offsets.shape[-1])
        self._launch(0, costs.shape, offsets, wp.from_torch(costs))
        return costs.view(*offsets.shape[:2], -1)

    def gradients(self, offsets: Tensor, grad_costs: Tensor) -> Tensor:
        """(B, N, 9) of rows and object points, given those of the costs (B, K, S)."""
        gradients = torch.empty_like(self.centred[:, :, :1]).expand(-1, -1, 9, -1).contiguous()
        influence = wp.from_torch(grad_costs.flatten(0, 1).contiguous())
        self._launch(1, gradients.shape[:2], offsets, influence, self._vectors(gradients))
        return gradients.unflatten(0, (-1, self.modes)).sum(1).mT.flatten(1, 2)

    def _vectors(self, values: Tensor) -> Any:
        """The chunks (B, chunks, D, width) as the kernels' array (B chunks, D) of vectors."""
        vector = wp.types.vector(length=self.width, dtype=wp.float32)
        flat = values.flatten().view(-1, values.shape[2], self.width)  # whose strides Warp accepts for a width of one
        return wp.from_torch(flat, dtype=vector)

    def _launch(self, which: int, dim: torch.Size, offsets: Tensor, *arguments: wp.array) -> None:
        samples = posterior_warp.Samples()
        samples.centre, samples.min_depth = wp.from_torch(self.centre), wp.from_torch(self.min_depth)
        samples.offsets = wp.from_torch(offsets.flatten(0, 1).contiguous())
        samples.kind, samples.scale = self.settings
        samples.chunks, samples.modes = self.centred.shape[1], self.modes
        inputs = [samples, self._vectors(self.points), self._vectors(self.centred), *arguments]
        device = wp.device_from_torch(offsets.device)
        stream = None if device.is_cpu else wp.stream_from_torch(offsets.device)
        wp.launch(posterior_warp.build(self.width)[which], dim=tuple(dim), inputs=inputs, device=device, stream=stream)


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, points: Tensor, offsets: Tensor, costs: Tensor, packed: _Packed) -> Tensor:
        ctx.packed, ctx.offsets, ctx.count = packed, offsets, points.shape[1]
        return costs.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.packed.gradients(ctx.offsets, grads[0])[:, : ctx.count]
        finite = gradients.isfinite().all(-1).all(-1)[:, None, None]
        gradients = torch.where(finite, gradients, 0.0)  # of a problem out of range
        return gradients[..., :6].unflatten(-1, (2, 3)), gradients[..., 6:], None, None, None
