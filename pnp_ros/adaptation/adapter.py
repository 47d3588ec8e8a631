"""The fine-tuning itself: examine images, train a shadow, check it, and let only what is better be used."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable

import torch

from pnp_ros.adaptation.anchors import Anchors
from pnp_ros.adaptation.buffer import ReplayBuffer
from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.gates import ANCHOR_AUC, NEES, Examiner, Measured, OnAnchors, calibrated, judge
from pnp_ros.adaptation.intake import Intake, Refusal
from pnp_ros.adaptation.learner import Learner
from pnp_ros.adaptation.observation import Observation
from pnp_ros.adaptation.status import AdaptationState, AdaptationStatus, Gate
from pnp_ros.adaptation.versions import VersionError, VersionStore
from pnp_ros.detection.detector_network import DetectorNetwork
from pnp_ros.networks.keypoint_network import KeypointNetwork
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.calibration import CovarianceCalibration
from pnp_ros.pipeline.models import load_models, load_networks, prepared, weights_of

logger = logging.getLogger(__name__)
_SHARES = (1.0, 0.7, 0.45)  # of the way from the package's own weights to the shadow's, tried in this order
_RATE_AFTER_FAILURE = 0.5  # factor on the learning rate of each new try
_NEW_SHARE = 0.25  # of the capacity: new images that are waited for when no try helped


class Adapter:
    """Adapts one object's networks to the images it is shown.

    One thread calls :meth:`work` again and again; every other method may be called by any thread.

    Args:
        package: of the object, with weights.
        config: limits and rates.
        store: of the versions; the newest good one is what is active at the start.
        device: where it learns and checks.
        own: the references are the estimator's own poses.

    Raises:
        ObjectPackageError: if the package has no weights, or they do not fit.
    """

    def __init__(
        self,
        package: ObjectPackage,
        config: AdaptationConfig,
        store: VersionStore,
        device: torch.device | str = "cpu",
        own: bool = False,
    ) -> None:
        self._package, self._config, self._store, self._own = package, config, store, own
        self._device = torch.device(device)
        load_networks(package)  # says now what is wrong with them
        self._lock = threading.Lock()
        self._deciding = threading.Lock()  # which version is active
        self._waiting: list[Observation] = []
        self._requests: deque[Callable[[], None]] = deque()
        self._paused = False
        self._buffer = ReplayBuffer(config.capacity, config.held_back)
        self._refusals: Counter[str] = Counter()
        newest = store.newest()
        self._status = AdaptationStatus(
            reason="waiting for images",
            active_version=newest.number if newest else 0,
            candidate_version=store.next_number(),
        )
        # made by the working thread, since they render
        self._intake: Intake | None = None
        self._learner: Learner | None = None
        self._examiner: Examiner | None = None
        self._own_anchors: OnAnchors | None = None
        self._active_anchors: OnAnchors | None = None
        self._steps_to_check = config.check_steps
        self._tries, self._restarts, self._added_at_failure = 0, 0, 0

    # --- for any thread -----------------------------------------------------------------------------------------------

    def observe(self, observation: Observation) -> None:
        """Show an image. It is examined with the next piece of work; few should wait, they are held in memory."""
        with self._lock:
            self._waiting.append(observation)

    def status(self) -> AdaptationStatus:
        """What is going on."""
        with self._lock:
            return self._status

    def refusals(self) -> dict[str, int]:
        """How often each kind of refusal happened since the start, numbers in the reasons left out."""
        with self._lock:
            return dict(self._refusals)

    def pause(self, on: bool) -> None:
        """Stop learning, or go on."""
        self._request(lambda: self._pause(on, "paused by the user"))

    def rollback(self) -> str:
        """Go back to the version before the active one, at once, and pause. Returns what was done, in words."""
        with self._deciding:
            active = self.status().active_version
            if not active:
                return "nothing to roll back: the object package's own weights are in use"
            lasting = _lasting(lambda: self._store.withdraw(active, "rolled back by the user"))
            number = self._say_newest()
            self._request(lambda: self._begin_anew(True, f"rolled back to version {number}; paused{lasting}"))
        return f"version {active} is withdrawn for version {number}, and the fine-tuning pauses{lasting}"

    def reset(self) -> str:
        """Go back to the package's own weights, at once, forget all images, and begin anew."""

        def forget() -> None:
            self._buffer.clear()
            self._intake = None
            self._say(buffered=0, refused=0)
            self._begin_anew(False, "reset: waiting for images")

        with self._deciding:
            lasting = _lasting(lambda: self._store.withdraw_all("reset by the user"))
            self._say_newest()
            self._request(forget)
        return f"all versions are withdrawn, and all images forgotten{lasting}"

    @property
    def check_is_due(self) -> bool:
        """Whether the next piece of work is a check."""
        return self._learner is not None and self._steps_to_check == 0

    # --- for the working thread ---------------------------------------------------------------------------------------

    def work(self) -> bool:
        """One piece of work: examine what waits, then one step or one check. False: there is nothing to do."""
        self._serve()
        examined = self._examine()
        if self._paused or not self._ready():
            return examined
        learner = self._started()
        if self._steps_to_check == 0:
            self._steps_to_check = self._config.check_steps
            self._check(learner)
        else:
            self._steps_to_check -= 1
            losses = learner.step(self._buffer.learnt)
            self._say(
                AdaptationState.TRAINING,
                steps=self.status().steps + 1,
                reprojection_loss=losses.reprojection,
                correspondence_loss=losses.correspondence,
            )
        return True

    def _serve(self) -> None:
        while True:
            with self._lock:
                if not self._requests:
                    return
                request = self._requests.popleft()
            request()

    def _examine(self) -> bool:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        if not waiting or self._paused:
            return False
        if self._intake is None:
            self._intake = Intake(self._package, self._config, self._own)
        for observation in waiting:
            try:
                self._buffer.add(self._intake.examine(observation))
            except Refusal as refusal:
                self._refuse(str(refusal))
        if self._intake.bias:
            self._buffer.clear()  # what was accepted before it showed is biased, too
            self._say(AdaptationState.FAULT, reason=self._intake.bias)
        elif self.status().state is AdaptationState.FAULT:
            self._say(AdaptationState.COLLECTING, reason="the references are right again")
        self._say(buffered=len(self._buffer))
        return True

    def _refuse(self, reason: str) -> None:
        logger.debug("image refused: %s", reason)
        kind = "".join("#" if letter.isdigit() else letter for letter in reason)
        with self._lock:
            self._refusals[kind] += 1
            status = self._status
            reason = f"image refused: {reason}" if status.state is AdaptationState.COLLECTING else status.reason
            self._status = dataclasses.replace(status, refused=status.refused + 1, reason=reason)

    def _ready(self) -> bool:
        """Whether there is enough to learn from, and something new since nothing more could be gained."""
        config, state = self._config, self.status().state
        if state is AdaptationState.FAULT:
            return False
        learnt, held_back = len(self._buffer.learnt), len(self._buffer.held_back)
        if learnt < config.min_images or held_back < config.min_held_back:
            if state is not AdaptationState.COLLECTING:
                self._say(AdaptationState.COLLECTING, reason="waiting for enough images")
            return False
        if self._restarts >= config.max_tries:
            wanted = round(_NEW_SHARE * config.capacity)
            if self._buffer.added - self._added_at_failure < wanted:
                self._say(AdaptationState.COLLECTING, reason=f"nothing more is gained: waiting for {wanted} new images")
                return False
            self._tries = self._restarts = 0
        return True

    def _started(self) -> Learner:
        """The learner, with a shadow of the active weights where it has none."""
        if self._learner is None:
            self._learner = Learner(self._package, self._config, self._device, self._own)
            self._restart()
            self._say(AdaptationState.TRAINING, reason="learning from the images collected so far")
        return self._learner

    def _restart(self) -> None:
        assert self._learner is not None
        rate = _RATE_AFTER_FAILURE**self._restarts
        self._learner.start(*load_networks(self._active_package()), self._buffer.learnt, rate)
        self._tries, self._steps_to_check = 0, self._config.check_steps

    def _active_package(self) -> ObjectPackage:
        newest = self._store.newest()
        return newest.applied_to(self._package) if newest else self._package

    def _check(self, learner: Learner) -> None:
        """Measure the shadow, and weights on the way to it, against the active ones; use what passes every gate."""
        self._say(AdaptationState.CHECKING)
        active_package = self._active_package()
        examiner, own = self._examined()
        models = load_models(active_package, self._device)
        if self._active_anchors is None:
            self._active_anchors = examiner.on_anchors(models) if self.status().active_version else own
        active = examiner.measure(models, self._buffer.held_back)
        before = models.calibration
        for share in _SHARES:
            networks = learner.candidate(share)
            measured, gates, anchors = self._judged(examiner, networks, active, own, before, before)
            calibration = before
            fitted, nees = calibrated(measured, before)
            if fitted != before and all(gate.passed or gate.name == NEES for gate in gates):
                again = self._judged(examiner, networks, active, own, before, fitted, nees)
                if all(gate.passed for gate in again[1]):
                    _, gates, anchors = again
                    calibration = fitted
            failed = [gate for gate in gates if not gate.passed]
            if share == 1.0 and any(gate.name == ANCHOR_AUC for gate in failed):
                learner.hold_firmer()
            if not failed:
                self._promote(networks, calibration, gates, anchors)
                return
            if not gates[0].passed:  # nothing is gained; less of it gains less
                break
        self._fail(gates, failed[0])

    def _judged(
        self,
        examiner: Examiner,
        networks: tuple[KeypointNetwork, DetectorNetwork],
        active: Measured,
        own: OnAnchors,
        before: CovarianceCalibration,
        calibration: CovarianceCalibration,
        nees: float | None = None,
    ) -> tuple[Measured, tuple[Gate, ...], OnAnchors]:
        """A candidate on the held-back images, its gates, and on the anchors.

        Args:
            examiner: measures.
            networks: the candidate's.
            active: the weights in use.
            own: the package's own weights.
            before: calibration of the weights in use.
            calibration: of the candidate. Fitted anew it is right on the robot's images, but may make the covariance
                so large that good poses on renders no longer count as certain.
            nees: mean NEES of the held-back poses, where it is known better than from those poses themselves.
        """
        models = prepared(*networks, self._device, calibration)
        candidate, anchors = examiner.measure(models, self._buffer.held_back), examiner.on_anchors(models)
        assert self._active_anchors is not None
        gates = judge(
            self._config,
            own,
            (active, self._active_anchors, active.mean_nees(before)),
            (candidate, anchors, candidate.mean_nees(calibration) if nees is None else nees),
        )
        return candidate, gates, anchors

    def _promote(
        self,
        networks: tuple[KeypointNetwork, DetectorNetwork],
        calibration: CovarianceCalibration,
        gates: tuple[Gate, ...],
        anchors: OnAnchors,
    ) -> None:
        """Store new weights, which is what makes them the active ones; the shadow learns on."""
        record = {"gates": [dataclasses.asdict(gate) for gate in gates], "images": len(self._buffer)}
        with self._deciding:
            if self._requests:
                self._say(AdaptationState.TRAINING, reason="not used: the user asked for something else meanwhile")
                return
            try:
                version = self._store.write(weights_of(*networks), calibration, record)
            except VersionError as error:
                self._say(AdaptationState.FAULT, reason=str(error), gates=gates)
                return
            self._say(
                AdaptationState.TRAINING,
                reason=f"version {version.number} passed all gates and is in use",
                active_version=version.number,
                candidate_version=version.number + 1,
                steps=0,
                gates=gates,
            )
        logger.info("version %d passed all gates", version.number)
        self._active_anchors = anchors
        self._tries = self._restarts = 0

    def _fail(self, gates: tuple[Gate, ...], gate: Gate) -> None:
        """Train on, start again more slowly, or give up until there is something new."""
        self._tries += 1
        reason = f"not used: {gate.name}: {gate.candidate:.1f}, bound {gate.bound:.1f}"
        logger.info("candidate %s", reason)
        if self._tries >= self._config.max_tries:
            self._restarts += 1
            self._added_at_failure = self._buffer.added
            self._restart()
        self._say(AdaptationState.TRAINING, reason=reason, gates=gates)

    def _examined(self) -> tuple[Examiner, OnAnchors]:
        """The examiner, and how the package's own weights do on the anchors."""
        if self._examiner is None:
            self._examiner = Examiner(self._package, Anchors(self._package, self._config), self._device, self._own)
        if self._own_anchors is None:
            self._own_anchors = self._examiner.on_anchors(load_models(self._package, self._device))
        return self._examiner, self._own_anchors

    def _say_newest(self) -> int:
        """Tell which version is active after others were withdrawn, so that the estimator need not wait."""
        newest = self._store.newest()
        number = newest.number if newest else 0
        self._say(active_version=number, candidate_version=self._store.next_number(), steps=0, gates=())
        return number

    def _begin_anew(self, pause: bool, reason: str) -> None:
        self._learner = self._active_anchors = None
        self._tries = self._restarts = 0
        self._say(steps=0, gates=())
        self._pause(pause, reason)

    def _pause(self, on: bool, reason: str) -> None:
        self._paused = on
        state = AdaptationState.PAUSED if on else AdaptationState.COLLECTING
        self._say(state, reason=reason if on or "reset" in reason else "going on")

    def _request(self, request: Callable[[], None]) -> None:
        with self._lock:
            self._requests.append(request)

    def _say(self, state: AdaptationState | None = None, **fields: object) -> None:
        with self._lock:
            changed = {**fields, **({"state": state} if state is not None else {})}
            self._status = dataclasses.replace(self._status, **changed)  # type: ignore[arg-type]


def _lasting(withdraw: Callable[[], None]) -> str:
    """Withdraw versions; what to add where the disk did not take it."""
    try:
        withdraw()
    except VersionError as error:
        return f"; until the next start only, since it could not be stored: {error}"
    return ""
