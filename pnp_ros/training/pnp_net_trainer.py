"""Trains PnP-Net on synthetic correspondences, end to end through the pose solves.

The loss sees three things at every stage: the likelihoods (cross-entropy), the stage's pose, and, at the last stage,
the pose after a few damped Gauss-Newton steps weighted by the likelihoods: a likelihood that would lead the solver
astray costs more than one that would not.
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

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import so3
from pnp_ros.solvers.pnp_net import CanonicalProblem, PnPNet, canonicalise, gauss_newton
from pnp_ros.types import Correspondences, Pose

_POINT_COUNTS = (8, 12, 16, 32, 64, 64, 64, 128, 256)
_MIN_INLIERS = 5


@dataclass(frozen=True)
class PnPNetTrainingConfig:
    """How to train.

    Args:
        minutes: wall time.
        max_steps: the end, if it comes earlier; None is no limit.
        points_per_step: correspondences in a batch, over all its problems.
        learning_rate: peak of a one-cycle schedule over the whole training.
        seed: of the problems and the initial weights.
        device: torch device.

    Raises:
        ValueError: if a number is not positive.
    """

    minutes: float = 20.0
    max_steps: int | None = None
    points_per_step: int = 4096
    learning_rate: float = 2e-3
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("minutes", "points_per_step", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")


@dataclass(frozen=True)
class SyntheticProblems:
    """A batch of problems: correspondences, camera, true pose and ``inlier`` (B, N) bool."""

    correspondences: Correspondences
    camera: Camera
    pose: Pose
    inlier: Tensor


@dataclass(frozen=True)
class TrainingProgress:
    """What happened since the last report: elapsed seconds, steps, and means over the reported steps."""

    elapsed: float
    step: int
    loss: float
    inlier_accuracy: float
    within_30_deg: float


def _uniform(low: float, high: float, *shape: int, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator)


def _object_points(batch: int, points: int, generator: torch.Generator) -> Tensor:
    """Boxes, balls and shells (B, N, 3), some of them flat or long, with unit rms radius about the origin."""
    box = _uniform(-1.0, 1.0, batch, points, 3, generator=generator)
    shell = nn.functional.normalize(torch.randn(batch, points, 3, generator=generator), dim=-1)
    ball = shell * torch.rand(batch, points, 1, generator=generator).pow(1 / 3)
    kind = torch.randint(0, 3, (batch, 1, 1), generator=generator)
    shape = torch.where(kind == 0, box, torch.where(kind == 1, ball, shell))
    stretch = torch.rand(batch, 1, 3, generator=generator) ** 0.5
    stretch = torch.where(torch.rand(batch, 1, 1, generator=generator) < 0.5, torch.ones_like(stretch), stretch)
    flat = torch.rand(batch, generator=generator) < 0.1
    stretch[flat, :, 2] = 0.0
    shape = shape * (stretch + 1e-3)
    shape = shape - shape.mean(-2, keepdim=True)
    return shape / shape.square().sum(-1).mean(-1).sqrt()[:, None, None]


def synthetic_problems(
    batch: int, points: int, generator: torch.Generator, *, outliers: float | None = None
) -> SyntheticProblems:
    """Random objects before random pinhole cameras, with noise and outliers.

    Args:
        batch: B problems.
        points: N correspondences in each.
        generator: the source of randomness.
        outliers: share of outliers; None draws it from 0 to 80 % for each problem.
    """
    size = torch.tensor([640.0, 480.0])
    focal = 640.0 * torch.exp(_uniform(math.log(0.5), math.log(3.0), batch, generator=generator))
    radius = torch.exp(_uniform(math.log(20.0), math.log(200.0), batch, generator=generator))
    depth = (focal / radius).clamp_min(2.5)
    intrinsics = torch.stack([focal, focal, *(size[:, None] / 2).expand(2, batch)], dim=-1)
    camera = Camera(CameraModel.PINHOLE, intrinsics, torch.zeros(batch, 0), 640, 480)

    object_points = _object_points(batch, points, generator)
    centre = _uniform(0.1, 0.9, batch, 2, generator=generator) * size
    offset = (centre - size / 2) / focal[:, None] * depth[:, None]
    pose = Pose(so3.random_rotation(batch, generator=generator), torch.cat([offset, depth[:, None]], dim=-1))
    exact = camera.project(pose.transform(object_points))

    sigma = torch.exp(_uniform(math.log(0.3), math.log(4.0), batch, 1, 1, generator=generator))
    sigma = sigma * torch.exp(0.3 * torch.randn(batch, points, 1, generator=generator))
    noisy = exact + sigma * torch.randn(batch, points, 2, generator=generator)

    rate = _uniform(0.0, 0.8, batch, 1, generator=generator) if outliers is None else torch.full((batch, 1), outliers)
    count = (rate * points).round().clamp(max=max(points - _MIN_INLIERS, 0))
    inlier = torch.arange(points) >= count
    # Outliers: anywhere in the image, anywhere about the object, or at another point of the object.
    anywhere = torch.rand(batch, points, 2, generator=generator) * size
    nearby = centre[:, None] + radius[:, None, None] * 1.5 * torch.randn(batch, points, 2, generator=generator)
    kind = torch.randint(0, 4, (batch, 1, 1), generator=generator)
    wrong = torch.where(kind < 2, anywhere, torch.where(kind == 2, nearby, noisy.roll(1, dims=1)))
    image_points = torch.where(inlier[..., None], noisy, wrong)

    weights = (1.0 / sigma).expand(-1, -1, 2)
    return SyntheticProblems(Correspondences(image_points, object_points, weights), camera, pose, inlier)


def _pose_loss(pose: Pose, target: Pose, problem: CanonicalProblem) -> Tensor:
    """(B,) mean distance between the points at two poses, in depths, on a logarithmic scale: near errors count."""
    distance = (pose.transform(problem.object) - target.transform(problem.object)).square().sum(-1) + 1e-10
    return torch.log1p(distance.sqrt().mean(-1) / target.translation[..., 2] / 0.02)


def training_loss(network: PnPNet, problems: SyntheticProblems) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, the share of points judged rightly and the share of coarse poses within 30 deg."""
    problem, frames = canonicalise(problems.correspondences, problems.camera)
    target = frames.from_camera(problems.pose)
    truth = problems.inlier.to(problem.image)
    stages = network(problem)
    loss = torch.zeros((), device=truth.device)
    for index, stage in enumerate(stages):
        likelihood = nn.functional.binary_cross_entropy_with_logits(stage.logits, truth)
        share = 0.7 ** (len(stages) - 1 - index)
        loss = loss + share * (likelihood + 0.1 * _pose_loss(stage.pose, target, problem).mean())
    last = stages[-1]
    refined = gauss_newton(problem, last.pose, last.logits.sigmoid())
    loss = loss + 0.2 * _pose_loss(refined, target, problem).mean()
    accuracy = ((last.logits > 0) == problems.inlier).float().mean()
    near = so3.angle_between(last.pose.rotation.detach(), target.rotation) < math.radians(30.0)
    return loss, accuracy, near.float().mean()


