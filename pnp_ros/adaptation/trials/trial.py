"""The trial of new weights: the shadow's, and weights on the way to them, beside the active ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.examples.example import Example
from pnp_ros.adaptation.learning.learner import Learner
from pnp_ros.adaptation.status import Gate
from pnp_ros.adaptation.supervision import Supervision
from pnp_ros.adaptation.trials.anchors import Anchors
from pnp_ros.adaptation.trials.gates import ANCHOR_AUC, NEES, Examiner, Measured, OnAnchors, calibrated, judge
from pnp_ros.detection.detector_network import DetectorNetwork
from pnp_ros.networks.keypoint_network import KeypointNetwork
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.calibration import CovarianceCalibration
from pnp_ros.pipeline.models import load_models, prepared

_SHARES = (1.0, 0.7, 0.45)  # of the way from the package's own weights to the shadow's, tried in this order


@dataclass(frozen=True, eq=False)
class Candidate:
    """Weights, and what was measured of them.

    Args:
        networks: on the CPU.
        calibration: of their covariance.
        gates: all of them, the gain first.
        anchors: how they do there.
    """

    networks: tuple[KeypointNetwork, DetectorNetwork]
    calibration: CovarianceCalibration
    gates: tuple[Gate, ...]
    anchors: OnAnchors

    @property
    def failed(self) -> tuple[Gate, ...]:
        """The gates that it did not pass; none: it may be used."""
        return tuple(gate for gate in self.gates if not gate.passed)


class Trials:
    """Measures candidates of one object; for one thread.

    Args:
        package: of the object.
        config: bounds.
        device: of the networks.
        supervision: what the held-back poses are.

    Raises:
        RendererError: if there is no OpenGL.
    """

    def __init__(
        self, package: ObjectPackage, config: AdaptationConfig, device: torch.device, supervision: Supervision
    ) -> None:
        self._config, self._device = config, device
        self._examiner = Examiner(package, Anchors(package, config), device, supervision)
        self._own = self._examiner.on_anchors(load_models(package, device))
        self._active: tuple[int, OnAnchors] = (0, self._own)  # version, and how it does on the anchors

    def run(self, learner: Learner, version: int, package: ObjectPackage, held_back: Sequence[Example]) -> Candidate:
        """The first candidate that passes every gate, else the last one that was tried.

        Args:
            learner: has the shadow; told where it forgets too much.
            version: number of the active weights; 0 for the package's own.
            package: with the active weights.
            held_back: to measure with.
        """
        models = load_models(package, self._device)
        if self._active[0] != version:
            self._active = version, self._examiner.on_anchors(models) if version else self._own
        active, before = self._examiner.measure(models, held_back), models.calibration
        for share in _SHARES:
            candidate = self._calibrated(learner.candidate(share), active, before, held_back)
            if share == 1.0 and any(gate.name == ANCHOR_AUC for gate in candidate.failed):
                learner.hold_firmer()
            if not candidate.failed or not candidate.gates[0].passed:  # where nothing is gained, less of it gains less
                break
        return candidate

    def adopted(self, candidate: Candidate, version: int) -> None:
        """A candidate is the active version now."""
        self._active = version, candidate.anchors

    def _calibrated(
        self,
        networks: tuple[KeypointNetwork, DetectorNetwork],
        active: Measured,
        before: CovarianceCalibration,
        held_back: Sequence[Example],
    ) -> Candidate:
        """Measured with the active calibration and, where only the covariance is wrong, with its own."""
        measured, candidate = self._judged(networks, active, before, before, held_back)
        fitted, nees = calibrated(measured, before)
        if fitted == before or any(gate.name != NEES for gate in candidate.failed):
            return candidate
        # fitted anew it is right on the robot's images, but may make good poses on renders too uncertain to count
        again = self._judged(networks, active, before, fitted, held_back, nees)[1]
        return candidate if again.failed else again

    def _judged(
        self,
        networks: tuple[KeypointNetwork, DetectorNetwork],
        active: Measured,
        before: CovarianceCalibration,
        calibration: CovarianceCalibration,
        held_back: Sequence[Example],
        nees: float | None = None,
    ) -> tuple[Measured, Candidate]:
        """A candidate with a calibration.

        Args:
            networks: the candidate's.
            active: the weights in use.
            before: calibration of the weights in use.
            calibration: of the candidate.
            held_back: to measure with.
            nees: mean NEES of the held-back poses, where it is known better than from those poses themselves.
        """
        models = prepared(*networks, self._device, calibration)
        measured, anchors = self._examiner.measure(models, held_back), self._examiner.on_anchors(models)
        gates = judge(
            self._config,
            self._own,
            (active, self._active[1], active.mean_nees(before)),
            (measured, anchors, measured.mean_nees(calibration) if nees is None else nees),
        )
        return measured, Candidate(networks, calibration, gates, anchors)
