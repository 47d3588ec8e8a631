"""A filter over the poses of one object: smoother than each image's own, with velocity, for any time.

Five models of motion, one of a body at rest and four from quiet to agile, run side by side and are mixed by what they
predicted (interacting multiple models: Blom, Bar-Shalom, "The interacting multiple model algorithm for systems with
Markovian switching coefficients", 1988): a still object does not jitter, a moving one does not lag.

Part of a pose's error is the same in image after image (focal length, size of the mesh). Where each measurement tells
by how much each such cause moves it (``systematic``), the causes are estimated together with the motion: before a
camera that moves they show, as they move a still object along with the camera. Of the rest a part changes with the
view and not from image to image: a first-order Gauss-Markov process (Gelb, "Applied Optimal Estimation", 1974, section
4.5), estimated with them. Where causes are not told, what images have in common counts as a part that does not average
out: it is added again to the covariance that is told. How large the noise of one image by itself is, is measured: by
how much three poses in a row are not on a straight line.
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
from pnp_ros.filtering.motion import Array, Belief, Law
from pnp_ros.settings import bounded
from pnp_ros.types import Pose, PoseEstimate
from pnp_ros.types.tensors import Values

_MOVING = 4  # models, from quiet to agile, by equal ratios; beside them one of rest
_MODELS = 1 + _MOVING
_WALK = 1e-5  # white velocity at rest, m/s^0.5; the angular one is ``turning`` times as large in rad/s^0.5
_ROUNDING = 1e-4  # of a variance: float32 may not tell what is left beside the systematic part
_KNOWN = 10  # poses from which on the body may be at rest: before, hardly any velocity is as likely as none
# Where causes are told they look like motion at first. Rest and motion then go their own ways for so many poses: each
# learns other causes, and a mixture of both would spoil those of the right one.
_APART = 30
# Largest share of the rest of a pose's variance that changes with the view, and seconds in which it does.
_LINGERING, _FADING = 0.7, 0.5
_BEYOND = 3.0  # times the rest of a pose's variance beside causes: what they do is told to first order only
_WATCHED = 45  # poses by which their noise is judged, and the fewest
_FEWEST = 10
_LEAST_NOISE = 0.03  # share of the variance; less would follow what little there is, more would be slow to settle
_MEDIAN = 5.348  # of chi-square with six degrees of freedom
_STEADY, _HANDLED = 2, 3  # the first models, of rest and of quiet motion; the one of what a hand moves
_TOUCHED = 0.02  # how often what is at rest or steady comes to be handled, per second
_LASTS = 0.5  # share of an acceleration's power that outlasts a gap: 0 is white noise, 1 stays as it is
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
class _Measured:
    """A pose that an image told: the covariance (6, 6) is that beside ``common`` (6, M), by which M causes move it."""

    stamp: float
    rotation: Array
    translation: Array
    covariance: Array
    common: Array


@dataclass(frozen=True)
class _Step:
    """A measurement that was used, and what was believed after it: a belief and a probability of each model.

    It is the ``count``-th; ``before`` is the one used before it, ``bends`` how far the last ones were from steady
    motion, as squared Mahalanobis distances of what independent noise would make.
    """

    seen: _Measured
    beliefs: Belief
    probability: Array
    count: int = 1
    before: _Measured | None = None
    bends: tuple[float, ...] = ()

    def noise(self, shared: float) -> float:
        """Share of a measured pose's variance that is of its image alone; ``shared`` says so until it is measured.

        Acceleration bends a path, too, so that the noise is rather taken for too large than for too small.
        """
        if len(self.bends) < _FEWEST:
            return 1.0 - shared
        return float(np.clip(np.median(self.bends) / _MEDIAN, _LEAST_NOISE, 1.0))

    def across(self, elapsed: float, law: Law) -> tuple[Law, Array]:
        """How the body may move where no image says, for so many seconds, and how likely each model is then.

        From image to image its acceleration may count as white. It is not: a hand that slows down goes on to do so,
        and what lasts moves a body ``elapsed`` / interval times as far, squared, as what is new at each interval. And
        what is at rest or goes its steady way may be touched meanwhile.
        """
        interval = self.seen.stamp - self.before.stamp if self.before is not None else abs(elapsed)
        growth = max(_LASTS * abs(elapsed) / max(interval, 1e-9), 1.0)
        acceleration = law.acceleration * math.sqrt(growth) ** law.goes_on[:, None]
        probability = self.probability.copy()
        probability[:_STEADY] *= math.exp(-_TOUCHED * abs(elapsed))
        probability[_HANDLED] += 1.0 - probability.sum()
        return dataclasses.replace(law, acceleration=acceleration), probability

    def bends_with(self, new: _Measured) -> tuple[float, ...]:
        """And of the next measurement: the second difference of three has six times the variance of one."""
        last, first = self.seen, self.before
        if first is None or abs(new.stamp - 2.0 * last.stamp + first.stamp) > _EVEN * (new.stamp - last.stamp):
            return self.bends
        bend = motion.difference(last.rotation, last.translation, new.rotation, new.translation)
        bend = bend - motion.difference(first.rotation, first.translation, last.rotation, last.translation)
        return (*self.bends, float(bend @ np.linalg.solve(new.covariance, bend)) / 6.0)[-_WATCHED:]


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
        acceleration = np.array([c.quiet, *np.geomspace(c.quiet, c.agile, _MOVING)])
        walk, goes_on = np.array([_WALK, *_MOVING * [0.0]]), np.array([0.0, *_MOVING * [1.0]])
        accelerations, walks = (np.stack([each, c.turning * each], axis=-1) for each in (acceleration, walk))
        self._law = Law(accelerations, walks, goes_on, _FADING)
        self._steps: list[_Step] = []
        self._behind = False  # whether the last measurement was too old to be remembered

    def reset(self) -> None:
        """Forget everything."""
        self._steps.clear()
        self._behind = False

    def update(self, estimate: PoseEstimate, stamp: float, systematic: Tensor | None = None) -> Outcome:
        """Take in a measured pose (no batch dimensions); it may be older than the last one.

        The second in a row that is older than what is remembered begins anew: time jumped back.

        Args:
            estimate: pose and covariance, in a frame that stays the same.
            stamp: of the image, seconds.
            systematic: (6, M) in the same frame, part of the error that all measurements have in common: a standard
                deviation of each cause moves this one by a column; see
                :class:`~pnp_ros.pipeline.result.ObjectEstimate`. For a camera that moves: before one that stands
                still nothing but the object's own motion could tell a cause. None: how large it is, is guessed.
        """
        seen = _measured(estimate, stamp, systematic)
        if seen is None:
            return Outcome.UNFIT
        if self._steps and (stamp - self._steps[-1].seen.stamp > self.config.patience or self._unlike(seen)):
            self.reset()
        behind = bool(self._steps) and self._steps[-1].seen.stamp - stamp > self.config.memory
        if behind and not self._behind:
            self._behind = True
            return Outcome.LATE
        if behind:
            self.reset()
        self._behind = False
        if not self._steps:
            self._steps = [self._first(seen)]
            return Outcome.STARTED
        place = bisect.bisect_right([step.seen.stamp for step in self._steps], stamp)
        if place == 0:
            return Outcome.LATE
        told = self._next(self._steps[place - 1], seen)
        if told is None:
            return Outcome.REJECTED
        later, self._steps[place:] = self._steps[place:], [told]
        for step in later:  # what came after it is told again
            again = self._next(self._steps[-1], step.seen)
            if again is not None:
                self._steps.append(again)
        oldest = self._steps[-1].seen.stamp - self.config.memory
        while len(self._steps) > 1 and self._steps[1].seen.stamp <= oldest:
            del self._steps[0]
        return Outcome.ACCEPTED

    def predict(self, stamp: float) -> FilteredPose | None:
        """The object at any time near the last measurement; None where nothing is known, or for too long."""
        if not self._steps:
            return None
        known = [step for step in self._steps if step.seen.stamp <= stamp] or self._steps[:1]
        step, age = known[-1], stamp - self._steps[-1].seen.stamp
        elapsed = stamp - step.seen.stamp
        if not abs(elapsed) <= self.config.patience:
            return None
        law, probability = step.across(elapsed, self._law)
        belief = motion.mixture(motion.moved(step.beliefs, elapsed, law), probability)
        noise = step.noise(self.config.shared)
        rest = (1.0 - _lingering(step.seen, noise)) * step.seen.covariance
        lasting = max(self.config.shared, 1.0 - noise) * rest
        told = torch.from_numpy(belief.covariance[:6, :6] + lasting)
        rates = torch.from_numpy(belief.covariance[6:12, 6:12].copy())
        return FilteredPose(stamp, belief.pose, told, torch.from_numpy(belief.velocity), rates, age)

    def _unlike(self, seen: _Measured) -> bool:
        """Whether a measurement has other causes than those that are known, as of another camera."""
        known, told = self._steps[-1].beliefs.causes.shape[-1], seen.common.shape[-1]
        return bool(known and told and known != 6 + told)

    def _first(self, seen: _Measured) -> _Step:
        own, common = _parts(seen, 1.0 - self.config.shared)
        known, each = common.shape[-1], np.ones((_MODELS, 1))
        joint = np.zeros((_MODELS, 12 + known, 12 + known))
        joint[:, :6, :6] = own + common @ common.T
        joint[:, range(6, 12), range(6, 12)] = [rate**2 for rate in _UNKNOWN_RATE for _ in range(3)]
        joint[:, :6, 12:], joint[:, 12:, :6], joint[:, 12:, 12:] = -common, -common.T, np.eye(known)
        at = (each[..., None] * seen.rotation, each * seen.translation)
        beliefs = Belief(*at, np.zeros((_MODELS, 6)), np.zeros((_MODELS, known)), joint)
        return _Step(seen, beliefs, np.full(_MODELS, 1.0 / _MODELS))

    def _next(self, last: _Step, seen: _Measured) -> _Step | None:
        """The step that a measurement leads to; None if it is beyond the gate of all models."""
        elapsed, told_of = seen.stamp - last.seen.stamp, bool(seen.common.shape[-1])
        stay = math.exp(-self.config.switching * elapsed)
        change = stay * np.eye(_MODELS) + (1.0 - stay) / _MODELS
        if told_of and last.count < _APART:
            change[0, 1:] = change[1:, 0] = 0.0
            change /= change.sum(1, keepdims=True)
        joint = change * last.probability[:, None]  # (from, to)
        expected = joint.sum(0)
        mixed = motion.mixture(last.beliefs, (joint / expected).T)
        own, common = _parts(seen, last.noise(self.config.shared))
        beliefs = motion.with_causes(motion.moved(mixed, elapsed, self._law), common.shape[-1])
        common = np.pad(common, ((0, 0), (0, beliefs.causes.shape[-1] - common.shape[-1])))
        told = motion.innovation(beliefs, seen.rotation, seen.translation, own, common)
        whole = told.covariance + (0.0 if told_of else seen.covariance - own)  # what lasts is in no belief
        if not (motion.Innovation(told.delta, whole).chi_square <= self.config.gate).any():
            return None
        score = np.log(expected) + told.log_likelihood
        if not told_of and last.count < _KNOWN:
            score[0] = -np.inf
        probability = np.maximum(np.exp(score - score.max()), 1e-6)
        after = motion.updated(beliefs, told, own, common)
        return _Step(seen, after, probability / probability.sum(), last.count + 1, last.seen, last.bends_with(seen))


def _lingering(seen: _Measured, noise: float) -> float:
    """Share of the variance beside the causes that changes with the view; none where no causes are told: what is not
    noise is the same in the next image there."""
    return min(_LINGERING, 1.0 - noise) if seen.common.shape[-1] else 0.0


def _parts(seen: _Measured, noise: float) -> tuple[Array, Array]:
    """(6, 6) the variance that counts as of this image alone; (6, 6 + M) by which what lingers and M causes move it."""
    if not seen.common.shape[-1]:
        return noise * seen.covariance, seen.common
    lingering = _lingering(seen, noise)
    rest = _BEYOND * seen.covariance
    moves = math.sqrt(lingering) * np.linalg.cholesky(rest)
    return (1.0 - lingering) * rest, np.concatenate([moves, seen.common], axis=-1)


def _measured(estimate: PoseEstimate, stamp: float, systematic: Tensor | None) -> _Measured | None:
    """None if it is not finite, or a covariance is not positive."""
    values = (estimate.pose.rotation, estimate.pose.translation, estimate.covariance)
    rotation, translation, covariance = (value.detach().cpu().double().numpy() for value in values)
    common = np.zeros((6, 0)) if systematic is None else systematic.detach().cpu().double().numpy()
    if common.shape[-1]:
        covariance = (1.0 + _ROUNDING) * covariance - common @ common.T
    if not all(np.isfinite(value).all() for value in (rotation, translation, covariance, common, stamp)):
        return None
    try:
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return None
    return _Measured(stamp, rotation, translation, covariance, common)
