"""Several objects, and several instances of each, in one image: what one explains, another may not claim."""

from __future__ import annotations

import dataclasses
import itertools
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


class Scene:
    """Estimates the poses of many objects, image after image.

    Each instance keeps its name for as long as it is followed, also behind something for a short while. What is
    followed costs what following one object costs; of those that are not in view one is searched in each image, in
    turn, where nothing else has been found.

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
        names = [package.name for package in packages]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"packages: expected objects of different names, got {names}")
        if instances < 1:
            raise ValueError(f"instances: expected at least 1, got {instances}")
        config = config or EstimatorConfig()
        self._estimators: dict[str, PoseEstimator] = {}
        for package in packages:
            shared = package_sources(package, config.sources, torch.device(device), backend)  # one network for all
            for index in range(instances):
                name = package.name if instances == 1 else f"{package.name}_{index}"
                self._estimators[name] = PoseEstimator(package, config, device, shared or None, backend)
        self._turn = itertools.cycle(self._estimators)
        self._clock = 0.0

    @property
    def estimators(self) -> Mapping[str, PoseEstimator]:
        """That of each instance, by its name: the object's, or ``name_0``, ... where there may be several."""
        return self._estimators

    def reset(self) -> None:
        """Forget all poses."""
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
        searching = self._next_to_search(expected)
        for name in sorted(self._estimators, key=lambda name: expected[name] is None):  # those that are followed first
            if expected[name] is None and name != searching:
                reason = f"not searched in this image: {searching} is"
                found[name] = ObjectEstimate(
                    self._estimators[name].package.name, ObjectState.LOST, None, None, None, 0.0, reason
                )
                continue
            others = {other: pose for other, pose in places.items() if other != name}
            searched = self._without(image, camera, others) if others else None
            (found[name],) = self._estimators[name].estimate(image, camera, self._clock, searched=searched)
            if found[name].state is ObjectState.VALID and found[name].estimate is not None:
                places[name] = found[name].estimate.pose  # type: ignore[union-attr]
            else:
                places.pop(name, None)
        self._settle_claims(found, expected)
        return {name: found[name] for name in self._estimators}

    def _next_to_search(self, expected: Mapping[str, Pose | None]) -> str:
        """The next in turn of those that nobody knows the place of; empty if there is none."""
        if all(pose is not None for pose in expected.values()):
            return ""
        return next(name for name in self._turn if expected[name] is None)

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
