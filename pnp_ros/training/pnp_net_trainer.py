"""Trains PnP-Net to tell inliers from outliers on synthetic correspondences.

Every stage's judgement is trained by cross-entropy, so that the probabilities mean what they say: the search draws its
samples by them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pnp_ros.settings import bounded, check
from pnp_ros.solvers.pnp_net import LikelihoodNetwork, canonicalise
from pnp_ros.training.pnp_net_problems import SyntheticProblems, synthetic_problems
from pnp_ros.types import Correspondences, Pose

_POINT_COUNTS = (16, 32, 32, 64, 64, 64, 64, 128, 200)
_STAGE_SHARE = 0.6  # of a stage's loss, for the next one's


@dataclass(frozen=True)
class PnPNetTrainingConfig:
    """How to train.

    Args:
        minutes: wall time, over all calls that resume one training.
        max_steps: the end, if it comes earlier; None is no limit.
        points_per_step: correspondences in a batch, over all its problems.
        learning_rate: peak of a one-cycle schedule over the whole training.
        seed: of the problems and the initial weights.
        device: torch device.

    Raises:
        ValueError: if a number is not positive.
    """

    minutes: float = bounded(20.0, 0.001, 100_000.0)
    max_steps: int | None = None
    points_per_step: int = bounded(4096, 1, 1_000_000)
    learning_rate: float = bounded(3e-3, 1e-8, 1.0)
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class TrainingProgress:
    """What happened since the last report: elapsed seconds, steps, and means over the reported steps.

    Args:
        elapsed: seconds.
        step: number of steps.
        loss: mean.
        inlier_accuracy: share of points judged rightly.
        drawn_right: share of inliers among points that are drawn by the likelihoods; chance is the share of inliers.
    """

    elapsed: float
    step: int
    loss: float
    inlier_accuracy: float
    drawn_right: float


def training_loss(network: LikelihoodNetwork, problems: SyntheticProblems) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, the share of points judged rightly, and of inliers among points drawn by their likelihoods."""
    with torch.no_grad():
        problem = canonicalise(problems.correspondences, problems.camera)
    truth = problems.inlier.to(problem.image)
    judgements = network(problem)
    loss = torch.zeros((), device=truth.device)
    for stage, logits in enumerate(judgements):
        entropy = nn.functional.binary_cross_entropy_with_logits(logits, truth)
        loss = loss + _STAGE_SHARE ** (len(judgements) - 1 - stage) * entropy
    likelihood = judgements[-1].detach().sigmoid()
    accuracy = ((likelihood > 0.5) == problems.inlier).float().mean()
    drawn = (likelihood * truth).sum(-1) / likelihood.sum(-1)
    return loss, accuracy, drawn.mean()


def train(
    network: LikelihoodNetwork,
    config: PnPNetTrainingConfig,
    *,
    checkpoint: Path | None = None,
    report_every: float = 10.0,
) -> Iterator[TrainingProgress]:
    """Trains in place and yields the progress about every ``report_every`` seconds.

    Args:
        network: to be trained.
        config: how.
        checkpoint: written at every report; if it is there at the start, training goes on from it.
        report_every: seconds.
    """
    generator = torch.Generator().manual_seed(config.seed)
    network.to(config.device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    step, before, reported = 0, 0.0, 0.0
    if checkpoint is not None and checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        step, before, reported = state["step"], state["elapsed"], state["elapsed"]
    start = time.monotonic() - before
    seen: list[Tensor] = []
    while True:
        elapsed = time.monotonic() - start
        share = max(elapsed / (60.0 * config.minutes), step / config.max_steps if config.max_steps else 0.0)
        if share >= 1.0:
            break
        warm_up = min(1.0, share / 0.03)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * warm_up * 0.5 * (1.0 + math.cos(math.pi * share)) + 1e-6
        points = _POINT_COUNTS[int(torch.randint(len(_POINT_COUNTS), (), generator=generator))]
        batch = max(1, config.points_per_step // points)
        problems = _to_device(synthetic_problems(batch, points, generator), config.device)
        loss, accuracy, drawn = training_loss(network, problems)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        step += 1
        seen.append(torch.stack([loss.detach(), accuracy, drawn]))
        if elapsed - reported > report_every:
            if checkpoint is not None:
                _write_checkpoint(checkpoint, network, optimizer, generator, step, elapsed)
            yield TrainingProgress(elapsed, step, *torch.stack(seen).mean(0).tolist())
            seen, reported = [], elapsed
    network.eval()


def _write_checkpoint(
    path: Path,
    network: LikelihoodNetwork,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    step: int,
    elapsed: float,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "step": step,
        "elapsed": elapsed,
    }
    new = path.with_suffix(".new")
    torch.save(state, new)
    new.replace(path)


def _to_device(problems: SyntheticProblems, device: str) -> SyntheticProblems:
    c = problems.correspondences
    return SyntheticProblems(
        Correspondences(c.image_points.to(device), c.object_points.to(device), c.weights.to(device)),
        problems.camera.to(device),
        Pose(problems.pose.rotation.to(device), problems.pose.translation.to(device)),
        problems.inlier.to(device),
    )


def save(network: LikelihoodNetwork, path: Path) -> None:
    """Writes the weights in single precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().contiguous().cpu() for name, value in network.state_dict().items()}, path)
