"""What is believed of a moving body: pose and velocity, how both go on, and what a measured pose tells.

An error-state Kalman filter (Sola, "Quaternion kinematics for the error-state Kalman filter", 2017) with constant
velocity and white acceleration (Bar-Shalom, Li, Kirubarajan, "Estimation with Applications to Tracking and
Navigation", 2001, section 6.2). The error is ``[dt, dtheta, dv, dw]`` in the axes of the reference frame about the
object's origin, the package's perturbation of a pose followed by that of its rates.

Everything here is numpy, float64: matrices are so small that torch would spend its time on the calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.geometry import so3
from pnp_ros.types import Pose

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Belief:
    """Pose and velocity of a body with their covariance.

    Args:
        rotation, translation: (..., 3, 3) and (..., 3), the body's pose in the reference frame.
        velocity: (..., 6) ``[v, w]`` of the body's origin and about it, in the reference frame's axes, m/s and rad/s.
        covariance: (..., 12, 12) of ``[dt, dtheta, dv, dw]``.
    """

    rotation: Array
    translation: Array
    velocity: Array
    covariance: Array

    def __getitem__(self, index: int) -> Belief:
        """Of the first batch dimension."""
        return Belief(self.rotation[index], self.translation[index], self.velocity[index], self.covariance[index])

    @property
    def pose(self) -> Pose:
        """(...) of the body in the reference frame."""
        return Pose(torch.from_numpy(self.rotation), torch.from_numpy(self.translation))


def moved(belief: Belief, elapsed: float, acceleration: Array) -> Belief:
    """The belief ``elapsed`` seconds later (negative: earlier, as uncertain as later).

    Args:
        belief: now.
        elapsed: seconds.
        acceleration: (..., 2) density of the white acceleration, linear m/s^1.5 and angular rad/s^1.5: after a second
            the velocity has changed by this much (1 sigma).
    """
    turn, jacobian = _exp_and_jacobian(belief.velocity[..., 3:] * elapsed)
    transition = np.zeros_like(belief.covariance)
    transition[..., range(12), range(12)] = 1.0
    transition[..., range(3), range(6, 9)] = elapsed
    transition[..., 3:6, 3:6] = turn
    transition[..., 3:6, 9:] = elapsed * jacobian
    covariance = transition @ belief.covariance @ transition.swapaxes(-1, -2) + _diffusion(abs(elapsed), acceleration)
    translation = belief.translation + elapsed * belief.velocity[..., :3]
    return Belief(turn @ belief.rotation, translation, belief.velocity, covariance)


def _diffusion(elapsed: float, acceleration: Array) -> Array:
    """(..., 12, 12) what white acceleration adds in ``elapsed`` seconds."""
    power = np.square(acceleration).repeat(3, axis=-1)
    noise = np.zeros((*power.shape[:-1], 12, 12))
    first, last = np.arange(6), np.arange(6, 12)
    noise[..., first, first] = power * elapsed**3 / 3.0
    noise[..., first, last] = noise[..., last, first] = power * elapsed**2 / 2.0
    noise[..., last, last] = power * elapsed
    return noise


@dataclass(frozen=True, eq=False)
class Innovation:
    """How a measured pose differs from what was expected.

    Args:
        delta: (..., 6) from the expected to the measured pose.
        covariance: (..., 6, 6) of delta: the belief's and the measurement's.
    """

    delta: Array
    covariance: Array

    @property
    def chi_square(self) -> Array:
        """(...) squared Mahalanobis distance; six degrees of freedom where everything is as believed."""
        return np.asarray((self.delta * np.linalg.solve(self.covariance, self.delta[..., None])[..., 0]).sum(-1))

    @property
    def log_likelihood(self) -> Array:
        """(...) of the measurement, but for a constant."""
        return np.asarray(-0.5 * (self.chi_square + np.linalg.slogdet(self.covariance).logabsdet))


def innovation(belief: Belief, rotation: Array, translation: Array, covariance: Array) -> Innovation:
    """What a pose (3, 3), (3,) with its covariance (6, 6) says beside the belief."""
    delta = difference(belief.rotation, belief.translation, rotation, translation)
    return Innovation(delta, belief.covariance[..., :6, :6] + covariance)


def updated(belief: Belief, told: Innovation, covariance: Array) -> Belief:
    """The belief after a measurement, with ``covariance`` (6, 6) that of the measured pose."""
    gain = np.linalg.solve(told.covariance, belief.covariance[..., :6, :]).swapaxes(-1, -2)
    change = (gain @ told.delta[..., None])[..., 0]
    keep = np.broadcast_to(np.eye(12), belief.covariance.shape).copy()
    keep[..., :6] -= gain
    after = keep @ belief.covariance @ keep.swapaxes(-1, -2)  # Joseph's form stays positive
    after = after + gain @ covariance @ gain.swapaxes(-1, -2)
    return corrected(Belief(belief.rotation, belief.translation, belief.velocity, after), change)


def corrected(belief: Belief, change: Array) -> Belief:
    """The belief moved by (..., 12); its covariance is that of what is left, about the new pose."""
    turn, jacobian = _exp_and_jacobian(change[..., 3:6])
    reset = np.broadcast_to(np.eye(12), belief.covariance.shape).copy()
    reset[..., 3:6, 3:6] = jacobian
    covariance = reset @ belief.covariance @ reset.swapaxes(-1, -2)
    translation = belief.translation + change[..., :3]
    return Belief(turn @ belief.rotation, translation, belief.velocity + change[..., 6:], covariance)


def mixture(beliefs: Belief, weights: Array) -> Belief:
    """One belief with mean and covariance of several.

    Args:
        beliefs: of M, first batch dimension.
        weights: (..., M), summing to 1; leading dimensions make as many mixtures.
    """
    centre = beliefs[int(weights.reshape(-1, weights.shape[-1]).sum(0).argmax())]
    away = difference(centre.rotation, centre.translation, beliefs.rotation, beliefs.translation)
    offset = np.concatenate([away, beliefs.velocity - centre.velocity], axis=-1)
    mean = weights @ offset
    spread = offset - mean[..., None, :]
    covariances = beliefs.covariance + spread[..., :, None] * spread[..., None, :]
    covariance = (weights[..., None, None] * covariances).sum(-3)
    return corrected(Belief(centre.rotation, centre.translation, centre.velocity, covariance), mean)


def difference(rotation: Array, translation: Array, other_rotation: Array, other_translation: Array) -> Array:
    """(..., 6) from one pose to another, as :func:`pnp_ros.geometry.se3.local`."""
    turn = other_rotation @ rotation.swapaxes(-1, -2)
    shift = np.broadcast_to(other_translation - translation, (*turn.shape[:-2], 3))
    return np.concatenate([shift, _log(turn)], axis=-1)


def _exp_and_jacobian(phi: Array) -> tuple[Array, Array]:
    """``exp(phi)`` and its left Jacobian (..., 3, 3), as :mod:`pnp_ros.geometry.so3` has them."""
    square = np.square(phi).sum(-1)
    angle = np.sqrt(square)
    first = np.sinc(angle / np.pi)
    second = 0.5 * np.square(np.sinc(angle / (2.0 * np.pi)))
    small = square < 1e-4
    third = np.where(small, 1.0 / 6.0 - square / 120.0, (1.0 - first) / np.where(small, 1.0, square))
    skew = np.zeros((*phi.shape, 3))
    skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0] = phi[..., 0], phi[..., 1], phi[..., 2]
    skew = skew - skew.swapaxes(-1, -2)
    twice, eye = skew @ skew, np.eye(3)
    turn = eye + first[..., None, None] * skew + second[..., None, None] * twice
    return turn, eye + second[..., None, None] * skew + third[..., None, None] * twice


def _log(rotation: Array) -> Array:
    """Rotation vectors (..., 3); near half a turn the general way through quaternions."""
    cosine = 0.5 * (np.trace(rotation, axis1=-2, axis2=-1) - 1.0)
    if (cosine < -0.9).any():
        return np.asarray(so3.log(torch.from_numpy(np.ascontiguousarray(rotation))).numpy())
    axis = 0.5 * np.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        axis=-1,
    )
    sine = np.sqrt(np.square(axis).sum(-1))
    return np.asarray(axis / np.sinc(np.arctan2(sine, cosine) / np.pi)[..., None])
