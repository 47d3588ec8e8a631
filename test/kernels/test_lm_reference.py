from __future__ import annotations

import pytest
import torch

from pnp_ros.geometry import so3
from pnp_ros.kernels import lm
from pnp_ros.kernels.lm_problem import LMSettings
from pnp_ros.kernels.robust import RobustKind
from pnp_ros.types import Pose, SolveStatus
from synthetic.cube import random_problems


def _away(truth: Pose, degrees: float, factor: float) -> Pose:
    turn = so3.exp(torch.tensor([1.0, 2.0, 2.0], dtype=truth.rotation.dtype) / 3.0 * torch.pi * degrees / 180.0)
    return Pose(turn @ truth.rotation, truth.translation * factor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", list(RobustKind))
def test_noise_free_problems_are_solved_exactly(dtype: torch.dtype, kind: RobustKind) -> None:
    correspondences, camera, truth = random_problems(20, 16, sigma=0.0, dtype=dtype)
    correspondences = type(correspondences).from_sigma(correspondences.image_points, correspondences.object_points, 1.0)
    init = _away(truth, 20.0, 1.1)
    settings = LMSettings(kind, 2.0, 2.0 if kind < 2 else 200.0, tolerance=2e-4 if dtype == torch.float32 else 1e-9)
    estimate = lm.solve(correspondences, camera, init, settings)
    assert (estimate.status == int(SolveStatus.CONVERGED)).all()
    tolerance = 2e-4 if dtype == torch.float32 else 1e-7  # rad
    torch.testing.assert_close(estimate.pose.rotation, truth.rotation, atol=tolerance, rtol=0)
    torch.testing.assert_close(estimate.pose.translation, truth.translation, atol=10 * tolerance, rtol=0)


def test_solution_is_a_stationary_point_of_the_cost() -> None:
    correspondences, camera, truth = random_problems(8, 12, outliers=0.2, dtype=torch.float64)
    settings = LMSettings(RobustKind.CAUCHY, 2.0, 2.0, tolerance=1e-8, max_iterations=60)
    estimate = lm.solve(correspondences, camera, truth, settings)
    delta = torch.zeros(8, 6, dtype=torch.float64, requires_grad=True)
    points = correspondences.object_points @ (so3.exp(delta[:, 3:]) @ estimate.pose.rotation).mT
    points = points + (estimate.pose.translation + delta[:, :3])[:, None]
    squared = ((camera.project(points) - correspondences.image_points) * correspondences.weights).square().sum(-1)
    (0.5 * 4.0 * torch.log1p(squared / 4.0)).sum().backward()
    assert delta.grad is not None
    std = estimate.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    assert (delta.grad * std).abs().max() < 1e-5


def test_covariance_is_that_of_the_perturbation_about_the_object_origin() -> None:
    # The inverse of J^T J by finite differences, for an object whose origin lies far from its points.
    correspondences, camera, truth = random_problems(1, 10, dtype=torch.float64)
    offset = torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64)
    moved = type(correspondences)(
        correspondences.image_points, correspondences.object_points + offset, correspondences.weights
    )
    truth = Pose(truth.rotation, truth.translation - truth.rotation @ offset)
    estimate = lm.solve(moved, camera, truth, LMSettings(tolerance=1e-9))

    def residual(delta: torch.Tensor) -> torch.Tensor:
        rotation = so3.exp(delta[3:]) @ estimate.pose.rotation[0]
        points = moved.object_points[0] @ rotation.mT + estimate.pose.translation[0] + delta[:3]
        return ((camera.project(points) - moved.image_points[0]) * moved.weights[0]).flatten()

    jacobian = torch.autograd.functional.jacobian(residual, torch.zeros(6, dtype=torch.float64))
    expected = torch.linalg.inv(jacobian.mT @ jacobian)
    torch.testing.assert_close(estimate.covariance[0], expected, rtol=1e-6, atol=1e-12)
