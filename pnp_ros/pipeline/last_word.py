"""The image has the last word on a pose: it is moved to where the image shows the object, judged, and doubted.

A pose from anywhere is aligned with the image, and one that the image contradicts is not valid. Nor is one that is not
the only one: the mirror image, another side, a turn or a reversal may fit the image as well.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
import torch

from pnp_ros.alignment.aligner import Aligner, Alignment, start_at
from pnp_ros.alignment.evidence import Evidence
from pnp_ros.alignment.look import Drawing
from pnp_ros.alignment.uncertainty import independent
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.geometry.single_pose import difference
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.ambiguity import Ambiguity, doubt
from pnp_ros.pipeline.calibration import Doubt
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.gates import judge_covariance
from pnp_ros.pipeline.result import Hypothesis, ObjectEstimate, ObjectState
from pnp_ros.pipeline.rival import reversed_rival
from pnp_ros.pipeline.second_look import second_look_of
from pnp_ros.pipeline.stages import Stages
from pnp_ros.pipeline.tilts import likeliest_tilt
from pnp_ros.pipeline.tracking import Track
from pnp_ros.pipeline.views import Views
from pnp_ros.sources.templates import TEMPLATES
from pnp_ros.types import Pose, PoseEstimate

_TOLD = (0.05, 0.1)  # diameters and rad: how far off a pose may be that the user tells
_MOVED = (0.5, 0.5)  # diameters and rad from where it was expected: beyond, a pose was found anew
# Likeness from which shading tells something, and solidity from which on an outline is that of many things, of any spot
# or hole, unless the networks are as sure that the object is there; how much more a guess must show for each.
_SHADED, _UNSHADED = 0.6, 0.1
_SOLID, _PRESENT, _UNDENTED = 0.93, 0.98, 0.15
_GUESSED = (0.1, 0.2)  # of the distance and rad: how far off a view is that templates tell


class LastWord:
    """What the image says of the poses of one object. For one thread.

    Args:
        package: of the object.
        config: thresholds. Without ``align`` poses are not moved, and doubted only by the points themselves.
        stages: where the time goes.
        track: of the object.
        factor: by which the covariance of a pose from a source is larger than the solver's.
        views: other sides of an object without texture; None if they are not compared.
    """

    def __init__(
        self,
        package: ObjectPackage,
        config: EstimatorConfig,
        stages: Stages,
        track: Track,
        factor: Callable[[str, Doubt], float],
        views: Views | None,
    ) -> None:
        self._config, self._stages, self._track, self._factor, self._views = config, stages, track, factor, views
        self._name, self._symmetry, self._diameter = package.name, package.symmetry, package.diameter
        self.aligner = Aligner(package.mesh, config.alignment) if config.align else None
        self._second_look = second_look_of(package.mesh, config.alignment) if config.align else None
        self._ambiguity = Ambiguity(package.mesh, package.symmetry) if config.hypotheses else None
        self._seen: Alignment | None = None  # the last pose that was aligned

    def forget(self) -> None:
        """The object was lost."""
        for each in (self._ambiguity, self.aligner, self._second_look):
            if each is not None:
                each.forget()

    def finish(self) -> None:
        """Learn what the last image showed, which the next image does else."""
        for each in (self.aligner, self._ambiguity):
            if each is not None:
                each.finish()

    def told(self) -> None:
        """The next pose is known by other means to be the right one of those that look alike."""
        if self._ambiguity is not None:
            self._ambiguity.told()

    def beside(self, pose: Pose) -> PoseEstimate:
        """A start that may be somewhat off."""
        return start_at(pose, _TOLD[0] * self._diameter, _TOLD[1])

    def aligned(
        self,
        image: np.ndarray,
        camera: Camera,
        found: ObjectEstimate,
        widely: bool = True,
        drawn: Drawing | None = None,
        turn: int | None = None,
    ) -> ObjectEstimate:
        """A pose moved to where the image shows the object; uncertain, or lost again, if the image contradicts it.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: of the image.
            found: the pose; returned as it is where poses are not aligned, or without one.
            widely: look farther away, too, where nothing is found near the pose.
            drawn: the object, drawn near the pose before.
            turn: which of the starts beside the pose is tried; None: all.
        """
        if self.aligner is None or found.estimate is None:
            return found
        with self._stages.timed("align"):
            aligned = self.aligner.align(image, camera, found.estimate, widely, drawn, turn)
            anew = found.source != "tracking"
            if anew:
                aligned = likeliest_tilt(self.aligner, image, camera, found.estimate, aligned, self.beside)
            if self._second_look is not None:
                aligned = self._second_look.judge(self.aligner, image, camera, aligned, anew)
            self._seen, evidence = aligned, aligned.evidence
        found = dataclasses.replace(found, explained=evidence.explained)
        if not evidence.supported:
            if found.source == "tracking":
                return dataclasses.replace(found, estimate=None, reason=evidence.reason)
            return dataclasses.replace(found, state=ObjectState.UNCERTAIN, reason=evidence.reason)
        # Without texture some of nearly any outline is found in clutter: a guess needs more of it than a sure pose.
        guessed = found.source == TEMPLATES or (found.state is ObjectState.UNCERTAIN and math.isnan(evidence.texture))
        if guessed and (lacking := self._guess_lacks(evidence, found)):
            self.aligner.forget()  # the colours beside an outline that is not the object's
            return dataclasses.replace(found, state=ObjectState.UNCERTAIN, reason=lacking)
        estimate = dataclasses.replace(aligned.estimate, pose=self._track.choose(aligned.estimate.pose))
        verdict = judge_covariance(estimate, self._config)
        return dataclasses.replace(
            found,
            state=verdict.state,
            estimate=estimate,
            systematic=aligned.systematic,
            correspondences=aligned.correspondences,
            score=max(found.score, evidence.explained),
            reason=verdict.reason or evidence.remark,
        )

    def _guess_lacks(self, evidence: Evidence, found: ObjectEstimate) -> str:
        """Why the image does not bear a guess out that it bears out as a pose."""
        source, present = found.source, found.source != TEMPLATES and found.score > _PRESENT
        unshaded, undented = not evidence.likeness > _SHADED, evidence.solidity > _SOLID and not present
        more = max(unshaded * _UNSHADED, undented * _UNDENTED)
        if evidence.explained < self._config.valid_guess + more:
            return f"the image shows {evidence.explained:.0%} of the object where {source} guess it"
        if unshaded and undented:
            return f"the image shows nothing of the object but an outline without dents where {source} guess it"
        return ""

    def guess(self, image: np.ndarray, camera: Camera, pose: Pose, box: Box | None) -> ObjectEstimate:
        """What alignment makes of one of many views that a place, the ``box``, may show."""
        start = start_at(pose, _GUESSED[0] * float(pose.translation[2]), _GUESSED[1])
        lost = ObjectEstimate.lost(self._name, "", box)
        told = dataclasses.replace(lost, state=ObjectState.UNCERTAIN, estimate=start, source=TEMPLATES)
        return self.aligned(image, camera, told)

    def likeliest(self, image: np.ndarray, camera: Camera, found: ObjectEstimate) -> ObjectEstimate:
        """A pose of an untextured object that was found anew, or another view there if its edges are likelier."""
        if self._views is None or found.state is not ObjectState.VALID or found.source == "tracking":
            return found
        one = self._seen
        found, other = self._views.likeliest(
            image, camera, found, lambda pose: (self.guess(image, camera, pose, found.box), self._seen)
        )
        self._seen = other or one
        return found

    def doubted(self, image: np.ndarray, camera: Camera, found: ObjectEstimate, stamp: float) -> ObjectEstimate:
        """A pose that is valid by itself, or a likelier one; uncertain, with all of them, if several may be right.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: of the image.
            found: the pose.
            stamp: of the image, seconds.
        """
        ambiguity = self._ambiguity
        if ambiguity is None or found.state is not ObjectState.VALID:
            return found
        assert found.estimate is not None
        followed = self._as_expected(found.estimate.pose, stamp)
        if not followed and self.aligner is not None:
            nearer = ambiguity.nearer(image, camera, found.estimate.pose)
            if nearer is not None:
                other = self._moved(image, camera, found, nearer)
                found = other if other.state is ObjectState.VALID else found
        left = self._left(ambiguity, image, camera, found, followed)
        assert found.estimate is not None
        if left[0].pose is not found.estimate.pose:
            if self.aligner is not None:
                other = self._moved(image, camera, found, left[0].pose)
            else:
                estimate = dataclasses.replace(found.estimate, pose=left[0].pose, covariance=left[0].covariance)
                other = dataclasses.replace(found, estimate=estimate)
            if other.state is not ObjectState.VALID:  # the points speak for it, the image against it: neither is sure
                reason = "ambiguous: a likelier pose than this one is contradicted by the image"
                return dataclasses.replace(found, state=ObjectState.UNCERTAIN, reason=reason, hypotheses=left)
            assert other.estimate is not None
            if followed:
                self._track.correct(found.estimate.pose, other.estimate.pose)
            told = Hypothesis(other.estimate.pose, other.estimate.covariance, left[0].probability)
            found, left = other, (told, *left[1:])
        if not (reason := doubt(left)):
            return found
        return dataclasses.replace(found, state=ObjectState.UNCERTAIN, reason=reason, hypotheses=left)

    def _moved(self, image: np.ndarray, camera: Camera, found: ObjectEstimate, pose: Pose) -> ObjectEstimate:
        """Another pose in the place of ``found``, aligned from where it is, and not as if another image had told it."""
        return self.aligned(image, camera, dataclasses.replace(found, estimate=self.beside(pose)))

    def _left(
        self, ambiguity: Ambiguity, image: np.ndarray, camera: Camera, found: ObjectEstimate, followed: bool
    ) -> tuple[Hypothesis, ...]:
        """The poses that the image leaves open."""
        estimate, points = found.estimate, found.correspondences
        assert estimate is not None
        assert points is not None
        with self._stages.timed("solve"):
            if self.aligner is not None:
                alone = functools.partial(independent, points, camera, estimate.pose)
                aligner, one = self.aligner, self._seen
                rival = functools.partial(reversed_rival, aligner, image, camera, one, self._symmetry, self.beside)
                return ambiguity.weigh(image, camera, estimate, alone, followed, rival)
            assert found.doubt is not None  # it was solved
            factor = self._factor(found.source, found.doubt)
            points = points.scaled(torch.full(points.has_weight.shape, factor**-0.5))
            return ambiguity.weigh(None, camera, estimate, lambda: points, followed)

    def _as_expected(self, pose: Pose, stamp: float) -> bool:
        """Whether the object is where its motion said; else the pose has nothing to do with the last one."""
        expected = self._track.expect(stamp)
        if expected is None:
            return False
        moved, turned = np.split(difference(expected, pose), 2)
        return bool(np.linalg.norm(moved) < _MOVED[0] * self._diameter and np.linalg.norm(turned) < _MOVED[1])
