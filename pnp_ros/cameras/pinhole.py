"""The pinhole: ``x / z, y / z``."""

from __future__ import annotations

import torch
from torch import Tensor

MIN_SLOPE = 0.02  # rays beyond 88.9 degrees count as at 88.9 degrees: polynomials of x / z stay finite in float32
MIN_DEPTH = 1e-6  # metres


def project(points: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor]:
    """Points (..., N, 3) on the plane z = 1 (..., N, 2), and the Jacobian (..., N, 2, 3).

    Points behind the camera, or at its side, are projected as if at 88.9 degrees from the axis: far outside of the
    image, in the right direction, instead of mirrored into it. (On the axis itself there is no direction: a point
    exactly behind gives the centre.)
    """
    floor = (MIN_SLOPE * points[..., :2].norm(dim=-1)).detach().clamp(min=MIN_DEPTH)
    front = points[..., 2] > floor
    inverse_depth = 1.0 / torch.where(front, points[..., 2], floor)[..., None]
    plane = points[..., :2] * inverse_depth
    by_z = torch.where(front[..., None], -plane * inverse_depth, torch.zeros_like(plane))
    by_xy = inverse_depth[..., None] * torch.eye(2, dtype=points.dtype, device=points.device)
    return plane, torch.cat([by_xy, by_z[..., None]], dim=-1)


def unproject(plane: Tensor, distortion: Tensor) -> Tensor:
    """Unit bearings (..., N, 3) of points (..., N, 2) of the plane z = 1."""
    return torch.nn.functional.normalize(torch.cat([plane, torch.ones_like(plane[..., :1])], dim=-1), dim=-1)
