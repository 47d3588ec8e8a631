"""Several objects, and several instances of each, in one image: what one explains, another may not claim."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.objects.instance_names import instance_names
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.explained import Explained
from pnp_ros.pipeline.package_sources import package_sources
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.pipeline.tracking import INTERVAL
from pnp_ros.types import Pose

_SAME_PLACE = 0.3  # diameters between two objects' centres that cannot both be there
_WIDER = 1.1  # how much more than the object is painted over, so that its edge is not left
_REACH = (0.5, 1.5)  # diameters, and diameters a second, that a missing object may have gone from where it was last
_WAIT = 4  # images for which it then is let be: where it is behind them is a guess
_RAREST = 8, 4  # images between two searches for an object that is not found; and where one was seen lately
_LATELY = 3.0  # seconds


@dataclass
class _Missed:
    """How often an object was searched in vain since it was last found, and for how many images it is let be."""

    times: int = 0
    pause: int = 0


class Scene:
    """Estimates the poses of many objects, image after image.

    Each instance keeps its name for as long as it is followed, also behind something for a short while; found again it
    gets the name of the one that was last seen nearest. What is followed costs what following one object costs. What is
    missing has one attempt in each image, in turn: to find an instance where it is expected, or to search an object,
    once for all its instances. What is known to be behind others waits; what is not found is searched less often.

    Args:
        packages: of the objects; their names must differ.
        config: of every estimator.
        instances: of each object that there may be.
        device: of the networks.
        backend: of the networks; see :class:`PoseEstimator`.

    Raises:
        ValueError: if there is no package, a name comes twice or ``instances`` is below 1.
        ObjectPackageError: as of :class:`PoseEstimator`.
    """

    def __init__(
        self,
        packages: Sequence[ObjectPackage],
        config: EstimatorConfig | None = None,
        instances: int = 1,
        device: torch.device | str = "cpu",
        backend: str = "auto",
    ) -> None:
        if not packages:
            raise ValueError("packages: expected at least one object, got none")
        self._config, self._device, self._backend = config or EstimatorConfig(), torch.device(device), backend
        self._estimators: dict[str, PoseEstimator] = {}
        self._reaches: dict[str, float] = {}  # metres that an instance extends from its origin at most
        self._last: dict[str, tuple[Pose, float]] = {}  # valid pose and its time, by instance
        self._objects: dict[str, _Missed] = {}  # by the object's name
        self._turn: deque[str] = deque()  # instances, the next to look for first
        self._missing: set[str] = set()  # instances that were not found in the last image
        self._failed: set[str] = set()  # those that were not found where they were expected: search them next
        self._waited: Counter[str] = Counter()  # images for which an instance was let be as hidden
        self._clock = 0.0
        for package in packages:
            self.add(package, instances)

    @property
    def estimators(self) -> Mapping[str, PoseEstimator]:
        """That of each instance, by its name: the object's, or ``name_0``, ... where there may be several."""
        return self._estimators

    def add(self, package: ObjectPackage, instances: int = 1) -> tuple[str, ...]:
        """Look for one more object from the next image on.

        Returns:
            The names of its instances.

        Raises:
            ValueError: if there is an object, or an instance of one, of this name, or ``instances`` is below 1.
            ObjectPackageError: as of :class:`PoseEstimator`; the scene is as before.
        """
        return self.include(self.prepare(package, instances))

    def prepare(self, package: ObjectPackage, instances: int = 1) -> dict[str, PoseEstimator]:
        """The slow half of :meth:`add`, which leaves the scene alone: for another thread."""
        if instances < 1:
            raise ValueError(f"instances: expected at least 1, got {instances}")
        names = instance_names(package.name, instances)
        self._check_new(package.name, names)
        shared = package_sources(package, self._config.sources, self._device, self._backend)  # one network for all
        return {
            name: PoseEstimator(package, self._config, self._device, shared or None, self._backend) for name in names
        }

    def include(self, prepared: Mapping[str, PoseEstimator]) -> tuple[str, ...]:
        """The quick half of :meth:`add`."""
        (name,) = {estimator.package.name for estimator in prepared.values()}
        self._check_new(name, list(prepared))
        self._estimators |= prepared
        for each, estimator in prepared.items():
            self._reaches[each] = float(np.linalg.norm(estimator.package.mesh.extreme_points, axis=-1).max())
        self._objects[name] = _Missed()
        self._turn.extend(prepared)
        return tuple(prepared)

    def _check_new(self, name: str, instances: Sequence[str]) -> None:
        known = {*self._objects, *self._estimators}
        if taken := sorted(known.intersection((name, *instances))):
            raise ValueError(f"packages: expected objects of different names, got {taken[0]} twice")

    def remove(self, name: str) -> tuple[str, ...]:
        """Look for an object no longer.

        Returns:
            The names of its instances.

        Raises:
            ValueError: if there is no object of this name.
        """
        if name not in self._objects:
            raise ValueError(f"name: expected one of {', '.join(sorted(self._objects)) or 'none'}, got {name!r}")
        gone = tuple(each for each, estimator in self._estimators.items() if estimator.package.name == name)
        for each in gone:
            del self._estimators[each], self._reaches[each]
            self._last.pop(each, None)
            self._missing.discard(each)
            self._failed.discard(each)
            self._waited.pop(each, None)
            self._turn.remove(each)
        del self._objects[name]
        return gone

    def reset(self) -> None:
        """Forget all poses."""
        self._last.clear()
        self._failed.clear()
        self._waited.clear()
        self._objects = {name: _Missed() for name in self._objects}
        for estimator in self._estimators.values():
            estimator.reset()

    def estimate(self, image: np.ndarray, camera: Camera, stamp: float | None = None) -> dict[str, ObjectEstimate]:
        """What is known of each instance in one image.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: of the image.
            stamp: seconds; None: a thirtieth of a second after the last image.

        Raises:
            ValueError: as of :meth:`PoseEstimator.estimate`.
        """
        self._clock = self._clock + INTERVAL if stamp is None else stamp
        if len(self._estimators) == 1:  # as its estimator does by itself
            found = {n: estimator.estimate(image, camera, self._clock) for n, estimator in self._estimators.items()}
        else:
            shapes = {name: estimator.package.mesh.extreme_points for name, estimator in self._estimators.items()}
            found = self._several(Explained(image, camera, shapes))
        for name, pose in _valid(found).items():
            self._last[name] = pose, self._clock
        self._missing = found.keys() - _valid(found)
        self._failed &= self._missing
        return found

    def rest(self) -> None:
        """As :meth:`PoseEstimator.rest`, of each instance."""
        for estimator in self._estimators.values():
            estimator.rest()

    def _several(self, seen: Explained) -> dict[str, ObjectEstimate]:
        """Follow what was there, and make one attempt at what is missing."""
        expected = {name: estimator.expected(self._clock) for name, estimator in self._estimators.items()}
        found = {
            name: ObjectEstimate(
                ObjectState.LOST, name=estimator.package.name, score=0.0, reason="not looked for in this image"
            )
            for name, estimator in self._estimators.items()
        }
        near = {name: float(pose.translation[2]) for name, pose in expected.items() if pose is not None}
        followed = sorted(near.keys() - self._missing, key=lambda name: near[name])  # what may hide others first
        for name in followed:
            self._follow(name, seen, expected, found)
        self._settle_claims(found, expected)
        self._look_for_one(seen, expected, found, followed)
        return found

    def _follow(
        self,
        name: str,
        seen: Explained,
        expected: Mapping[str, Pose | None],
        found: dict[str, ObjectEstimate],
    ) -> None:
        """Look for an instance where it is expected, and nowhere else."""
        image, searched, pose = seen.image, None, expected[name]
        if not self._config.align:  # else no source is asked
            known = {other: pose for other, pose in expected.items() if pose is not None} | _valid(found)
            searched = seen.without({other: pose for other, pose in known.items() if other != name}, _WIDER)
        elif pose is not None and (front := self._in_front(name, pose, found)):
            image = seen.without(front)  # its print and its edges draw the pose to them
        found[name] = self._estimators[name].estimate(image, seen.camera, self._clock, searched=searched, search=False)

    def _look_for_one(
        self,
        seen: Explained,
        expected: Mapping[str, Pose | None],
        found: dict[str, ObjectEstimate],
        followed: Sequence[str],
    ) -> None:
        """One attempt at one missing instance, the next in turn of those that may be in view."""
        for missed in self._objects.values():
            missed.pause = max(0, missed.pause - 1)
        for name in list(self._turn):
            pose, valid = expected[name], _valid(found)
            if name in valid:
                continue
            hidden = seen.behind(name, pose, valid) if pose is not None else []
            if hidden and (name in followed or self._waited[name] < _WAIT):
                self._waited[name] += 1
                found[name] = dataclasses.replace(found[name], reason=f"hidden behind {', '.join(hidden)}")
                continue
            paused = bool(hidden) or self._objects[self._estimators[name].package.name].pause > 0
            near = pose is not None and name not in followed and (paused or name not in self._failed)
            if paused and not near:
                continue
            self._turn.remove(name)
            self._turn.append(name)
            self._waited[name] = 0
            if near:
                self._follow(name, seen, expected, found)
                if not hidden:
                    self._failed.add(name)
            else:
                self._search(name, seen, expected, found)
                self._failed.discard(name)
            self._settle_claims(found, expected)
            return

    def _in_front(self, name: str, pose: Pose, found: Mapping[str, ObjectEstimate]) -> dict[str, Pose]:
        """Those that may hide a part of an object at a pose."""
        x, y, depth = pose.translation.tolist()
        front = {}
        for other, place in _valid(found).items():
            u, v, nearer = place.translation.tolist()
            if other != name and nearer < depth:
                reach = self._reaches[name] / depth + self._reaches[other] / nearer
                if math.hypot(x / depth - u / nearer, y / depth - v / nearer) < reach:
                    front[other] = place
        return front

    def _search(
        self,
        seeker: str,
        seen: Explained,
        expected: Mapping[str, Pose | None],
        found: dict[str, ObjectEstimate],
    ) -> None:
        """Search the whole image for an object, for all its instances that are missing."""
        places, package = _valid(found), self._estimators[seeker].package
        searched = seen.without(places, _WIDER) if places else None
        estimator = self._estimators[seeker]
        item = estimator.estimate(seen.image, seen.camera, self._clock, searched=searched, follow=False)
        before, latency = found[seeker], Counter(found[seeker].latency)
        latency.update(item.latency)
        told = before if item.state is ObjectState.LOST and before.latency else item
        found[seeker] = dataclasses.replace(told, latency=dict(latency))
        if not item.is_followed or item.estimate is None:
            missed = self._objects[package.name]
            missed.times += 1
            times = [self._last[n][1] for n, e in self._estimators.items() if e.package is package and n in self._last]
            lately = any(self._clock - stamp <= _LATELY for stamp in times)
            missed.pause = min(2**missed.times, _RAREST[lately])
            return
        self._objects[package.name] = _Missed()
        alike = [n for n, each in self._estimators.items() if each.package is package and n not in places]
        named = self._named(alike, item.estimate.pose)
        if named != seeker:  # estimators of one object differ by nothing but what they follow
            one, other = self._estimators[named], self._estimators[seeker]
            self._estimators[named], self._estimators[seeker] = other, one
            found[named], found[seeker] = found[seeker], dataclasses.replace(found[named], estimate=None)
            one.reset()  # it would go on looking where the other one was found

    def _named(self, missing: Sequence[str], pose: Pose) -> str:
        """Which of several missing instances of one object was found: the nearest that can be there, else a new one."""

        def unlike(name: str) -> tuple[int, float]:
            if name not in self._last:
                return 1, 0.0
            last, stamp = self._last[name]
            away = float((last.translation.double() - pose.translation.double()).norm())
            away /= self._estimators[name].package.diameter
            return (0 if away <= _REACH[0] + _REACH[1] * max(0.0, self._clock - stamp) else 2), away

        return min(missing, key=unlike)

    def _settle_claims(self, found: dict[str, ObjectEstimate], expected: Mapping[str, Pose | None]) -> None:
        """Of two objects in one place keep the one that was expected there; the other one is searched anew."""
        valid = [name for name, item in found.items() if item.is_followed]
        for one, other in itertools.combinations(valid, 2):
            if not (found[one].is_followed and found[other].is_followed):
                continue
            a, b = (self._estimators[name].package.diameter for name in (one, other))
            apart = _distance(found[one], found[other].estimate.pose)  # type: ignore[union-attr]
            if apart >= _SAME_PLACE * min(a, b):
                continue
            loser = max((one, other), key=lambda name: self._surprise(name, found[name], expected[name]))
            keeper = other if loser == one else one
            found[loser] = dataclasses.replace(
                found[loser], state=ObjectState.LOST, estimate=None, hypotheses=(), reason=f"{keeper} is at this place"
            )
            self._estimators[loser].reset()

    def _surprise(self, name: str, item: ObjectEstimate, expected: Pose | None) -> tuple[float, float]:
        """How far from its expected place an object was found, in diameters; then how little of it the image shows."""
        jump = float("inf") if expected is None else _distance(item, expected) / self._estimators[name].package.diameter
        return jump, -(item.explained or 0.0)


def _valid(found: Mapping[str, ObjectEstimate]) -> dict[str, Pose]:
    """The poses of those that are valid, or one of several that may be right: there is something either way."""
    return {name: item.estimate.pose for name, item in found.items() if item.is_followed and item.estimate is not None}


def _distance(item: ObjectEstimate, pose: Pose) -> float:
    assert item.estimate is not None
    return math.dist(item.estimate.pose.translation.tolist(), pose.translation.tolist())
