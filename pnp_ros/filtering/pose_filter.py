"""A filter over the poses of one object: smoother than each image's own, with velocity, for any time.

Four models of motion, from quiet to agile, run side by side and are mixed by what they predicted (interacting
multiple models: Blom, Bar-Shalom, "The interacting multiple model algorithm for systems with Markovian switching
coefficients", 1988): a still object does not jitter, a moving one does not lag. Part of a pose's error is the same in
image after image (focal length, size of the mesh); it does not average out, so it is added again to the
covariance that is told. How large the rest is, the noise of one image by itself, is measured: by how much three poses
in a row are not on a straight line.
"""

from __future__ import annotations

import bisect
import dataclasses
import enum
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pnp_ros import settings
from pnp_ros.filtering import motion
from pnp_ros.filtering.motion import Array, Belief
from pnp_ros.settings import bounded
from pnp_ros.types import Pose, PoseEstimate
from pnp_ros.types.tensors import Values

_MODELS = 4  # from quiet to agile, by equal ratios
_WATCHED = 45  # poses by which their noise is judged, and the fewest
_FEWEST = 10
_LEAST_NOISE = 0.03  # share of the variance; less would follow what little there is, more would be slow to settle
_MEDIAN = 5.348  # of chi-square with six degrees of freedom
_EVEN = 0.3  # by which two intervals may differ
_UNKNOWN_RATE = (2.0, 10.0)  # of a body seen once, 1 sigma: m/s and rad/s


@dataclass(frozen=True)
class FilterConfig:
    """How an object may move, and what is believed of the poses that are measured.

    Args:
        quiet: white acceleration of the quiet model, m/s^1.5; the angular one is ``turning`` times as large in
            rad/s^1.5.
        agile: of the agile model; others stand between them.
        turning: angular over linear acceleration, rad/m.
        switching: how often a body changes its model, per second.
        shared: least share of the variance of a measured pose that its neighbours in time have in common, 0 to 1: it
            does not average out, and is in the covariance that is told. How large it is shows in the poses themselves.
        gate: largest squared Mahalanobis distance of a measured pose from the expected one; 22.5 refuses one true
            pose of a thousand.
        patience: seconds for which the object is predicted without a measurement that agrees; then it starts anew.
        memory: seconds for which a measurement may come late.

    Raises:
        ValueError: naming the field and what it expects.
    """

    quiet: float = bounded(0.001, 1e-6, 100.0)
    agile: float = bounded(2.0, 1e-6, 1e4)
    turning: float = bounded(5.0, 1e-3, 1e4)
    switching: float = bounded(0.5, 1e-6, 100.0)
    shared: float = bounded(0.5, 0.0, 0.99)
    gate: float = bounded(22.5, 1.0, 1e12)
    patience: float = bounded(0.5, 1e-3, 1e4)
    memory: float = bounded(0.5, 0.0, 60.0)

    def __post_init__(self) -> None:
        settings.check(self)
        if not self.agile > self.quiet:
            raise ValueError(f"agile: expected more than quiet, got {self.agile}")


class Outcome(enum.Enum):
    """What became of a measured pose."""

    STARTED = "started"
    ACCEPTED = "accepted"
    REJECTED = "rejected"  # too far from what was expected
    LATE = "late"  # older than what is remembered
    UNFIT = "unfit"  # not finite, or without a proper covariance


@dataclass(frozen=True, eq=False, repr=False)
class FilteredPose(Values):
    """An object at one time, in the frame of the measured poses.

    Args:
        stamp: seconds.
        pose: of the object.
        covariance: (6, 6) of ``[dt, dtheta]``, what neighbouring images have in common included.
        velocity: (6,) ``[v, w]`` of the object's origin and about it, in the frame's axes, m/s and rad/s.
        velocity_covariance: (6, 6).
        age: seconds since the last measurement that was used; negative: before it.
    """

    stamp: float
    pose: Pose
    covariance: Tensor
    velocity: Tensor
    velocity_covariance: Tensor
    age: float


@dataclass(frozen=True)
class _Step:
    """A measurement that was used, and what was believed after it: a belief and a probability of each model.

    ``before`` is the one used before it, ``bends`` how far the last ones were from steady motion, as squared
    Mahalanobis distances of what independent noise would make.
    """

    stamp: float
    rotation: Array
    translation: Array
    covariance: Array
    beliefs: Belief
    probability: Array
    before: _Step | None = None
    bends: tuple[float, ...] = ()

    def noise(self, shared: float) -> float:
        """Share of a measured pose's variance that is of its image alone; ``shared`` says so until it is measured.

        Acceleration bends a path, too, so that the noise is rather taken for too large than for too small.
        """
        if len(self.bends) < _FEWEST:
            return 1.0 - shared
        return float(np.clip(np.median(self.bends) / _MEDIAN, _LEAST_NOISE, 1.0))

    def bends_with(self, stamp: float, rotation: Array, translation: Array, covariance: Array) -> tuple[float, ...]:
        """And of the next measurement: the second difference of three has six times the variance of one."""
        if self.before is None or abs(stamp - 2.0 * self.stamp + self.before.stamp) > _EVEN * (stamp - self.stamp):
            return self.bends
        bend = motion.difference(self.rotation, self.translation, rotation, translation)
        bend = bend - motion.difference(self.before.rotation, self.before.translation, self.rotation, self.translation)
        return (*self.bends, float(bend @ np.linalg.solve(covariance, bend)) / 6.0)[-_WATCHED:]


