"""What new weights must prove before they are used: better on held-back images, and no worse on anything known."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.examples.example import Example
from pnp_ros.adaptation.examples.witness import Witness
from pnp_ros.adaptation.status import Gate
from pnp_ros.adaptation.supervision import GIVEN, GOOD, LOST_SCORE, Supervision
from pnp_ros.adaptation.trials.anchors import Anchors
from pnp_ros.evaluation.consistency import nees
from pnp_ros.evaluation.pose_error import add, adds, auc
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.calibration import CovarianceCalibration, Doubt
from pnp_ros.pipeline.calibration_fit import fit_calibration
from pnp_ros.pipeline.config import NETWORKS_ALONE
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.models import Models
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.training.validation import SEEN
from pnp_ros.types import Pose

NEES = "held-back mean NEES"  # the gate of the covariance, which a new calibration may open
ANCHOR_AUC = "anchor AUC, %"  # the gate that weights fail which have forgotten too much
_WORST = 0.2  # of the diameter: the largest error that counts on anchors
_SURFACE_POINTS = 500
_FEWEST_TO_CALIBRATE = 24


@dataclass(frozen=True)
class OnAnchors:
    """How one set of weights does on the anchors.

    Args:
        auc: of those that show the object, area under the recall over the ADD threshold up to 20 % of the diameter.
            The recall at one threshold changes by chance: a few poses are always near it.
        recall: share of those with a valid pose within 10 % of the diameter.
        false_poses: valid poses on those without the object.
    """

    auc: float
    recall: float
    false_poses: int


@dataclass(frozen=True, eq=False)
class Measured:
    """How one set of weights does on the held-back images.

    Args:
        errors: (N,) as :class:`~pnp_ros.adaptation.supervision.Score`'s.
        good: (N,) bool, whether the pose was given out and right.
        nees: of the poses that were given out, with the solver's own covariance; none with the estimator's own poses.
        doubts: what was known of each of them.
        what: the errors are, for the user.
    """

    errors: NDArray[np.float64]
    good: NDArray[np.bool_]
    nees: NDArray[np.float64]
    doubts: Sequence[Doubt]
    what: str = GIVEN.measured

    @property
    def error(self) -> float:
        """Mean of the errors."""
        return float(self.errors.mean())

    @property
    def recall(self) -> float:
        """Share of good poses."""
        return float(self.good.mean())

    def mean_nees(self, calibration: CovarianceCalibration) -> float:
        """Of the valid poses, gross errors at most 10 times the median; 0 without any."""
        factors = np.array([calibration.factor(doubt) for doubt in self.doubts])
        values = self.nees / factors if len(self.nees) else np.zeros(1)
        return float(np.minimum(values, 10.0 * np.median(values)).mean())


class Examiner:
    """Measures weights the way the robot uses them: detector, crop, keypoints, pose, verdict.

    Args:
        package: of the object.
        anchors: to be remembered.
        device: of the networks.
        supervision: what the held-back poses are.
    """

    def __init__(
        self, package: ObjectPackage, anchors: Anchors, device: torch.device, supervision: Supervision = GIVEN
    ) -> None:
        self._package, self._anchors, self._device, self._supervision = package, anchors, device, supervision
        vertices = package.mesh.vertices
        self._points = torch.from_numpy(vertices[:: max(1, len(vertices) // _SURFACE_POINTS)]).double()
        self._estimator = PoseEstimator(package, NETWORKS_ALONE, device)
        self._witness = Witness(package.mesh)

    def measure(self, models: Models, held_back: Sequence[Example]) -> Measured:
        """Look at all held-back images with these weights."""
        self._estimator.use(models)
        scores, values, doubts = [], [], []
        for example in held_back:
            found = self._search(models, example)
            if found.state is not ObjectState.VALID or found.estimate is None or found.correspondences is None:
                scores.append(LOST_SCORE)
                continue
            pose = found.estimate.pose
            overlap = functools.partial(self._witness.overlap, example.window, example.camera, pose)
            scores.append(self._supervision.score(self._error(found, example.pose), overlap))
            if self._supervision.independent:
                assert found.doubt is not None
                truth = self._package.symmetry.canonicalise(example.pose, pose)
                values.append(
                    float(nees(pose, found.estimate.covariance, truth)) * models.calibration.factor(found.doubt)
                )
                doubts.append(found.doubt)
        return Measured(
            np.array([score.error for score in scores]),
            np.array([score.good for score in scores], bool),
            np.array(values),
            doubts,
            self._supervision.measured,
        )

    def _search(self, models: Models, example: Example) -> ObjectEstimate:
        """Detect in the whole image, then look where the detector points."""
        detections = models.detector.detect(example.frame, 1)
        threshold = self._estimator.config.detector_threshold
        if not detections or detections[0].score < threshold:
            return ObjectEstimate(ObjectState.LOST, name=self._package.name, score=0.0, reason="not detected")
        box = detections[0].box.moved(*example.to_window)
        return self._estimator.estimate(example.window, example.camera, 0.0, box)

    def on_anchors(self, models: Models) -> OnAnchors:
        """Look at all anchors with these weights."""
        self._estimator.use(models)
        errors, false = [], 0
        for frame in self._anchors:
            found = self._estimator.estimate(frame.rgb, frame.camera, 0.0)
            is_valid = found.state is ObjectState.VALID
            if frame.T_camera_object is None:
                false += is_valid
            elif frame.visible >= SEEN:
                truth = Pose.from_matrix(torch.from_numpy(frame.T_camera_object))
                errors.append(self._error(found, truth) if is_valid else math.inf)
        if not errors:
            return OnAnchors(0.0, 0.0, false)
        recall = float(np.mean(np.array(errors) < GOOD))
        return OnAnchors(auc(torch.tensor(errors, dtype=torch.float64), _WORST), recall, false)

    def _error(self, found: ObjectEstimate, truth: Pose) -> float:
        assert found.estimate is not None
        estimate, truth = (Pose(p.rotation.double(), p.translation.double()) for p in (found.estimate.pose, truth))
        distance = add if self._package.symmetry.is_trivial else adds
        return float(distance(estimate, truth, self._points)) / self._package.diameter


def calibrated(measured: Measured, active: CovarianceCalibration) -> tuple[CovarianceCalibration, float]:
    """The covariance calibration that suits new weights, and their mean NEES with it.

    With enough poses it is fitted anew; the NEES is then that of each half with the calibration of the other half.
    """
    if len(measured.nees) < _FEWEST_TO_CALIBRATE:
        return active, measured.mean_nees(active)
    means = []
    for half in (0, 1):
        fitted = fit_calibration(measured.nees[half::2].tolist(), measured.doubts[half::2])
        other = dataclasses.replace(measured, nees=measured.nees[1 - half :: 2], doubts=measured.doubts[1 - half :: 2])
        means.append(other.mean_nees(fitted))
    return fit_calibration(measured.nees.tolist(), measured.doubts), float(np.mean(means))


Result = tuple[Measured, OnAnchors, float]  # on held-back images, on anchors, and the held-back poses' mean NEES


def judge(config: AdaptationConfig, own: OnAnchors, active: Result, candidate: Result) -> tuple[Gate, ...]:
    """The gates, the gain first.

    Args:
        config: bounds.
        own: the package's own weights, whose anchors must not be forgotten.
        active: the weights in use.
        candidate: the new ones.
    """
    (before, anchors_before, nees_before), (after, anchors_after, nees_after) = active, candidate
    least_auc = 100.0 * (own.auc - config.anchor_margin)
    return (
        _at_most(
            before.what,
            100.0 * before.error,
            100.0 * after.error,
            100.0 * before.error * (1.0 - config.min_gain),
        ),
        _at_least("held-back recall, %", 100.0 * before.recall, 100.0 * after.recall, 100.0 * before.recall),
        _at_most(NEES, nees_before, nees_after, max(config.max_nees, nees_before)),
        _at_least(ANCHOR_AUC, 100.0 * anchors_before.auc, 100.0 * anchors_after.auc, least_auc),
        _at_most("false poses on anchors", anchors_before.false_poses, anchors_after.false_poses, own.false_poses),
    )


def _at_most(name: str, active: float, candidate: float, bound: float) -> Gate:
    return Gate(name, active, candidate, bound, bool(candidate <= bound))


def _at_least(name: str, active: float, candidate: float, bound: float) -> Gate:
    return Gate(name, active, candidate, bound, bool(candidate >= bound))
