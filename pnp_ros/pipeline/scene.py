"""Several objects, and several instances of each, in one image: what one explains, another may not claim."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter, deque
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.package_sources import package_sources
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.pipeline.tracking import INTERVAL
from pnp_ros.types import Pose

_SAME_PLACE = 0.3  # diameters between two objects' centres that cannot both be there
_WIDER = 1.1  # how much more than the object is painted over, so that its edge is not left
_REACH = (0.5, 1.5)  # diameters, and diameters a second, that a missing object may have gone from where it was last


class Scene:
    """Estimates the poses of many objects, image after image.

    Each instance keeps its name for as long as it is followed, also behind something for a short while; found again it
    gets the name of the one that was last seen nearest. What is followed costs what following one object costs. Of all
    that is missing one object is searched in each image, in turn, once for all its instances.

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
        self._last: dict[str, tuple[Pose, float]] = {}  # valid pose and its time, by instance
        self._turn: deque[str] = deque()  # objects, the next to search first
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
        names = [package.name] if instances == 1 else [f"{package.name}_{index}" for index in range(instances)]
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
        self._turn.append(name)
        return tuple(prepared)

    def _check_new(self, name: str, instances: Sequence[str]) -> None:
        known = {*self._turn, *self._estimators}
        if taken := sorted(known.intersection((name, *instances))):
            raise ValueError(f"packages: expected objects of different names, got {taken[0]} twice")

    def remove(self, name: str) -> tuple[str, ...]:
        """Look for an object no longer.

        Returns:
            The names of its instances.

        Raises:
            ValueError: if there is no object of this name.
        """
        if name not in self._turn:
            raise ValueError(f"name: expected one of {', '.join(sorted(self._turn))}, got {name!r}")
        gone = tuple(self._instances(name))
        for each in gone:
            del self._estimators[each]
            self._last.pop(each, None)
        self._turn.remove(name)
        return gone

    def _instances(self, name: str) -> list[str]:
        return [each for each, estimator in self._estimators.items() if estimator.package.name == name]

    def reset(self) -> None:
        """Forget all poses."""
        self._last.clear()
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
        expected = {name: estimator.expected(self._clock) for name, estimator in self._estimators.items()}
        places = {name: pose for name, pose in expected.items() if pose is not None}
        found: dict[str, ObjectEstimate] = {}
        for name in list(places):
            others = {other: pose for other, pose in places.items() if other != name}
            searched = None if self._config.align else self._without(image, camera, others)  # else nothing is searched
            estimates = self._estimators[name].estimate(image, camera, self._clock, searched=searched, search=False)
            self._note(name, estimates, found, places)
        self._settle_claims(found, expected)
        missing = [name for name in self._estimators if name not in found or found[name].state is not ObjectState.VALID]
        if missing:
            self._search(missing, image, camera, expected, found)
        for name, item in found.items():
            if item.state is ObjectState.VALID and item.estimate is not None:
                self._last[name] = item.estimate.pose, self._clock
        return {name: found[name] for name in self._estimators}

    def _note(
        self,
        name: str,
        estimates: Sequence[ObjectEstimate],
        found: dict[str, ObjectEstimate],
        places: dict[str, Pose],
    ) -> None:
        (found[name],) = estimates
        if found[name].state is ObjectState.VALID and found[name].estimate is not None:
            places[name] = found[name].estimate.pose  # type: ignore[union-attr]
        else:
            places.pop(name, None)

    def _search(
        self,
        missing: Sequence[str],
        image: np.ndarray,
        camera: Camera,
        expected: Mapping[str, Pose | None],
        found: dict[str, ObjectEstimate],
    ) -> None:
        """Search one object, the next in turn, for all its instances that are missing."""
        wanted = {self._estimators[name].package.name for name in missing}
        turn = next(name for name in self._turn if name in wanted)
        self._turn.remove(turn)
        self._turn.append(turn)
        reason = f"not searched in this image: {turn} is"
        for name in missing:
            if name not in found:
                package = self._estimators[name].package
                found[name] = ObjectEstimate(package.name, ObjectState.LOST, None, None, None, 0.0, reason)
        alike = [name for name in missing if self._estimators[name].package.name == turn]
        seeker = max(alike, key=lambda name: (expected[name] is not None, self._last.get(name, (None, -1e300))[1]))
        places = {
            name: item.estimate.pose
            for name, item in found.items()
            if item.state is ObjectState.VALID and item.estimate is not None
        }
        searched = self._without(image, camera, places) if places else None
        (item,) = self._estimators[seeker].estimate(image, camera, self._clock, searched=searched, follow=False)
        before, latency = found[seeker], Counter(found[seeker].latency)
        latency.update(item.latency)
        told = before if item.state is ObjectState.LOST and expected[seeker] is not None else item
        found[seeker] = dataclasses.replace(told, latency=dict(latency))
        if item.state is not ObjectState.VALID or item.estimate is None:
            return
        named = self._named(alike, item.estimate.pose)
        if named != seeker:  # estimators of one object differ by nothing but what they follow
            one, other = self._estimators[named], self._estimators[seeker]
            self._estimators[named], self._estimators[seeker] = other, one
            found[named], found[seeker] = found[seeker], dataclasses.replace(found[named], estimate=None)
            one.reset()  # it would go on looking where the other one was found
        self._settle_claims(found, expected)

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

    def _without(self, image: np.ndarray, camera: Camera, places: Mapping[str, Pose]) -> np.ndarray:
        """The image with objects painted over in the mean colour of the image."""
        painted = image.copy()
        colour = [int(value) for value in image.reshape(-1, 3)[::97].mean(0)]
        for name, pose in places.items():
            points = torch.from_numpy(self._estimators[name].package.mesh.extreme_points)
            in_camera = (pose.to("cpu", torch.float32)).transform(_WIDER * points)
            pixels = camera.project(in_camera).numpy()[(in_camera[:, 2] > 0.0).numpy()]
            pixels = pixels[np.isfinite(pixels).all(axis=-1)]
            if len(pixels) >= 3:
                limit = 4 * max(camera.width, camera.height)
                hull = cv2.convexHull(np.clip(pixels, -limit, limit).round().astype(np.int32))
                cv2.fillConvexPoly(painted, hull, colour)
        return painted

    def _settle_claims(self, found: dict[str, ObjectEstimate], expected: Mapping[str, Pose | None]) -> None:
        """Of two valid objects in one place keep the one that was expected there; the other one is searched anew."""
        valid = [name for name, item in found.items() if item.state is ObjectState.VALID]
        for one, other in itertools.combinations(valid, 2):
            if {found[one].state, found[other].state} != {ObjectState.VALID}:
                continue
            a, b = (self._estimators[name].package.diameter for name in (one, other))
            apart = _distance(found[one], found[other].estimate.pose)  # type: ignore[union-attr]
            if apart >= _SAME_PLACE * min(a, b):
                continue
            loser = max((one, other), key=lambda name: self._surprise(name, found[name], expected[name]))
            keeper = other if loser == one else one
            found[loser] = dataclasses.replace(
                found[loser], state=ObjectState.LOST, estimate=None, reason=f"{keeper} is at this place"
            )
            self._estimators[loser].reset()

    def _surprise(self, name: str, item: ObjectEstimate, expected: Pose | None) -> tuple[float, float]:
        """How far from its expected place an object was found, in diameters; then how little of it the image shows."""
        jump = float("inf") if expected is None else _distance(item, expected) / self._estimators[name].package.diameter
        return jump, -(item.explained or 0.0)


def _distance(item: ObjectEstimate, pose: Pose) -> float:
    assert item.estimate is not None
    return float((item.estimate.pose.translation.double() - pose.translation.double()).norm())