def train(network: PnPNet, config: PnPNetTrainingConfig, *, report_every: float = 10.0) -> Iterator[TrainingProgress]:
    """Trains in place and yields the progress about every ``report_every`` seconds."""
    generator = torch.Generator().manual_seed(config.seed)
    network.to(config.device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    start, step, reported = time.monotonic(), 0, 0.0
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
        batch = max(1, min(128, config.points_per_step // points))
        problems = _to_device(synthetic_problems(batch, points, generator), config.device)
        loss, accuracy, near = training_loss(network, problems)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        step += 1
        seen.append(torch.stack([loss.detach(), accuracy, near]))
        if elapsed - reported > report_every:
            mean = torch.stack(seen).mean(0).tolist()
            yield TrainingProgress(elapsed, step, *mean)
            seen, reported = [], elapsed
    network.eval()


def _to_device(problems: SyntheticProblems, device: str) -> SyntheticProblems:
    c = problems.correspondences
    return SyntheticProblems(
        Correspondences(c.image_points.to(device), c.object_points.to(device), c.weights.to(device)),
        problems.camera.to(device),
        Pose(problems.pose.rotation.to(device), problems.pose.translation.to(device)),
        problems.inlier.to(device),
    )


def save(network: PnPNet, path: Path) -> None:
    """Writes the weights, in half precision: the file is half as large and the poses are the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().half().contiguous().cpu() for name, value in network.state_dict().items()}, path)
