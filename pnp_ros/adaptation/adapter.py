"""The fine-tuning itself: examine images, train a shadow, check it, and let only what is better be used."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.examples.buffer import ReplayBuffer
from pnp_ros.adaptation.examples.intake import Intake, Refusal
from pnp_ros.adaptation.learning.learner import Learner
from pnp_ros.adaptation.observation import Observation
from pnp_ros.adaptation.status import AdaptationState, AdaptationStatus, Event, FaultCause, Outcome, after
from pnp_ros.adaptation.supervision import GIVEN, Supervision
from pnp_ros.adaptation.trials.trial import Candidate, Trials
from pnp_ros.adaptation.versions import VersionError, VersionStore
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.models import load_keypoint_networks, weights_of

logger = logging.getLogger(__name__)
_RATE_AFTER_FAILURE = 0.5  # factor on the learning rate of each new try
_NEW_SHARE = 0.25  # of the capacity: new images that are waited for when no try helped


@dataclass
class _Attempts:
    """How often checks failed: after some the shadow starts again, more slowly; after some starts it waits.

    Args:
        most: of either.
        checks: that failed since the last start.
        starts: since the last success.
        added: images when the last start was made.
    """

    most: int
    checks: int = 0
    starts: int = 0
    added: int = 0

    @property
    def used_up(self) -> bool:
        return self.starts >= self.most

    @property
    def rate(self) -> float:
        """Factor on the learning rate."""
        return float(_RATE_AFTER_FAILURE**self.starts)

    def failed(self, added: int) -> bool:
        """One more check failed. True: the shadow is to start again."""
        self.checks += 1
        if self.checks < self.most:
            return False
        self.checks, self.starts, self.added = 0, self.starts + 1, added
        return True

    def begin_anew(self) -> None:
        self.checks = self.starts = 0


class Adapter:
    """Adapts one object's networks to the images it is shown.

    One thread calls :meth:`work` again and again; every other method may be called by any thread. The states and what
    leads from one to another are :data:`pnp_ros.adaptation.status.TRANSITIONS`.

    Args:
        package: of the object, with weights.
        config: limits and rates.
        store: of the versions; the newest good one is what is active at the start.
        device: where it learns and checks.
        supervision: what kind of references there are.

    Raises:
        ObjectPackageError: if the package has no weights, or they do not fit.
    """

    def __init__(
        self,
        package: ObjectPackage,
        config: AdaptationConfig,
        store: VersionStore,
        device: torch.device | str = "cpu",
        supervision: Supervision = GIVEN,
    ) -> None:
        self._package, self._config, self._store, self._supervision = package, config, store, supervision
        self._device = torch.device(device)
        load_keypoint_networks(package)  # says now what is wrong with them
        self._lock = threading.Lock()
        self._deciding = threading.Lock()  # which version is active
        self._waiting: list[Observation] = []
        self._requests: deque[Callable[[], None]] = deque()
        self._refusals: Counter[str] = Counter()
        newest = store.newest()
        self._status = AdaptationStatus(
            reason="waiting for images",
            active_version=newest.number if newest else 0,
            candidate_version=store.next_number(),
        )
        # the working thread's own; it makes those that render
        self._buffer = ReplayBuffer(config.capacity, config.held_back)
        self._intake: Intake | None = None
        self._learner: Learner | None = None
        self._trials: Trials | None = None
        self._faults: dict[FaultCause, str] = {}
        self._unstored: Candidate | None = None  # passed, but the disk did not take it
        self._attempts = _Attempts(config.max_tries)
        self._steps_to_check = config.check_steps

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

    @property
    def focal_error(self) -> float:
        """By what share of the distance objects are further than the images show them, as the references tell."""
        intake = self._intake
        return intake.focal_error if intake else 0.0

    def pause(self, on: bool) -> None:
        """Stop learning, or go on."""
        self._request(self._pause if on else self._resume)

    def rollback(self) -> Outcome:
        """Go back to the version before the active one, at once, and pause."""
        with self._deciding:
            active = self.status().active_version
            if not active:
                return Outcome("nothing to roll back: the object package's own weights are in use")
            problem = _withdrawing(lambda: self._store.withdraw(active, "rolled back by the user"))
            number = self._say_newest()
            self._request(lambda: self._begin_anew(Event.PAUSE, f"rolled back to version {number}; paused{problem}"))
        return Outcome(
            f"version {active} is withdrawn for version {number}, and the fine-tuning pauses{problem}", not problem
        )

    def reset(self) -> Outcome:
        """Go back to the package's own weights, at once, forget all images, and begin anew."""

        def forget() -> None:
            self._intake = None
            self._forget()
            self._say(buffered=0, refused=0)
            self._begin_anew(Event.RESET, "reset: waiting for images")

        with self._deciding:
            problem = _withdrawing(lambda: self._store.withdraw_all("reset by the user"))
            self._say_newest()
            self._request(forget)
        return Outcome(f"all versions are withdrawn, and all images forgotten{problem}", not problem)

    @property
    def check_is_due(self) -> bool:
        """Whether the next piece of work is a check."""
        return self._learner is not None and self._steps_to_check == 0

    # --- for the working thread ---------------------------------------------------------------------------------------

    def work(self) -> bool:
        """One piece of work: examine what waits, then one step or one check. False: there is nothing to do."""
        self._serve()
        examined = self._examine()
        if examined and self._unstored is not None:
            self._promote(self._unstored)
        if not self._learning():
            return examined
        learner = self._started()
        if self._steps_to_check == 0:
            self._steps_to_check = self._config.check_steps
            self._check(learner)
        else:
            self._steps_to_check -= 1
            losses = learner.step(self._buffer.learnt)
            self._say(
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
        if not waiting or self.status().state is AdaptationState.PAUSED:
            return False
        if self._intake is None:
            self._intake = Intake(self._package, self._config, self._supervision)
        for observation in waiting:
            examined = self._intake.examine(observation)
            if isinstance(examined, Refusal):
                self._refuse(examined)
            else:
                self._buffer.add(examined)
        if bias := self._intake.bias:
            self._forget()  # what was accepted before it showed is biased, too
            self._break(FaultCause.REFERENCES, bias)
        else:
            self._mend(FaultCause.REFERENCES, "the references are right again")
            self._buffer.change(self._intake.corrected)  # of those collected before it was told, too
        self._say(buffered=len(self._buffer))
        return True

    def _refuse(self, refusal: Refusal) -> None:
        logger.debug("image refused: %s: %s", refusal.check.value, refusal.reason)
        with self._lock:
            self._refusals[refusal.kind] += 1
            status = self._status
            collecting = status.state is AdaptationState.COLLECTING
            reason = f"image refused: {refusal.reason}" if collecting else status.reason
            self._status = dataclasses.replace(status, refused=status.refused + 1, reason=reason)

    def _learning(self) -> bool:
        """Whether it learns now: enough to learn from, and something new since nothing more could be gained."""
        state = self.status().state
        if state not in (AdaptationState.COLLECTING, AdaptationState.TRAINING):
            return False
        learnt, held_back = len(self._buffer.learnt), len(self._buffer.held_back)
        wanted = round(_NEW_SHARE * self._config.capacity)
        if learnt < self._config.min_images or held_back < self._config.min_held_back:
            event, reason = Event.TOO_FEW, "waiting for enough images"
        elif self._attempts.used_up and self._buffer.added - self._attempts.added < wanted:
            event, reason = Event.EXHAUSTED, f"nothing more is gained: waiting for {wanted} new images"
        else:
            if self._attempts.used_up:
                self._attempts.begin_anew()
            if state is AdaptationState.COLLECTING:
                self._move(Event.ENOUGH, "learning from the images collected so far")
            return True
        if state is AdaptationState.TRAINING:
            self._move(event, reason)
        return False

    def _started(self) -> Learner:
        """The learner, with a shadow of the active weights where it has none."""
        if self._learner is None:
            self._learner = Learner(self._package, self._config, self._device, self._supervision)
            self._restart(self._learner)
        return self._learner

    def _restart(self, learner: Learner) -> None:
        learner.start(*load_keypoint_networks(self._active_package()), self._buffer.learnt, self._attempts.rate)
        self._steps_to_check = self._config.check_steps

    def _active_package(self) -> ObjectPackage:
        newest = self._store.newest()
        return newest.applied_to(self._package) if newest else self._package

    def _check(self, learner: Learner) -> None:
        """Measure the shadow against the active weights; use what passes every gate."""
        self._move(Event.CHECK, self.status().reason)
        try:
            self._try(learner)
        finally:
            if self.status().state is AdaptationState.CHECKING:  # an error: whoever works goes on with the next piece
                self._move(Event.JUDGED, "not used: the check was broken off")

    def _try(self, learner: Learner) -> None:
        if self._trials is None:
            self._trials = Trials(self._package, self._config, self._device, self._supervision)
        newest = self._store.newest()
        active = newest.applied_to(self._package) if newest else self._package
        candidate = self._trials.run(learner, newest.number if newest else 0, active, self._buffer.held_back)
        if not candidate.failed:
            self._promote(candidate)
            return
        gate = candidate.failed[0]
        reason = f"not used: {gate.name}: {gate.candidate:.1f}, bound {gate.bound:.1f}"
        logger.info("candidate %s", reason)
        if self._attempts.failed(self._buffer.added):
            self._restart(learner)
        self._move(Event.JUDGED, reason, gates=candidate.gates)

    def _promote(self, candidate: Candidate) -> None:
        """Store new weights, which is what makes them the active ones; the shadow learns on."""
        record = {"gates": [dataclasses.asdict(gate) for gate in candidate.gates], "images": len(self._buffer)}
        with self._deciding:
            if self._requests:
                reason = "not used: the user asked for something else meanwhile"
                self._judged(candidate, reason)
                return
            try:
                version = self._store.write(weights_of(*candidate.networks), candidate.calibration, record)
            except VersionError as error:
                self._unstored = candidate
                self._break(FaultCause.STORE, str(error))
                self._say(gates=candidate.gates)
                return
            self._say(active_version=version.number, candidate_version=version.number + 1, steps=0)
            self._judged(candidate, f"version {version.number} passed all gates and is in use")
        logger.info("version %d passed all gates", version.number)
        assert self._trials is not None
        self._trials.adopted(candidate, version.number)
        self._attempts.begin_anew()

    def _judged(self, candidate: Candidate, reason: str) -> None:
        """A candidate that passed is done with, at its check or when the disk took it at last."""
        self._unstored = None
        if self.status().state is AdaptationState.CHECKING:
            self._move(Event.JUDGED, reason, gates=candidate.gates)
        else:
            self._mend(FaultCause.STORE, reason)

    def _break(self, cause: FaultCause, reason: str) -> None:
        self._faults[cause] = reason
        self._move(Event.BROKEN, reason, fault=cause)

    def _mend(self, cause: FaultCause, reason: str) -> None:
        """This is no fault any more; another one may still be."""
        if self._faults.pop(cause, None) is None:
            return
        if self._faults:
            other, why = next(iter(self._faults.items()))
            self._move(Event.BROKEN, why, fault=other)
        else:
            self._move(Event.MENDED, reason, fault=None)

    def _say_newest(self) -> int:
        """Tell which version is active after others were withdrawn, so that the estimator need not wait."""
        newest = self._store.newest()
        number = newest.number if newest else 0
        self._say(active_version=number, candidate_version=self._store.next_number(), steps=0, gates=())
        return number

    def _forget(self) -> None:
        """Let go of the images and of all that was learnt from them but not used yet."""
        self._buffer.clear()
        self._learner = self._unstored = None
        self._faults.pop(FaultCause.STORE, None)

    def _begin_anew(self, event: Event, reason: str) -> None:
        self._learner = self._unstored = None
        self._attempts.begin_anew()
        self._faults.clear()
        self._move(event, reason, steps=0, gates=(), fault=None)

    def _pause(self) -> None:
        self._move(Event.PAUSE, "paused by the user")

    def _resume(self) -> None:
        self._move(Event.RESUME, "going on")
        for cause, reason in tuple(self._faults.items()):  # what was wrong before the pause still is
            self._break(cause, reason)

    def _request(self, request: Callable[[], None]) -> None:
        with self._lock:
            self._requests.append(request)

    def _move(self, event: Event, reason: str, **fields: object) -> None:
        with self._lock:
            state = after(self._status.state, event)
        self._say(state=state, reason=reason, **fields)

    def _say(self, **fields: object) -> None:
        with self._lock:
            self._status = dataclasses.replace(self._status, **fields)  # type: ignore[arg-type]


def _withdrawing(withdraw: Callable[[], None]) -> str:
    """Withdraw versions; what to add where the disk did not take it."""
    try:
        withdraw()
    except VersionError as error:
        return f"; until the next start only, since it could not be stored: {error}"
    return ""
