"""What is known of a pose beforehand, as the solvers want it: axes along which it is independent, and how much of each.

The prior's residual is ``delta = local(prior, pose)`` with covariance ``C``, its cost ``1/2 delta^T C^-1 delta``.
With ``delta = S V eta`` (S: standard deviations, V: eigenvectors of the correlation matrix) the information is
diagonal: it may be nothing along some axes and almost infinite along others, which no inverse of ``C`` survives. Steps
are solved for in ``eta``, so a stiff axis does not hide what the points tell of the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pnp_ros.geometry import se3, so3
from pnp_ros.geometry.covariance import UNKNOWN_VARIANCE
from pnp_ros.types import Pose, PoseEstimate

# What is known exactly is known to so many metres and radians, and to such a share of the variance of other axes.
_LEAST_DEVIATION = {torch.float32: 1e-5, torch.float64: 1e-9}
_LEAST_SHARE = {torch.float32: 1e-6, torch.float64: 1e-12}

_UNKNOWN = 10.0  # an eigenvalue that no correlation matrix of six variables has


@dataclass(frozen=True, eq=False)
class PosePrior:
    """A prior on B poses.

    Args:
        rotation: (B, 3, 3).
        translation: (B, 3) metres.
        axes: (B, 6, 6) orthonormal columns V; NaN where pose or covariance are.
        deviations: (B, 6) the diagonal of S, metres and radians.
        information: (B, 6) of each axis' eta; zero where nothing is known.
        origin: (B, 3) the object's origin in the coordinates of the points.
    """

    rotation: Tensor
    translation: Tensor
    axes: Tensor
    deviations: Tensor
    information: Tensor
    origin: Tensor

    @classmethod
    def of(cls, estimate: PoseEstimate, like: Tensor | None = None) -> PosePrior:
        """From an estimate's pose and covariance, in the dtype and on the device of ``like``.

        A variance that is infinite or ``UNKNOWN_VARIANCE`` tells nothing.
        """
        like = estimate.covariance if like is None else like
        dtype, covariance = like.dtype, estimate.covariance.detach().to(like.device, torch.float64)
        variance = covariance.diagonal(dim1=-2, dim2=-1)
        known = variance < 0.99 * UNKNOWN_VARIANCE
        both = known[..., :, None] & known[..., None, :]
        deviations = torch.where(known, variance.clamp_min(0.0).sqrt().clamp_min(_LEAST_DEVIATION[dtype]), 1.0)
        scale = deviations[..., :, None] * deviations[..., None, :]
        correlation = torch.where(both, covariance, 0.0) / scale
        diagonal = correlation.diagonal(dim1=-2, dim2=-1)
        exact = torch.where(diagonal > 0.0, 0.0, 1.0)
        correlation = correlation + torch.diag_embed(torch.where(known, exact, _UNKNOWN))
        values, axes = torch.linalg.eigh(correlation.nan_to_num(0.0, 0.0, 0.0))
        information = values.clamp_min(_LEAST_SHARE[dtype]).reciprocal()
        information = torch.where(values > 0.9 * _UNKNOWN, 0.0, information)
        translation = estimate.pose.translation.detach().to(covariance)
        rotation = estimate.pose.rotation.detach().to(covariance)
        pose = torch.cat([rotation.flatten(-2), translation], dim=-1)
        sound = (correlation.isfinite().all(-1) & ~variance.isnan()).all(-1) & pose.isfinite().all(-1)
        axes = torch.where(sound[..., None, None], axes, torch.nan)
        # an orthonormal one: another would keep its error through all steps
        rotation = so3.matrix_from_quat_wxyz(so3.quat_wxyz_from_matrix(rotation))
        return cls(
            rotation.to(dtype),
            translation.to(dtype),
            axes.to(dtype),
            deviations.to(dtype),
            information.to(dtype),
            torch.zeros_like(translation, dtype=dtype),
        )

    def packed(self) -> Tensor:
        """(..., 10, 6) for the kernel: V (6 rows), S, information, and R and t in two rows; the origin is zero."""
        pose = torch.cat([self.rotation.flatten(-2), self.translation], dim=-1).unflatten(-1, (2, 6))
        rows = torch.stack([self.deviations, self.information], dim=-2)
        return torch.cat([self.axes, rows, pose], dim=-2)

    @classmethod
    def unpacked(cls, rows: Tensor) -> PosePrior:
        """The inverse of :meth:`packed`."""
        pose = rows[..., 8:, :].flatten(-2)
        rotation, translation = pose[..., :9].unflatten(-1, (3, 3)), pose[..., 9:]
        return cls(
            rotation, translation, rows[..., :6, :], rows[..., 6, :], rows[..., 7, :], torch.zeros_like(translation)
        )

    @property
    def resolution(self) -> Tensor:
        """(B) how many deviations the rounding of a position is, along the stiffest axis; also in the kernel."""
        inverse = self.axes.mT / self.deviations[..., None, :]
        steepest = (self.information * inverse.square().sum(-1)).amax(-1).sqrt()
        return torch.finfo(steepest.dtype).eps * self.translation.norm(dim=-1).clamp_min(1.0) * steepest

    @property
    def rank(self) -> Tensor:
        """(B) how many directions are known."""
        return (self.information > 0).sum(-1)

    def where(self, finite: Tensor) -> PosePrior:
        """Nothing known, where not ``finite`` (B)."""
        m1, m2 = finite[:, None], finite[:, None, None]
        eye3, eye6 = torch.eye(3).to(self.rotation), torch.eye(6).to(self.rotation)
        return PosePrior(
            torch.where(m2, self.rotation, eye3),
            torch.where(m1, self.translation, 0.0),
            torch.where(m2, self.axes, eye6),
            torch.where(m1, self.deviations, 1.0),
            torch.where(m1, self.information, 0.0),
            self.origin,
        )

    def information_matrix(self) -> Tensor:
        """(B, 6, 6) of ``delta``."""
        inverse = self.axes.mT / self.deviations[..., None, :]
        return inverse.mT @ (self.information[..., None] * inverse)

    def delta(self, rotation: Tensor, translation: Tensor) -> Tensor:
        """``local(prior, pose)`` (B, 6) of a pose of the points."""
        lever = (rotation @ self.origin[..., None]).squeeze(-1)
        return se3.local(Pose(self.rotation, self.translation), Pose(rotation, translation + lever))

    def residual(self, rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
        """``eta`` (B, 6) at a pose of the points, and ``T`` (B, 6, 6): to first order a step moves it by ``T step``."""
        delta = self.delta(rotation, translation)
        eta = (self.axes.mT @ (delta / self.deviations)[..., None]).squeeze(-1)
        jacobian = so3.left_jacobian(delta[..., 3:])
        lever = (rotation @ self.origin[..., None]).squeeze(-1)
        top = torch.cat([torch.eye(3).to(lever).expand_as(jacobian), so3.hat(lever) @ jacobian], dim=-1)
        bottom = torch.cat([torch.zeros_like(jacobian), jacobian], dim=-1)
        tangent = torch.cat([top, bottom], dim=-2) @ (self.deviations[..., None] * self.axes)
        return eta, tangent

    def step(self, rotation: Tensor, translation: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """The pose whose ``eta`` is larger by ``step`` (B, 6), exactly: what is known exactly keeps no step small."""
        change = self.deviations * (self.axes @ step[..., None]).squeeze(-1)
        moved = se3.retract(Pose(self.rotation, self.translation), self.delta(rotation, translation) + change)
        lever = (moved.rotation @ self.origin[..., None]).squeeze(-1)
        return moved.rotation, moved.translation - lever
