"""A prior's part in the implicit gradient: its cost to second order, and the derivatives of its gradient by its data.

Six residuals need no closed form: autograd goes through ``local(prior, pose)`` twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pnp_ros.geometry import se3
from pnp_ros.kernels.pose_prior import PosePrior
from pnp_ros.types import Pose, PoseEstimate


@dataclass(frozen=True, eq=False)
class PriorTerm:
    """A prior in double precision.

    Args:
        pose: (..., 3, 3), (..., 3).
        covariance: (..., 6, 6).
        information: (..., 6, 6) its inverse, bounded, and zero where nothing is known.
    """

    pose: Pose
    covariance: Tensor
    information: Tensor

    @classmethod
    def of(cls, rotation: Tensor, translation: Tensor, covariance: Tensor) -> PriorTerm:
        """From the fields of a prior."""
        pose, covariance = Pose(rotation.double(), translation.double()), covariance.double()
        information = PosePrior.of(PoseEstimate.of(pose, covariance)).information_matrix()
        return cls(pose, covariance, information)

    def expand(self, pose: Pose, centroid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cost (...), gradient (..., 6) and Hessian (..., 6, 6) at a pose about the centroid (..., 1, 3)."""
        with torch.enable_grad():
            delta = pose.translation.new_zeros(*pose.translation.shape[:-1], 6, requires_grad=True)
            cost = _cost(self.pose, self.information, pose, centroid, delta)
            (gradient,) = torch.autograd.grad(cost.sum(), delta, create_graph=True)
            rows = [torch.autograd.grad(gradient[..., i].sum(), delta, retain_graph=True)[0] for i in range(6)]
        return cost.detach(), gradient.detach(), torch.stack(rows, dim=-2)

    def pull_back(self, pose: Pose, centroid: Tensor, direction: Tensor) -> list[Tensor]:
        """``-d (direction . gradient)`` by the prior's rotation, translation and covariance."""
        with torch.enable_grad():
            rotation, translation, covariance = (
                tensor.detach().clone().requires_grad_()
                for tensor in (self.pose.rotation, self.pose.translation, self.covariance)
            )
            # d C^-1 = -C^-1 dC C^-1; what is infinite has no derivative
            change = torch.where(self.covariance.isfinite(), covariance - covariance.detach(), 0.0)
            information = self.information - self.information @ change @ self.information
            delta = torch.zeros_like(direction, requires_grad=True)
            cost = _cost(Pose(rotation, translation), information, pose, centroid, delta)
            (gradient,) = torch.autograd.grad(cost.sum(), delta, create_graph=True)
            return list(torch.autograd.grad(-(direction * gradient).sum(), [rotation, translation, covariance]))


def _cost(prior: Pose, information: Tensor, pose: Pose, centroid: Tensor, delta: Tensor) -> Tensor:
    """``1/2 e^T information e``, ``e = local(prior, pose moved by delta)``; the pose is about the centroid."""
    moved = se3.retract(pose, delta)
    origin = moved.transform(-centroid).squeeze(-2)
    residual = se3.local(prior, Pose(moved.rotation, origin))
    return 0.5 * (residual[..., None, :] @ information @ residual[..., None]).squeeze(-1).squeeze(-1)
