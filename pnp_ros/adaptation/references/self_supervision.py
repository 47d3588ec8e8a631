"""References from the estimator itself: poses that the poses before and after them confirm."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from pnp_ros.adaptation.observation import Observation
from pnp_ros.adaptation.references.reference import Reference
from pnp_ros.adaptation.supervision import OWN
from pnp_ros.geometry import se3
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.types import Pose

_STRAIGHT_NS = 100_000_000  # at 1 m/s^2 the middle of so long a way is 1 mm off a straight line


class SelfReference(Reference):
    """Takes what the estimator says, in order of time, and gives back what may be taken for true.

    A valid pose is confirmed if it lies where its valid neighbours, one before and one after, say that it should,
    moving steadily. A flip or a jump does not. Where these neighbours are so near in time that motion is straight
    between them, the pose that they say is the reference, not its own: their mean has less noise, and new weights must
    not be measured by what those in use made of the very same image. Between two confirmed poses, images that the
    estimator was not sure of get the pose interpolated between the two: they show what the network does not know yet.
    Whether the image shows the object there remains to be checked.

    Args:
        max_gap_s: neighbours are at most this far apart in time.
        max_distance: largest distance from where the neighbours say, as a share of the distance from the camera.
        max_angle: the same of the rotation, radians.
        max_missing: most images in a row between two confirmed ones.

    Raises:
        ValueError: naming the parameter that is not above 0.
    """

    supervision, every_estimate = OWN, True

    def __init__(
        self,
        max_gap_s: float = 0.25,
        max_distance: float = 0.05,
        max_angle: float = math.radians(6.0),
        max_missing: int = 3,
    ) -> None:
        for name, value in (("max_gap_s", max_gap_s), ("max_distance", max_distance), ("max_angle", max_angle)):
            if not value > 0.0:
                raise ValueError(f"{name}: expected more than 0, got {value}")
        if max_missing < 0:
            raise ValueError(f"max_missing: expected 0 or more, got {max_missing}")
        self._max_gap_ns = round(1e9 * max_gap_s)
        self._max_distance, self._max_angle, self._max_missing = max_distance, max_angle, max_missing
        self.reset()

    def reset(self) -> None:
        """Forget what came before, as where time jumps back."""
        self._last_ns: int | None = None
        self._before: Observation | None = None  # the last two valid observations, and what lies between and after them
        self._middle: Observation | None = None
        self._between: list[Observation] = []
        self._missing: list[Observation] = []
        self._before_confirmed = False

    def confirmed(self, observation: Observation) -> Iterator[Observation]:
        """See :class:`Reference`. What is confirmed lies a little back: the pose after it must be known."""
        if self._last_ns is not None and observation.stamp_ns <= self._last_ns:
            self.reset()
        self._last_ns = observation.stamp_ns
        if _pose(observation) is not None:
            return iter(self._with(observation))
        self._missing.append(observation)
        if len(self._missing) > self._max_missing:
            self.reset()
        return iter(())

    def _with(self, after: Observation) -> list[Observation]:
        """What a new valid observation confirms: the valid one before it, and what lies before that."""
        if self._middle is not None and after.stamp_ns - self._middle.stamp_ns > self._max_gap_ns:
            self.reset()
        before, middle = self._before, self._middle
        found: list[Observation] = []
        agrees = False
        if before is not None and middle is not None:
            agrees = self._agrees(before, middle, after)
            if agrees and self._before_confirmed:
                found += [_with_reference(seen, _interpolated(before, middle, seen)) for seen in self._between]
            if agrees:
                near = after.stamp_ns - before.stamp_ns <= _STRAIGHT_NS
                told = _interpolated(before, after, middle) if near else _pose(middle)
                found.append(_with_reference(middle, told))
        self._last_ns = after.stamp_ns
        self._before, self._between = middle, self._missing if middle is not None else []
        self._middle, self._missing = after, []
        self._before_confirmed = agrees
        return found

    def _agrees(self, before: Observation, middle: Observation, after: Observation) -> bool:
        pose = _pose(middle)
        assert pose is not None
        offset = se3.local(_interpolated(before, after, middle), pose)
        distance = float(offset[:3].norm()) / float(pose.translation.norm())
        return distance <= self._max_distance and float(offset[3:].norm()) <= self._max_angle


def _pose(observation: Observation) -> Pose | None:
    """The pose that the estimator is sure of."""
    return observation.estimate if observation.state is ObjectState.VALID else None


def _with_reference(observation: Observation, reference: Pose | None) -> Observation:
    return dataclasses.replace(observation, reference=reference)


def _interpolated(before: Observation, after: Observation, between: Observation) -> Pose:
    start, end = _pose(before), _pose(after)
    assert start is not None
    assert end is not None
    share = (between.stamp_ns - before.stamp_ns) / (after.stamp_ns - before.stamp_ns)
    return se3.retract(start, share * se3.local(start, end))
