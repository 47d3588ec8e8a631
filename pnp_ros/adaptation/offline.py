"""The fine-tuning on recorded images: what the two nodes do together, one image after another, reproducibly."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from pnp_ros.adaptation.adapter import Adapter
from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.observation import Observation
from pnp_ros.adaptation.references.reference import Reference
from pnp_ros.adaptation.status import AdaptationStatus, plain
from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.evaluation.frames import Frame, Time
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.models import load_models

_NOTED_EVERY = 10  # steps between two entries of the history where nothing else changes


@dataclass(frozen=True)
class Budget:
    """What may be spent; the first limit that is reached ends the adaptation.

    Args:
        steps: of the optimiser; None: no limit.
        minutes: by the clock, which makes the result depend on the machine; None: no limit.
        epochs: times that the images are gone through; None: once if there is no other limit, else until nothing is
            learnt any more.

    Raises:
        ValueError: naming the field that is not above 0.
    """

    steps: int | None = None
    minutes: float | None = None
    epochs: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "minutes", "epochs"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: expected more than 0, got {value}")

    @property
    def most_epochs(self) -> float:
        """Times that the images are gone through at most."""
        if self.epochs is not None:
            return self.epochs
        return 1 if self.steps is None and self.minutes is None else math.inf


@dataclass(frozen=True)
class Progress:
    """One entry of the history.

    Args:
        epoch: how often the images have been gone through before.
        image: shown so far.
        stamp_ns: of the image.
        total_steps: of the optimiser so far.
        status: of the adapter.
    """

    epoch: int
    image: int
    stamp_ns: int
    total_steps: int
    status: AdaptationStatus

    def to_plain(self) -> dict[str, Any]:
        """As JSON knows it; what is not finite is None."""
        entry = dataclasses.asdict(self)
        fault = None if self.status.fault is None else self.status.fault.name
        status = entry.pop("status") | {"state": self.status.state.name, "fault": fault}
        return dict(plain(entry | status))


@dataclass(frozen=True)
class AdaptationResult:
    """What came of it.

    Args:
        history: all changes.
        steps: of the optimiser.
        images: that were shown.
        promoted: numbers of the versions that passed all gates, oldest first.
        active_version: what the estimator used at the end; 0: the package's own weights.
        refusals: how many images were refused, by reason.
    """

    history: tuple[Progress, ...]
    steps: int
    images: int
    promoted: tuple[int, ...]
    active_version: int
    refusals: dict[str, int]


def adapt(
    frames: Callable[[], Iterable[Frame]],
    package: ObjectPackage,
    store: VersionStore,
    config: AdaptationConfig,
    reference: Reference,
    *,
    budget: Budget | None = None,
    steps_per_image: int = 1,
    device: torch.device | str = "cpu",
    on_progress: Callable[[Progress], None] | None = None,
) -> AdaptationResult:
    """Show the images to estimator and adapter in turn, as if a robot saw them.

    On the CPU and without a limit in minutes, the same images and seed give the same versions, byte for byte.

    Args:
        frames: begins anew at each call; in order of time.
        package: of the object, with weights.
        store: of the versions; its newest good one is where it starts.
        config: of the adaptation.
        reference: of the true poses; what it does not know at once is not learnt from.
        budget: one time through the images without it.
        steps_per_image: pieces of work, steps and checks, after each image.
        device: of the networks.
        on_progress: gets each entry of the history as it comes.

    Raises:
        ObjectPackageError: if the package has no weights, or they do not fit.
        ValueError: if ``steps_per_image`` is below 1, or there is no image.
    """
    if steps_per_image < 1:
        raise ValueError(f"steps_per_image: expected at least 1, got {steps_per_image}")
    robot = _Robot(package, store, config, reference, torch.device(device), on_progress)
    budget = budget or Budget()
    deadline = math.inf if budget.minutes is None else time.monotonic() + 60.0 * budget.minutes
    most_steps = math.inf if budget.steps is None else budget.steps
    while robot.epoch < budget.most_epochs:
        steps_before = robot.steps
        for frame in frames():
            robot.see(frame)
            for _ in range(steps_per_image):
                if time.monotonic() >= deadline or (robot.steps >= most_steps and not robot.check_is_due):
                    return robot.result()
                robot.work()
        if robot.images == 0:
            raise ValueError("the source holds no image to learn from")
        robot.epoch += 1
        if robot.steps == steps_before:  # going on would show the same images in vain
            break
    return robot.result()


class _Robot:
    """Estimator and adapter beside each other; promoted versions are used from the next image on."""

    def __init__(
        self,
        package: ObjectPackage,
        store: VersionStore,
        config: AdaptationConfig,
        reference: Reference,
        device: torch.device,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._package, self._store, self._device, self._reference = package, store, device, reference
        self._on_progress = on_progress
        self._adapter = Adapter(package, config, store, device, supervision=reference.supervision)
        self._estimator = PoseEstimator(package, EstimatorConfig(), device)
        self._version = 0
        self._promoted: list[int] = []
        self._history: list[Progress] = []
        self._time, self._stamp_ns = Time(), 0
        self.epoch, self.images, self.steps = 0, 0, 0
        self._use(self._adapter.status().active_version)

    def see(self, frame: Frame) -> None:
        """Estimate, and show the adapter what is known."""
        if self._time.jumps_back(frame.stamp_ns):
            self._estimator.reset()
        self._stamp_ns = frame.stamp_ns
        self.images += 1
        found = self._estimator.estimate(frame.rgb, frame.camera, 1e-9 * frame.stamp_ns)
        estimate = found.estimate.pose if found.estimate else None
        for shown in self._reference.confirmed(Observation(**vars(frame), state=found.state, estimate=estimate)):
            self._adapter.observe(shown)

    @property
    def check_is_due(self) -> bool:
        """Whether the steps made last are still to be checked."""
        return self._adapter.check_is_due

    def work(self) -> None:
        """One piece of work of the adapter."""
        before = self._adapter.status()
        self._adapter.work()
        status = self._adapter.status()
        self.steps += max(0, status.steps - before.steps)
        if status.active_version != self._version:
            self._promoted.append(status.active_version)
            self._use(status.active_version)
        self._note(status)

    def _use(self, version: int) -> None:
        package = self._store.get(version).applied_to(self._package) if version else self._package
        self._estimator.use(load_models(package, self._device))
        self._version = version

    def _note(self, status: AdaptationStatus, every: int = _NOTED_EVERY) -> None:
        """Keep what is new, and the losses after ``every`` so many steps."""
        last = self._history[-1] if self._history else None
        if last is not None and _decided(status) == _decided(last.status) and self.steps < last.total_steps + every:
            return
        entry = Progress(self.epoch, self.images, self._stamp_ns, self.steps, status)
        self._history.append(entry)
        if self._on_progress is not None:
            self._on_progress(entry)

    def result(self) -> AdaptationResult:
        """All that came of it."""
        self._note(self._adapter.status(), every=1)
        return AdaptationResult(
            tuple(self._history),
            self.steps,
            self.images,
            tuple(self._promoted),
            self._version,
            self._adapter.refusals(),
        )


def _decided(status: AdaptationStatus) -> tuple[Any, ...]:
    """What changes by decisions and not with every step."""
    return status.state, status.reason, status.active_version, status.gates
