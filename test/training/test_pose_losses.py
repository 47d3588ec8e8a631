from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.pose_error import add
from pnp_ros.geometry import so3
from pnp_ros.networks.keypoint_network import RawPrediction
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.training.batches import Batch
from pnp_ros.training.config import TrainingConfig
from pnp_ros.training.losses import gaussian_target
from pnp_ros.training.pose_losses import Loss, PoseLoss
from pnp_ros.training.steps import KeypointStep
from pnp_ros.types import Correspondences, Pose

torch.set_num_threads(1)
CAMERA = Camera.pinhole(120, 120, 63.5, 63.5, 128, 128)


def _problems(seed: int, batch: int = 12) -> tuple[Tensor, Tensor, Pose]:
    """Points (N, 3), predictions (B, N, 2) that err by 3 px, the last four points by 12; true poses."""
    generator = torch.Generator().manual_seed(seed)
    points = 0.5 * torch.randn(12, 3, generator=generator)
    rotation = so3.exp(torch.randn(batch, 3, generator=generator))
    truth = Pose(rotation, torch.tensor([0.0, 0.0, 4.0]) + 0.1 * torch.randn(batch, 3, generator=generator))
    error = 3.0 * torch.randn(batch, 12, 2, generator=generator)
    error[:, 8:] *= 4.0
    return points, CAMERA.project(truth.transform(points)) + error, truth


@pytest.mark.parametrize("kind", [loss for loss in get_args(Loss) if loss != "heatmap"])
def test_weights_and_points_learn_what_makes_a_better_pose(kind: Loss) -> None:
    learnt = [_learnt(kind, seed) for seed in range(2)]
    assert max(ratio for ratio, _ in learnt) < 0.85, learnt
    assert min(gap for _, gap in learnt) > 0.1, learnt  # worse points count less


def _learnt(kind: Loss, seed: int) -> tuple[float, float]:
    """By what the error of the poses is multiplied, and how much less worse points count (of the logarithm)."""
    points, seen, truth = _problems(seed)
    log_sigma = torch.full((12, 1), math.log(6.0), requires_grad=True)  # of each point, shared by all crops
    moved = torch.zeros_like(seen, requires_grad=True)
    loss = PoseLoss(kind, points, seed)
    optimizer = torch.optim.Adam([{"params": [log_sigma], "lr": 0.1}, {"params": [moved], "lr": 0.1}])

    def correspondences() -> Correspondences:
        weights = (-log_sigma).exp().expand(len(seen), 12, 2)
        return Correspondences(seen + moved, points.expand(len(seen), 12, 3), weights)

    def error() -> float:
        with torch.no_grad():
            found = solve_pnp(correspondences(), CAMERA, init=truth, loss=Cauchy(2.0))
        return float(add(found.pose, truth, points).mean())

    before = error()
    for _ in range(15):
        optimizer.zero_grad()
        term, figures = loss(correspondences(), CAMERA, truth)
        term.backward()
        optimizer.step()
    assert set(figures) == ({"epropnp", "lincov"} if kind == "both" else {kind})
    return error() / before, float((log_sigma[8:].mean() - log_sigma[:8].mean()).detach())


def test_collapsed_weights_do_not_make_a_huge_loss() -> None:
    points, seen, truth = _problems(0)
    for sigma in (5.0, 500.0):
        log_sigma = torch.tensor(math.log(sigma), requires_grad=True)
        weights = (-log_sigma).exp().expand(seen.shape)
        found = Correspondences(seen, points.expand(12, -1, -1), weights)
        loss, _ = PoseLoss("epropnp", points)(found, CAMERA, truth)
        assert torch.autograd.grad(loss, log_sigma)[0].abs().item() < 2.0, sigma  # 0.1 to 0.6; 12 without a floor


def test_points_that_claim_little_are_taught_together() -> None:
    points, seen, truth = _problems(0)

    def slope(sigma: float, together: bool) -> float:
        """Of the loss, by the points in the image."""
        moved = seen.clone().requires_grad_(True)
        found = Correspondences(moved, points.expand(12, -1, -1), torch.full_like(seen, 1.0 / sigma))
        loss, _ = PoseLoss("epropnp", points, together=together)(found, CAMERA, truth)
        return float(torch.autograd.grad(loss, moved)[0].norm())

    # where nobody would believe a pose, its derivative still says where the points should be
    assert slope(2000.0, together=False) < 0.05 * slope(5.0, together=False)
    assert slope(2000.0, together=True) > 0.3 * slope(5.0, together=True)


def test_nothing_to_learn_from_costs_nothing() -> None:
    points, seen, truth = _problems(0)
    nobody = Correspondences(seen[:0], points.expand(0, -1, -1), seen[:0])
    none = Pose(truth.rotation[:0], truth.translation[:0])
    assert float(PoseLoss("both", points)(nobody, CAMERA, none)[0]) == 0.0
    with pytest.raises(ValueError, match="loss: expected one of heatmap, epropnp"):
        PoseLoss("other", points)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="loss: expected"):
        TrainingConfig(loss="other")  # type: ignore[arg-type]


class _Maps(nn.Module):
    """What a network would put out, whatever the images."""

    def __init__(self, keypoints: Tensor) -> None:
        super().__init__()
        self.heat = nn.Parameter(6.0 * gaussian_target((keypoints + 0.5) / 4 - 0.5, 32, 32, 1.5))
        self.factor = nn.Parameter(torch.zeros(*keypoints.shape, 32, 32))

    def forward(self, images: Tensor) -> RawPrediction:
        return RawPrediction(self.heat, self.factor, torch.zeros(len(images)))


def test_the_pose_joins_in_after_its_share_and_only_where_the_object_is() -> None:
    points, seen, truth = _problems(1, batch=3)
    batch: Batch = {
        "images": torch.zeros(3, 3, 128, 128, dtype=torch.uint8),
        "keypoints": CAMERA.project(truth.transform(points)),
        "present": torch.tensor([True, False, True]),
        "intrinsics": CAMERA.intrinsics.expand(3, 4),
        "pose": truth.matrix()[:, :3],
    }
    network = _Maps(seen)
    step = KeypointStep(PoseLoss("both", points), points, begin=0.5)
    early, before = step(network, batch, 0.49)
    with torch.autocast("cpu", torch.bfloat16):  # as in training: the solve must not be in eight bits
        late, after = step(network, batch, 0.5)
    assert set(after) - set(before) == {"epropnp", "lincov"}
    torch.testing.assert_close(late - early, after["epropnp"] + after["lincov"], rtol=1e-3, atol=1e-4)
    gradient = torch.autograd.grad(late - early, network.heat)[0].flatten(1).abs().amax(-1)
    assert gradient[0] > 0
    assert gradient[1] == 0
    assert gradient[2] > 0
