"""What is believed of a moving body: pose and velocity, how both go on, and what a measured pose tells.

An error-state Kalman filter (Sola, "Quaternion kinematics for the error-state Kalman filter", 2017) with constant
velocity and white acceleration (Bar-Shalom, Li, Kirubarajan, "Estimation with Applications to Tracking and
Navigation", 2001, section 6.2). The error is ``[dt, dtheta, dv, dw]`` in the axes of the reference frame about the
object's origin, the package's perturbation of a pose followed by that of its rates, and after it the M causes that all
measurements have in common, such as a focal length that is a little wrong: a measured pose is off by ``G b`` beside
its own noise, with ``b`` of unit variance before anything is measured (Jazwinski, "Stochastic Processes and Filtering
Theory", 1970, section 8.4).

Everything here is numpy, float64: matrices are so small that torch would spend its time on the calls.
"""

from __future__ import annotations

import dataclasses
import math
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
        causes: (..., M) of what all measurements have in common, in standard deviations.
        covariance: (..., 12 + M, 12 + M) of ``[dt, dtheta, dv, dw, causes]``.
    """

    rotation: Array
    translation: Array
    velocity: Array
    causes: Array
    covariance: Array

    def __getitem__(self, index: int) -> Belief:
        """Of the first batch dimension."""
        parts = (self.rotation, self.translation, self.velocity, self.causes, self.covariance)
        return Belief(*(part[index] for part in parts))

    @property
    def pose(self) -> Pose:
        """(...) of the body in the reference frame."""
        return Pose(torch.from_numpy(self.rotation), torch.from_numpy(self.translation))


@dataclass(frozen=True, eq=False)
class Law:
    """How a body may move.

    Args:
        acceleration: (..., 2) density of the white acceleration, linear m/s^1.5 and angular rad/s^1.5: after a second
            the velocity has changed by this much (1 sigma).
        walk: (..., 2) density of the white velocity beside it, m/s^0.5 and rad/s^0.5.
        goes_on: (...) 1.0, or 0.0 where the body has no velocity but that: it is then told to be 0, as unsure as
            ``acceleration`` makes it in a second.
        fading: seconds in which the first six causes change into others (a Gauss-Markov process of unit variance).
    """

    acceleration: Array
    walk: Array
    goes_on: Array
    fading: float = math.inf


def moved(belief: Belief, elapsed: float, law: Law) -> Belief:
    """The belief ``elapsed`` seconds later (negative: earlier, as uncertain as later)."""
    velocity = law.goes_on[..., None] * belief.velocity
    turn, jacobian = _exp_and_jacobian(velocity[..., 3:] * elapsed)
    transition = np.zeros_like(belief.covariance)
    each = np.arange(transition.shape[-1])
    stay = math.exp(-abs(elapsed) / law.fading)
    transition[..., each, each] = 1.0
    transition[..., each[12:18], each[12:18]] = stay
    transition[..., range(6, 12), range(6, 12)] = law.goes_on[..., None]
    transition[..., range(3), range(6, 9)] = elapsed * law.goes_on[..., None]
    transition[..., 3:6, 3:6] = turn
    transition[..., 3:6, 9:12] = elapsed * jacobian * law.goes_on[..., None, None]
    covariance = transition @ belief.covariance @ transition.swapaxes(-1, -2)
    covariance[..., :12, :12] += _diffusion(abs(elapsed), law)
    covariance[..., each[12:18], each[12:18]] += 1.0 - stay**2
    translation = belief.translation + elapsed * velocity[..., :3]
    causes = np.concatenate([stay * belief.causes[..., :6], belief.causes[..., 6:]], axis=-1)
    return Belief(turn @ belief.rotation, translation, velocity, causes, covariance)


def _diffusion(elapsed: float, law: Law) -> Array:
    """(..., 12, 12) what white acceleration and velocity add in ``elapsed`` seconds."""
    power, walk = (np.square(each).repeat(3, axis=-1) for each in (law.acceleration, law.walk))
    goes_on = law.goes_on[..., None]
    noise = np.zeros((*power.shape[:-1], 12, 12))
    first, last = np.arange(6), np.arange(6, 12)
    noise[..., first, first] = goes_on * power * elapsed**3 / 3.0 + walk * elapsed
    noise[..., first, last] = noise[..., last, first] = goes_on * power * elapsed**2 / 2.0
    noise[..., last, last] = np.where(goes_on > 0.0, power * elapsed, power)
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


def innovation(belief: Belief, rotation: Array, translation: Array, covariance: Array, common: Array) -> Innovation:
    """What a pose (3, 3), (3,) says beside the belief, with its own covariance (6, 6) and ``common`` (6, M), by which
    each cause moves it."""
    delta = difference(belief.rotation, belief.translation, rotation, translation)
    delta = delta - (common @ belief.causes[..., None])[..., 0]
    spread = _tells(common) @ belief.covariance @ _tells(common).T
    return Innovation(delta, spread + covariance)


def updated(belief: Belief, told: Innovation, covariance: Array, common: Array) -> Belief:
    """The belief after a measurement, with ``covariance`` (6, 6) and ``common`` (6, M) those of the measured pose."""
    tells = _tells(common)
    gain = np.linalg.solve(told.covariance, tells @ belief.covariance).swapaxes(-1, -2)
    change = (gain @ told.delta[..., None])[..., 0]
    keep = np.eye(belief.covariance.shape[-1]) - gain @ tells
    after = keep @ belief.covariance @ keep.swapaxes(-1, -2)  # Joseph's form stays positive
    after = after + gain @ covariance @ gain.swapaxes(-1, -2)
    return corrected(dataclasses.replace(belief, covariance=after), change)


def with_causes(belief: Belief, count: int) -> Belief:
    """The belief with ``count`` causes, or more where it has them: new ones are as unsure as nothing measured makes
    them."""
    new = count - belief.causes.shape[-1]
    if new <= 0:
        return belief
    batch = [(0, 0)] * (belief.causes.ndim - 1)
    covariance = np.pad(belief.covariance, [*batch, (0, new), (0, new)])
    last = np.arange(covariance.shape[-1] - new, covariance.shape[-1])
    covariance[..., last, last] = 1.0
    return dataclasses.replace(belief, causes=np.pad(belief.causes, [*batch, (0, new)]), covariance=covariance)


def _tells(common: Array) -> Array:
    """(6, 12 + M) by which a measured pose is off, of pose, velocity and causes."""
    return np.concatenate([np.eye(6), np.zeros((6, 6)), common], axis=-1)


def corrected(belief: Belief, change: Array) -> Belief:
    """The belief moved by (..., 12 + M); its covariance is that of what is left, about the new pose."""
    turn, jacobian = _exp_and_jacobian(change[..., 3:6])
    reset = np.broadcast_to(np.eye(belief.covariance.shape[-1]), belief.covariance.shape).copy()
    reset[..., 3:6, 3:6] = jacobian
    covariance = reset @ belief.covariance @ reset.swapaxes(-1, -2)
    velocity, causes = belief.velocity + change[..., 6:12], belief.causes + change[..., 12:]
    return Belief(turn @ belief.rotation, belief.translation + change[..., :3], velocity, causes, covariance)


def mixture(beliefs: Belief, weights: Array) -> Belief:
    """One belief with mean and covariance of several.

    Args:
        beliefs: of M, first batch dimension.
        weights: (..., M), summing to 1; leading dimensions make as many mixtures.
    """
    centre = beliefs[int(weights.reshape(-1, weights.shape[-1]).sum(0).argmax())]
    away = difference(centre.rotation, centre.translation, beliefs.rotation, beliefs.translation)
    offset = np.concatenate([away, beliefs.velocity - centre.velocity, beliefs.causes - centre.causes], axis=-1)
    mean = weights @ offset
    spread = offset - mean[..., None, :]
    covariances = beliefs.covariance + spread[..., :, None] * spread[..., None, :]
    covariance = (weights[..., None, None] * covariances).sum(-3)
    middle = Belief(centre.rotation, centre.translation, centre.velocity, centre.causes, covariance)
    return corrected(middle, mean)


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
