"""Gradients with robust losses, 2x2 weights and a prior against finite differences; none silently zero."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from benchmark.bench_gradients import differences, problem

from pnp_ros.geometry import so3
from pnp_ros.solvers.bpnp import Implicit
from pnp_ros.solvers.epropnp_losses import derivative_regularisation
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy, Gaussian, GemanMcClure, Huber, RobustLoss
from pnp_ros.types import Pose, PoseEstimate, SolveStatus


@pytest.mark.parametrize("loss", [Gaussian(), Huber()], ids=["gaussian", "huber"])
def test_implicit_gradients_with_matrices_and_a_prior(loss: RobustLoss) -> None:
    for name, share in differences(loss, matrices=True).items():
        assert share < 1e-4, name


@pytest.mark.parametrize("sigma", [1e-3, 1.0])
def test_large_weights_do_not_silence_the_gradient(sigma: float) -> None:
    c, camera, truth, _ = problem(200, 12, sigma, False, 0)
    leaf = c.image_points.clone().requires_grad_()
    estimate = solve_pnp(replace(c, image_points=leaf), camera, init=truth, loss=Huber(), gradient=Implicit())
    (gradient,) = torch.autograd.grad(estimate.pose.translation.sum(), leaf)
    zero = (gradient == 0).flatten(1).all(-1)
    assert estimate.usable.all()
    assert not zero.any()


def test_a_pose_without_a_gradient_is_not_usable() -> None:
    # Claimed to be solutions, but anywhere: of a loss without a minimum near most of them.
    c, camera, truth, _ = problem(100, 12, 1.0, False, 1)
    turn = so3.random_rotation(100, generator=torch.Generator().manual_seed(2))
    claimed = PoseEstimate.of(Pose(turn @ truth.rotation, truth.translation), torch.eye(6))
    leaf = c.image_points.clone().requires_grad_()
    estimate = Implicit().attach(replace(c, image_points=leaf), camera, claimed, GemanMcClure(1.0))
    (gradient,) = torch.autograd.grad(estimate.pose.translation.sum(), leaf)
    zero = (gradient == 0).flatten(1).all(-1)
    assert zero.any()
    assert torch.equal(zero, estimate.status == int(SolveStatus.DEGENERATE))


@pytest.mark.parametrize("loss", [Gaussian(), Huber(), Cauchy()], ids=["gaussian", "huber", "cauchy"])
@pytest.mark.parametrize("matrices", [False, True])
def test_derivative_regularisation_feels_the_robust_weights(loss: RobustLoss, matrices: bool) -> None:
    c, camera, truth, _ = problem(4, 14, 2.0, matrices, 3, torch.float64)
    solution = solve_pnp(c, camera, init=truth, loss=loss).pose

    def value(pixels: torch.Tensor) -> torch.Tensor:
        moved = replace(c, image_points=pixels)
        terms = derivative_regularisation(moved, camera, solution, truth, position_scale=0.1, loss=loss)
        return (terms[0] + 10.0 * terms[1]).sum()

    leaf = c.image_points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(leaf), leaf)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        direction = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
        step = 1e-6 * direction
        expected = (value(c.image_points + step) - value(c.image_points - step)) / 2e-6
        got = (gradient * direction).sum()
        assert abs(got - expected) < 1e-4 * gradient.norm() * direction.norm() / leaf.numel() ** 0.5
