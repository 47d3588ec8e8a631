"""Several cameras that see several objects: who is who is found by place, open poses are decided by the other cameras.

Each camera names the instances of an object for itself, and where an object looks alike from several sides it tells
several poses. Here an instance is what stands at one place in the common frame. Of a camera's open poses the one is
taken that what is known of the instance makes by far the likeliest; two cameras that both leave it open are asked
together: seldom do two wrong poses agree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from pnp_ros.filtering.fusion import distance
from pnp_ros.filtering.pose_filter import FilterConfig
from pnp_ros.filtering.rig import Rig, RigPose
from pnp_ros.types import Pose, PoseEstimate

_SURE = 0.99  # probability from which one of several poses is taken
_FRESH_S = 0.2  # that open poses of another camera may be older


@dataclass(frozen=True, eq=False)
class Sighting:
    """What one camera says of one instance.

    Args:
        name: of the object.
        poses: in the frame that all cameras share; several where one of them is right.
        probabilities: of each.

    Raises:
        ValueError: if there is no pose, or not a probability for each.
    """

    name: str
    poses: tuple[PoseEstimate, ...]
    probabilities: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.poses or len(self.poses) != len(self.probabilities):
            raise ValueError(
                f"poses: expected one or more and a probability for each, got {len(self.poses)} and "
                f"{len(self.probabilities)}"
            )


@dataclass(frozen=True, eq=False)
class _Open:
    """Poses that a camera left open, of an instance that is not known yet."""

    camera: str
    stamp: float
    sighting: Sighting


class Cell:
    """Instances before several cameras; one filter for each instance and camera.

    Args:
        cameras: their names.
        config: of the filters.
        gate: see :func:`pnp_ros.filtering.fusion.fuse`.
        near: metres within which two cameras' poses of one object may be of the same instance.
        choose: by an object's name: the equivalent of the first pose that is nearest to the second one, of an object
            with symmetries.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        config: FilterConfig | None = None,
        gate: float = 22.5,
        near: float = 0.1,
        choose: Mapping[str, Callable[[Pose, Pose], Pose]] | None = None,
    ) -> None:
        self._cameras, self._config, self._gate, self._near = tuple(cameras), config or FilterConfig(), gate, near
        self._choose = choose or {}
        self._rigs: dict[str, Rig] = {}  # by the instance's name
        self._objects: dict[str, str] = {}  # the object's name, by the instance's
        self._open: list[_Open] = []

    def update(self, camera: str, sightings: Sequence[Sighting], stamp: float) -> dict[str, RigPose]:
        """Take in what a camera's image told.

        Args:
            camera: one of the names.
            sightings: of all instances that it sees.
            stamp: of the image, seconds.

        Returns:
            What is known then of each instance that this image told of, by its name: ``mug_0``, ``mug_1``, ...
        """
        known: dict[str, RigPose] = {}
        for name, rig in self._rigs.items():
            if (there := rig.predict(stamp)) is not None:
                known[name] = there
        for gone in self._rigs.keys() - known.keys():
            del self._rigs[gone], self._objects[gone]
        self._open = [each for each in self._open if abs(stamp - each.stamp) <= _FRESH_S and each.camera != camera]
        told: dict[str, RigPose] = {}
        for sighting, name in zip(sightings, self._assigned(sightings, known)):
            if name:
                told |= self._taken(name, camera, self._decided(sighting, known[name]), stamp)
            elif len(sighting.poses) == 1:
                told |= self._taken(self._new(sighting.name), camera, sighting.poses[0], stamp)
            else:
                told |= self._together(_Open(camera, stamp, sighting))
        return told

    def object_of(self, name: str) -> str:
        """The object of an instance."""
        return self._objects[name]

    def _taken(self, name: str, camera: str, estimate: PoseEstimate | None, stamp: float) -> dict[str, RigPose]:
        found = self._rigs[name].update(camera, estimate, stamp) if estimate is not None else None
        return {} if found is None else {name: found}

    def _new(self, name: str) -> str:
        """An instance that was not there; its name."""
        named = next(f"{name}_{k}" for k in itertools.count() if f"{name}_{k}" not in self._rigs)
        self._rigs[named], self._objects[named] = Rig(self._cameras, self._config, self._gate), name
        return named

    def _assigned(self, sightings: Sequence[Sighting], known: Mapping[str, RigPose]) -> list[str]:
        """The instance that each sighting is of, by the least sum of distances; empty: none that is known."""
        names = list(known)
        far = np.full((len(sightings), len(names)), np.inf)
        for i, sighting in enumerate(sightings):
            for j, name in enumerate(names):
                if self._objects[name] == sighting.name:
                    far[i, j] = min(_apart(each, known[name].anchor) for each in sighting.poses)
        pairs = zip(*linear_sum_assignment(np.minimum(far, 1e3 * self._near)))
        chosen = {i: names[j] for i, j in pairs if far[i, j] <= self._near}
        return [chosen.get(i, "") for i in range(len(sightings))]

    def _decided(self, sighting: Sighting, known: RigPose) -> PoseEstimate | None:
        """The pose that what is known makes by far the likeliest; None: it stays open."""
        poses = [self._like(sighting.name, each, known.anchor.pose) for each in sighting.poses]
        if len(poses) == 1:
            return poses[0]
        scores = [math.log(max(p, 1e-12)) + _fit(each, known.anchor) for p, each in zip(sighting.probabilities, poses)]
        best = _winner(scores)
        return poses[best] if best is not None and float(distance(poses[best], known.anchor)) <= self._gate else None

    def _together(self, one: _Open) -> dict[str, RigPose]:
        """An instance that two cameras leave open each, if only one pose of both agrees."""
        for other in self._open:
            if other.sighting.name != one.sighting.name:
                continue
            pairs = list(itertools.product(range(len(one.sighting.poses)), range(len(other.sighting.poses))))
            scores, poses = [], []
            for i, j in pairs:
                first, second = one.sighting.poses[i], other.sighting.poses[j]
                second = self._like(one.sighting.name, second, first.pose)
                odds = one.sighting.probabilities[i] * other.sighting.probabilities[j]
                scores.append(math.log(max(odds, 1e-12)) + _fit(first, second))
                poses.append((first, second))
            best = _winner(scores)
            if best is None or float(distance(*poses[best])) > self._gate or _apart(*poses[best]) > self._near:
                continue
            self._open.remove(other)
            name, (first, second) = self._new(one.sighting.name), poses[best]
            self._rigs[name].update(other.camera, second, other.stamp)
            return self._taken(name, one.camera, first, one.stamp)
        self._open.append(one)
        return {}

    def _like(self, name: str, estimate: PoseEstimate, reference: Pose) -> PoseEstimate:
        """Of a symmetric object the equivalent pose that is nearest to another one."""
        if name not in self._choose:
            return estimate
        return PoseEstimate.of(self._choose[name](estimate.pose, reference), estimate.covariance)


def _apart(one: PoseEstimate, other: PoseEstimate) -> float:
    return float((one.pose.translation.double() - other.pose.translation.double()).norm())


def _fit(one: PoseEstimate, other: PoseEstimate) -> float:
    """Log likelihood that both are of one pose, up to a constant."""
    spread = one.covariance.double() + other.covariance.double()
    return -0.5 * (float(distance(one, other)) + float(torch.linalg.slogdet(spread).logabsdet))


def _winner(scores: Sequence[float]) -> int | None:
    """The one that has nearly all of the probability, if there is one."""
    odds = np.exp(np.array(scores) - max(scores))
    best = int(odds.argmax())
    return best if odds[best] >= _SURE * odds.sum() else None
