"""The linear covariance against the spread of poses that solve_pnp finds, and what a loss on it teaches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.solvers.linear_covariance import expected_distance, linear_covariance
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Gaussian
from pnp_ros.types import Correspondences, Pose

CAMERA = Camera.pinhole(200, 200, 64, 64, 128, 128)


def _scene(matrices: bool = False) -> tuple[Correspondences, Pose, Tensor]:
    """Twelve points, each off by its own amount (N, 2) in px, and weights that do not match it."""
    generator = torch.Generator().manual_seed(3)
    points = torch.rand(12, 3, generator=generator) - 0.5
    truth = Pose(so3.exp(torch.tensor([0.3, -0.5, 0.8])), torch.tensor([0.1, -0.05, 2.5]))
    residual = 0.02 + 0.2 * torch.rand(12, 2, generator=generator)
    weights = 0.5 + torch.rand(12, 2, generator=generator)
    if matrices:
        weights = torch.diag_embed(weights) + 0.2
    return Correspondences(CAMERA.project(truth.transform(points)) + residual, points, weights), truth, residual


@pytest.mark.parametrize("matrices", [False, True])
def test_it_is_the_covariance_of_poses_whose_residuals_have_these_sizes(matrices: bool) -> None:
    seen, truth, residual = _scene(matrices)
    if matrices:  # independent are the whitened residuals
        residual = seen.whiten(residual)
    signs = torch.randint(0, 2, (4000, 12, 2), generator=torch.Generator().manual_seed(5)) * 2.0 - 1.0
    offsets = signs * residual
    if matrices:
        offsets = torch.linalg.solve(seen.weights, offsets[..., None])[..., 0]
    moved = Correspondences(
        CAMERA.project(truth.transform(seen.object_points)) + offsets,
        seen.object_points.expand(4000, -1, -1),
        seen.weights.expand(4000, *seen.weights.shape),
    )
    start = Pose(truth.rotation.expand(4000, 3, 3), truth.translation.expand(4000, 3))
    found = solve_pnp(moved, CAMERA, init=start, loss=Gaussian())
    delta = se3.local(truth, found.pose)
    expected = linear_covariance(seen, CAMERA, truth)
    deviation = expected.diagonal().sqrt()
    difference = (delta.mT @ delta / 4000 - expected) / (deviation[:, None] * deviation)
    assert float(difference.abs().max()) < 0.12  # 4000 samples: 0.016 to 0.022 for one sigma
    points = torch.rand(20, 3) - 0.5
    distances = found.pose.transform(points) - truth.transform(points)
    measured = float(distances.square().sum(-1).mean().sqrt())
    assert float(expected_distance(expected, truth, points)) == pytest.approx(measured, rel=0.06)


def test_the_scale_of_the_weights_does_not_matter() -> None:
    seen, truth, _ = _scene()
    scaled = seen.scaled(torch.full((12,), 30.0))
    once, again = (linear_covariance(points, CAMERA, truth) for points in (seen, scaled))
    torch.testing.assert_close(once, again, rtol=1e-3, atol=1e-9)


def test_every_residual_shrinks_also_where_the_errors_cancel() -> None:
    """Opposite errors leave the pose where it is: a loss on the pose has nothing to say, this one has."""
    points = torch.tensor([[x, y, z] for x in (-0.3, 0.3) for y in (-0.3, 0.3) for z in (-0.2, 0.2)])
    points = torch.cat([points, points])
    truth = Pose(torch.eye(3), torch.tensor([0.0, 0.0, 3.0]))
    offset = torch.cat([torch.ones(8, 2), -torch.ones(8, 2)]).requires_grad_()
    image = CAMERA.project(truth.transform(points)) + offset
    seen = Correspondences(image, points, torch.ones(16, 2))
    loss = expected_distance(linear_covariance(seen, CAMERA, truth), truth, points)
    (gradient,) = torch.autograd.grad(loss, offset)
    assert bool((gradient * offset > 0).all())
