"""Covariances (..., 6, 6) of a pose's perturbation [dt, dtheta]: change of frame, inversion and consistency."""

from __future__ import annotations

import torch
from torch import Tensor

from pnp_ros.geometry import so3
from pnp_ros.types import Pose, PoseEstimate

UNKNOWN_VARIANCE = 1e6  # m^2, rad^2: the diagonal where a pose is not determined


def rotate(cov: Tensor, rotation: Tensor) -> Tensor:
    """The covariance in other axes: ``rotation`` (..., 3, 3) maps the old axes' coordinates to the new ones.

    Both blocks turn, without a lever arm: the perturbation stays about the object's origin.
    """
    turn = _of_both(rotation)
    return turn @ cov @ turn.mT


def turned(deltas: Tensor, rotation: Tensor) -> Tensor:
    """Perturbations (..., 6, M), one a column, in other axes, as :func:`rotate`; on the rotation's device and dtype."""
    return _of_both(rotation) @ deltas.to(rotation)


def _of_both(rotation: Tensor) -> Tensor:
    """(..., 6, 6) that turns dt and dtheta alike."""
    zero = torch.zeros_like(rotation)
    return torch.cat([torch.cat([rotation, zero], dim=-1), torch.cat([zero, rotation], dim=-1)], dim=-2)


def in_frame(T_frame_camera: Pose, estimate: PoseEstimate) -> PoseEstimate:
    """The estimate's pose and covariance in another frame, whose place is exact; on the CPU, in that place's dtype."""
    rotation = T_frame_camera.rotation
    pose = T_frame_camera @ estimate.pose.to("cpu", rotation.dtype)
    return PoseEstimate.of(pose, rotate(estimate.covariance.cpu().to(rotation), rotation))


def of_inverse(pose: Pose, cov: Tensor) -> Tensor:
    """Covariance of ``inverse(pose)`` given that of ``pose``; its perturbation is about the camera's origin.

    To first order ``dtheta' = -R^T dtheta`` and ``dt' = -R^T (dt + t x dtheta)``.
    """
    back = pose.rotation.mT
    lever = back @ so3.hat(pose.translation)
    jacobian = -torch.cat([torch.cat([back, lever], dim=-1), torch.cat([torch.zeros_like(back), back], dim=-1)], dim=-2)
    return jacobian @ cov @ jacobian.mT


def _whiten(cov: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Standard deviations, Cholesky factor of the correlation matrix, and where both exist.

    Metres and radians differ by orders of magnitude; the correlation matrix does not, so float32 is enough.
    Entries that are not valid hold the identity.
    """
    diagonal = cov.diagonal(dim1=-2, dim2=-1)
    valid = cov.isfinite().all(-1).all(-1) & (diagonal > 0).all(-1)
    std = torch.where(valid[..., None], diagonal, torch.ones_like(diagonal)).sqrt()
    correlation = cov / (std[..., :, None] * std[..., None, :])
    eye = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device).expand_as(cov)
    factor, info = torch.linalg.cholesky_ex(torch.where(valid[..., None, None], correlation, eye))
    valid = valid & (info == 0)
    return std, torch.where(valid[..., None, None], factor, eye), valid


def nees(delta: Tensor, cov: Tensor) -> Tensor:
    """Normalised estimation error squared ``delta^T cov^-1 delta`` (...), for delta (..., D) and cov (..., D, D).

    Infinite where the covariance is not valid.
    """
    std, factor, valid = _whiten(cov)
    white = torch.linalg.solve_triangular(factor, (delta / std)[..., None], upper=False).squeeze(-1)
    value = white.square().sum(-1)
    return torch.where(valid & value.isfinite(), value, torch.full_like(value, torch.inf))


def is_valid(cov: Tensor, tolerance: float = 1e-4) -> Tensor:
    """(...) bool: finite, symmetric to ``tolerance`` (relative to the standard deviations) and positive definite."""
    std, _, valid = _whiten(cov)
    asymmetry = (cov - cov.mT).abs() / (std[..., :, None] * std[..., None, :])
    return valid & (torch.nan_to_num(asymmetry, nan=torch.inf) <= tolerance).all(-1).all(-1)
