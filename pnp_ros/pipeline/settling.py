"""Correspondences to a judged pose: look, solve, and look again around the pose until it asks for the same crop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import CropError, box_from_pose, window_error
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.calibration import CovarianceCalibration, Doubt, doubt_of
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.gates import absent, judge
from pnp_ros.pipeline.models import calibration_of
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.pipeline.solving import solve
from pnp_ros.pipeline.stages import Stages
from pnp_ros.sources.source import Sighting, Source
from pnp_ros.sources.templates import TEMPLATES
from pnp_ros.types import Pose, PoseEstimate

_FEWEST = 4  # correspondences that make a pose
_MATCHES = CovarianceCalibration(4.0)  # errors of matches are correlated: measured on real images, no more than a rule
_ROUGHLY = CovarianceCalibration(4.0)  # templates are right to about 10 degrees and a tenth of the distance


class Settling:
    """What a source sees of one object, as poses.

    Args:
        package: of the object.
        config: thresholds.
        stages: where the time goes.
        choose: of the poses that look like a given one, the one to tell.

    ``calibrations`` are those of the covariance by the source's name; for others it stays as the solver gives it.
    """

    def __init__(
        self, package: ObjectPackage, config: EstimatorConfig, stages: Stages, choose: Callable[[Pose], Pose]
    ) -> None:
        self._package, self._config, self._stages, self._choose = package, config, stages, choose
        self._extent = torch.from_numpy(package.mesh.extreme_points)
        networks = calibration_of(package)
        self.calibrations = {"keypoints": networks, "dense": networks, "features": _MATCHES, TEMPLATES: _ROUGHLY}

    def settle(self, source: Source, image: np.ndarray, camera: Camera, where: Box | Pose) -> ObjectEstimate:
        """Look again around each pose that is found, until a crop gives the pose that asks for that very crop.

        A network is best where the object fills the crop as in training. A pose that does not settle is a fit to
        something that hides the object, and not to be trusted.

        Args:
            source: of correspondences.
            image: (H, W, 3) uint8 RGB.
            camera: of the image.
            where: to look at first.
        """
        found = ObjectEstimate.lost(self._package.name, "")
        for _ in range(self._config.max_passes):
            try:
                with self._stages.timed("look"):
                    sighting = source.look(image, camera, where)
            except CropError as error:
                return ObjectEstimate.lost(
                    self._package.name, str(error), found.box if isinstance(where, Pose) else where
                )
            start = where if isinstance(where, Pose) else None
            found = self._solve(source.name, sighting, camera, start)
            while found.state is not ObjectState.VALID and sighting.finer is not None:
                with self._stages.timed("look"):
                    sighting = sighting.finer()
                found = self._solve(source.name, sighting, camera, start)
            if found.estimate is None or self._fits(source.crop_margin, sighting.box, camera, found.estimate.pose):
                return found
            where = found.estimate.pose
        reason = f"the pose does not settle within {self._config.max_passes} passes"
        return dataclasses.replace(found, state=ObjectState.UNCERTAIN, reason=found.reason or reason)

    def factor(self, source: str, doubt: Doubt) -> float:
        """By which the covariance of a pose from a source is larger than the solver's."""
        return self.calibrations.get(source, CovarianceCalibration()).factor(doubt)

    def _fits(self, margin: float | None, window: Box, camera: Camera, pose: Pose) -> bool:
        """Whether the crop around ``pose`` would be nearly the same as the ``window`` that was looked at."""
        if margin is None:
            return True
        try:
            box = box_from_pose(camera, pose, self._extent)
        except CropError:
            return False
        return window_error(window, box, margin) <= self._config.settled

    def _solve(self, source: str, sighting: Sighting, camera: Camera, start: Pose | None) -> ObjectEstimate:
        """What was seen to a judged pose."""
        name, diameter, config = self._package.name, self._package.diameter, self._config
        correspondences = sighting.correspondences
        count = correspondences.image_points.shape[-2]
        if count < _FEWEST:
            reason = f"{count} points found in the image, expected at least {_FEWEST}"
            return dataclasses.replace(ObjectEstimate.lost(name, reason, sighting.box), source=source)
        if reason := absent(sighting, config):  # not worth a solve
            return dataclasses.replace(ObjectEstimate.lost(name, reason, sighting.box, sighting.score), source=source)
        with self._stages.timed("solve"):
            solved = solve(config.solver, sighting, camera, start, config.robust_scale, config.min_matches)
            doubt = doubt_of(solved.pose, correspondences, camera, diameter, sighting.dense)
            factor = self.factor(source, doubt)
            chosen = self._choose(solved.pose)
            solved = dataclasses.replace(solved, pose=chosen, covariance=solved.covariance * factor)
            verdict = judge(solved, sighting, camera, diameter, config)
        kept: PoseEstimate | None = None if verdict.state is ObjectState.LOST else solved
        return ObjectEstimate(
            verdict.state,
            kept,
            sighting.box,
            name=name,
            score=sighting.score,
            reason=verdict.reason,
            correspondences=correspondences,
            source=source,
            doubt=doubt,
        )
