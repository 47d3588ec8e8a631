"""One phase of training: as many steps as fit into a wall-clock budget.

The learning rate follows the time spent, not a step count: a warm-up, then a cosine down to zero when the budget ends
(Loshchilov and Hutter, 2017). Weights are averaged exponentially; the average is what is kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
from torch import Tensor, nn

from pnp_ros import settings
from pnp_ros.io.checkpoints import read_metadata, read_tensors, under_prefix, with_prefix, write_tensors
from pnp_ros.networks.precision import training_precision
from pnp_ros.settings import bounded
from pnp_ros.training.distributed import Group

Batch = dict[str, Tensor]
StepLoss = Callable[[nn.Module, Batch, float], tuple[Tensor, dict[str, Tensor]]]
_WARM_UP = 0.03  # share of the budget
_EMA_DECAY = 0.998
_MAX_GRADIENT_NORM = 2.0


@dataclass(frozen=True)
class PhaseConfig:
    """How long and how fast one network is trained.

    Args:
        name: of the phase, also of its checkpoint file.
        seconds: wall-clock budget, more than 0.
        learning_rate: the largest one.
        weight_decay: of AdamW.
        checkpoint_seconds: time between checkpoints.
    """

    name: str
    seconds: float
    learning_rate: float = bounded(2e-3, 1e-9, 1.0)
    weight_decay: float = bounded(1e-2, 0.0, 1.0)
    checkpoint_seconds: float = bounded(60.0, 1e-3, 1e6)

    def __post_init__(self) -> None:
        settings.check(self)
        if not self.seconds > 0.0:
            raise ValueError(f"seconds: expected more than 0, got {self.seconds}")


@dataclass(frozen=True)
class Progress:
    """State of a phase after a step, for a progress bar: seconds spent, steps, samples, figures by name."""

    seconds: float
    steps: int
    samples: int
    figures: dict[str, float]


def learning_rate(peak: float, progress: float) -> float:
    """At a share ``progress`` (0 to 1) of the budget: linear warm-up, then cosine to 0."""
    if progress < _WARM_UP:
        return peak * (progress + 1e-3) / (_WARM_UP + 1e-3)
    share = min(1.0, (progress - _WARM_UP) / (1.0 - _WARM_UP))
    return peak * 0.5 * (1.0 + math.cos(math.pi * share))


class Phase:
    """Trains one network within its budget; resumes from ``folder/<name>.safetensors`` where that is there.

    Args:
        network: trained in place on ``device``.
        step_loss: network, batch and share of the budget spent (0 to 1) to the loss and its figures.
        config: budget and rates.
        folder: where the checkpoint lies.
        device: of network and batches.
        group: the processes that train together.
        clock: seconds; asked once at the start of a run and once after each step.
    """

    def __init__(
        self,
        network: nn.Module,
        step_loss: StepLoss,
        config: PhaseConfig,
        folder: Path,
        device: torch.device,
        group: Group,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._clock = clock
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.config = config
        self.checkpoint = folder / f"{config.name}.safetensors"
        self._device = device
        self._group = group
        self._step_loss = step_loss
        self._precision = training_precision(device)
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._seconds = 0.0
        self._steps = 0
        self._samples = 0
        if self.checkpoint.is_file():
            self._load()
        self._trained = group.wrap(self.network)

    @property
    def steps(self) -> int:
        """Steps made so far, those before a resumption included."""
        return self._steps

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 to 1."""
        return min(1.0, self._seconds / self.config.seconds)

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        return self._seconds >= self.config.seconds

    def run(self, batches: Iterator[Batch], report: Callable[[Progress], None]) -> nn.Module:
        """Train until the budget is spent; returns the averaged network in ``eval()`` mode.

        An exception (a KeyboardInterrupt too) leaves a checkpoint behind from which the next run goes on.
        """
        try:
            self._run(batches, report)
        finally:
            self.save()
        return self.average

    def _run(self, batches: Iterator[Batch], report: Callable[[Progress], None]) -> None:
        self.network.train()
        if not self.finished:
            batch = next(batches)  # the first batch waits for the renderer's start, which is not training time
        begin = self._clock() - self._seconds
        saved_at = self._seconds
        while not self.finished:
            figures = self._step(batch)
            self._seconds = self._group.agree(self._clock() - begin)
            self._steps += 1
            self._samples += int(next(iter(batch.values())).shape[0]) * self._group.size
            if self._steps % 5 == 0:
                shown = {name: float(value) for name, value in figures.items()}
                report(Progress(self._seconds, self._steps, self._samples, shown))
            if self._seconds - saved_at > self.config.checkpoint_seconds:
                self.save()
                saved_at = self._seconds
            if not self.finished:
                batch = next(batches)

    def _step(self, batch: Batch) -> dict[str, Tensor]:
        progress = self.progress
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.config.learning_rate, progress)
        batch = {name: tensor.to(self._device, non_blocking=True) for name, tensor in batch.items()}
        with self._precision.autocast(self._device):
            loss, figures = self._step_loss(self._trained, batch, progress)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), _MAX_GRADIENT_NORM)
        if bool(torch.isfinite(norm)):  # a single bad batch must not destroy the weights
            self._optimizer.step()
            self._average()
        return figures

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(_EMA_DECAY, (1.0 + self._steps) / (10.0 + self._steps))
        averaged = list(self.average.parameters())
        torch._foreach_lerp_(averaged, list(self.network.parameters()), 1.0 - decay)
        for kept, now in zip(self.average.buffers(), self.network.buffers(), strict=True):
            kept.copy_(now)

    def save(self) -> None:
        """Write weights, average, optimizer state and the time spent in one atomic file."""
        if not self._group.is_first:
            return
        tensors = with_prefix("network", self.network.state_dict()) | with_prefix("average", self.average.state_dict())
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= with_prefix(f"optimizer.{index}", state)
        metadata = {"seconds": self._seconds, "steps": self._steps, "samples": self._samples}
        write_tensors(self.checkpoint, tensors, metadata)

    def _load(self) -> None:
        tensors = read_tensors(self.checkpoint)
        self.network.load_state_dict(under_prefix("network", tensors))
        self.average.load_state_dict(under_prefix("average", tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in under_prefix("optimizer", tensors).items():
            index, field = name.split(".", 1)
            state.setdefault(int(index), {})[field] = tensor
        self._optimizer.load_state_dict({"state": state, "param_groups": self._optimizer.state_dict()["param_groups"]})
        metadata = read_metadata(self.checkpoint)
        self._seconds = float(metadata["seconds"])
        self._steps, self._samples = int(metadata["steps"]), int(metadata["samples"])