class PoseFilter:
    """Pose and velocity of one object over time.

    Args:
        config: see :class:`FilterConfig`.

    >>> filter = PoseFilter()
    >>> for k in range(30):
    ...     seen = Pose.from_rvec([0.0, 0.0, 0.0], [0.01 * k, 0.0, 1.0])  # 0.3 m/s to the right, 30 images a second
    ...     outcome = filter.update(PoseEstimate.of(seen, 1e-6 * torch.eye(6)), k / 30.0)
    >>> round(filter.predict(29 / 30.0 + 0.1).pose.translation[0].item(), 2)
    0.32
    """

    def __init__(self, config: FilterConfig | None = None) -> None:
        self.config = config or FilterConfig()
        c = self.config
        ladder = np.geomspace(c.quiet, c.agile, _MODELS)
        self._acceleration = np.stack([ladder, c.turning * ladder], axis=-1)
        self._steps: list[_Step] = []

    def reset(self) -> None:
        """Forget everything."""
        self._steps.clear()

    def update(self, estimate: PoseEstimate, stamp: float) -> Outcome:
        """Take in a measured pose (no batch dimensions); it may be older than the last one.

        Args:
            estimate: pose and covariance, in a frame that stays the same.
            stamp: of the image, seconds.
        """
        values = (estimate.pose.rotation, estimate.pose.translation, estimate.covariance)
        rotation, translation, covariance = (value.detach().cpu().double().numpy() for value in values)
        if not _fit(rotation, translation, covariance) or not math.isfinite(stamp):
            return Outcome.UNFIT
        if self._steps and stamp - self._steps[-1].stamp > self.config.patience:
            self.reset()
        if not self._steps:
            self._steps = [self._first(rotation, translation, covariance, stamp)]
            return Outcome.STARTED
        place = bisect.bisect_right([step.stamp for step in self._steps], stamp)
        if place == 0 or self._steps[-1].stamp - stamp > self.config.memory:
            return Outcome.LATE
        told = self._next(self._steps[place - 1], rotation, translation, covariance, stamp)
        if told is None:
            return Outcome.REJECTED
        later, self._steps[place:] = self._steps[place:], [told]
        for step in later:  # what came after it is told again
            again = self._next(self._steps[-1], step.rotation, step.translation, step.covariance, step.stamp)
            if again is not None:
                self._steps.append(again)
        oldest = self._steps[-1].stamp - self.config.memory
        while len(self._steps) > 1 and self._steps[1].stamp <= oldest:
            del self._steps[0]
        return Outcome.ACCEPTED

    def predict(self, stamp: float) -> FilteredPose | None:
        """The object at any time near the last measurement; None where nothing is known, or for too long."""
        if not self._steps:
            return None
        known = [step for step in self._steps if step.stamp <= stamp] or self._steps[:1]
        step, age = known[-1], stamp - self._steps[-1].stamp
        if not abs(stamp - step.stamp) <= self.config.patience:
            return None
        belief = motion.mixture(motion.moved(step.beliefs, stamp - step.stamp, self._acceleration), step.probability)
        covariance = (
            belief.covariance[:6, :6] + max(self.config.shared, 1.0 - step.noise(self.config.shared)) * step.covariance
        )
        told, velocity = torch.from_numpy(covariance), torch.from_numpy(belief.velocity)
        rates = torch.from_numpy(belief.covariance[6:, 6:].copy())
        return FilteredPose(stamp, belief.pose, told, velocity, rates, age)

    def _first(self, rotation: Array, translation: Array, covariance: Array, stamp: float) -> _Step:
        joint = np.zeros((_MODELS, 12, 12))
        joint[:, :6, :6] = (1.0 - self.config.shared) * covariance
        joint[:, range(6, 12), range(6, 12)] = [rate**2 for rate in _UNKNOWN_RATE for _ in range(3)]
        each = np.ones((_MODELS, 1))
        beliefs = Belief(each[..., None] * rotation, each * translation, np.zeros((_MODELS, 6)), joint)
        return _Step(stamp, rotation, translation, covariance, beliefs, np.full(_MODELS, 1.0 / _MODELS))

    def _next(self, last: _Step, rotation: Array, translation: Array, covariance: Array, stamp: float) -> _Step | None:
        """The step that a measurement leads to; None if it is beyond the gate of all models."""
        elapsed = stamp - last.stamp
        stay = math.exp(-self.config.switching * elapsed)
        change = stay * np.eye(_MODELS) + (1.0 - stay) / _MODELS
        joint = change * last.probability[:, None]  # (from, to)
        expected = joint.sum(0)
        mixed = motion.mixture(last.beliefs, (joint / expected).T)
        beliefs = motion.moved(mixed, elapsed, self._acceleration)
        gate = motion.innovation(beliefs, rotation, translation, covariance)
        if not (gate.chi_square <= self.config.gate).any():
            return None
        bends = last.bends_with(stamp, rotation, translation, covariance)
        own = last.noise(self.config.shared) * covariance  # the rest is the same in the next image
        told = motion.innovation(beliefs, rotation, translation, own)
        score = np.log(expected) + told.log_likelihood
        probability = np.maximum(np.exp(score - score.max()), 1e-6)
        after = motion.updated(beliefs, told, own)
        before = dataclasses.replace(last, before=None)  # no chain
        return _Step(stamp, rotation, translation, covariance, after, probability / probability.sum(), before, bends)


def _fit(rotation: Array, translation: Array, covariance: Array) -> bool:
    """Whether a measurement is finite and its covariance positive."""
    if not all(np.isfinite(value).all() for value in (rotation, translation, covariance)):
        return False
    try:
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return False
    return True
