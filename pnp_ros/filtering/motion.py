"""What is believed of a moving body: pose and velocity, how both go on, and what a measured pose tells.

An error-state Kalman filter (Sola, "Quaternion kinematics for the error-state Kalman filter", 2017) with constant
velocity and white acceleration (Bar-Shalom, Li, Kirubarajan, "Estimation with Applications to Tracking and
Navigation", 2001, section 6.2). The error is ``[dt, dtheta, dv, dw]`` in the axes of the reference frame about the
object's origin, the package's perturbation of a pose followed by that of its rates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pnp_ros.geometry import se3, so3
from pnp_ros.types import Pose


@dataclass(frozen=True)
class Belief:
    """Pose and velocity of a body with their covariance, float64.

    Args:
        pose: (...) of the body in the reference frame.
        velocity: (..., 6) ``[v, w]`` of the body's origin and about it, in the reference frame's axes, m/s and rad/s.
        covariance: (..., 12, 12) of ``[dt, dtheta, dv, dw]``.
    """

    pose: Pose
    velocity: Tensor
    covariance: Tensor

    def __getitem__(self, index: int | slice | Tensor) -> Belief:
        """Of the first batch dimension."""
        return Belief(self.pose[index], self.velocity[index], self.covariance[index])


def moved(belief: Belief, elapsed: float, acceleration: Tensor) -> Belief:
    """The belief ``elapsed`` seconds later (negative: earlier, as uncertain as later).

    Args:
        belief: now.
        elapsed: seconds.
        acceleration: (..., 2) density of the white acceleration, linear m/s^1.5 and angular rad/s^1.5: after a second
            the velocity has changed by this much (1 sigma).
    """
    turn = belief.velocity[..., 3:] * elapsed
    transition = torch.eye(12, dtype=belief.covariance.dtype).expand_as(belief.covariance).clone()
    transition[..., :3, 6:9] = elapsed * torch.eye(3, dtype=transition.dtype)
    transition[..., 3:6, 3:6] = so3.exp(turn)
    transition[..., 3:6, 9:] = elapsed * so3.left_jacobian(turn)
    covariance = transition @ belief.covariance @ transition.mT + _diffusion(abs(elapsed), acceleration)
    return Belief(se3.retract(belief.pose, belief.velocity * elapsed), belief.velocity, covariance)


def _diffusion(elapsed: float, acceleration: Tensor) -> Tensor:
    """(..., 12, 12) what white acceleration adds in ``elapsed`` seconds."""
    power = acceleration.square().repeat_interleave(3, dim=-1)
    noise = torch.diag_embed(torch.cat([power * elapsed**3 / 3.0, power * elapsed], dim=-1))
    mixed = torch.diag_embed(power * elapsed**2 / 2.0)
    noise[..., :6, 6:] = noise[..., 6:, :6] = mixed
    return noise


@dataclass(frozen=True)
class Innovation:
    """How a measured pose differs from what was expected.

    Args:
        delta: (..., 6) from the expected to the measured pose.
        covariance: (..., 6, 6) of delta: the belief's and the measurement's.
    """

    delta: Tensor
    covariance: Tensor

    @property
    def chi_square(self) -> Tensor:
        """(...) squared Mahalanobis distance; six degrees of freedom where everything is as believed."""
        return (self.delta * torch.linalg.solve(self.covariance, self.delta)).sum(-1)

    @property
    def log_likelihood(self) -> Tensor:
        """(...) of the measurement, but for a constant."""
        return -0.5 * (self.chi_square + torch.linalg.slogdet(self.covariance).logabsdet)


def innovation(belief: Belief, pose: Pose, covariance: Tensor) -> Innovation:
    """What a pose with its covariance (6, 6) says beside the belief."""
    return Innovation(se3.local(belief.pose, pose), belief.covariance[..., :6, :6] + covariance)


def updated(belief: Belief, told: Innovation, covariance: Tensor) -> Belief:
    """The belief after a measurement, with ``covariance`` (6, 6) that of the measured pose."""
    gain = torch.linalg.solve(told.covariance, belief.covariance[..., :6, :]).mT
    change = (gain @ told.delta[..., None]).squeeze(-1)
    keep = torch.eye(12, dtype=gain.dtype) - torch.nn.functional.pad(gain, (0, 6))
    after = keep @ belief.covariance @ keep.mT + gain @ covariance @ gain.mT  # Joseph's form stays positive
    return corrected(Belief(belief.pose, belief.velocity, after), change)


def corrected(belief: Belief, change: Tensor) -> Belief:
    """The belief moved by (..., 12); its covariance is that of what is left, about the new pose."""
    reset = torch.eye(12, dtype=change.dtype).expand_as(belief.covariance).clone()
    reset[..., 3:6, 3:6] = so3.left_jacobian(change[..., 3:6])
    pose = se3.retract(belief.pose, change[..., :6])
    return Belief(pose, belief.velocity + change[..., 6:], reset @ belief.covariance @ reset.mT)


def mixture(beliefs: Belief, weights: Tensor) -> Belief:
    """One belief with mean and covariance of several.

    Args:
        beliefs: of M, first batch dimension.
        weights: (..., M), summing to 1; leading dimensions make as many mixtures.
    """
    likeliest = int(weights.reshape(-1, weights.shape[-1]).sum(0).argmax())
    centre = beliefs[likeliest]
    offset = torch.cat([se3.local(centre.pose, beliefs.pose), beliefs.velocity - centre.velocity], dim=-1)
    mean = weights @ offset
    spread = offset - mean[..., None, :]
    covariances = beliefs.covariance + spread[..., :, None] * spread[..., None, :]
    covariance = (weights[..., None, None] * covariances).sum(-3)
    shape = weights.shape[:-1]
    around = Belief(
        Pose(centre.pose.rotation.expand(*shape, 3, 3), centre.pose.translation.expand(*shape, 3)),
        centre.velocity.expand(*shape, 6),
        covariance,
    )
    return corrected(around, mean)
