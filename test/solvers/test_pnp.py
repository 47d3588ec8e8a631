from __future__ import annotations

import pytest
import torch

from pnp_ros.geometry import so3
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Gaussian
from pnp_ros.types import Pose
from synthetic.cube import random_problems


def _rotation_error_deg(pose: Pose, truth: Pose) -> torch.Tensor:
    return so3.angle_between(pose.rotation, truth.rotation).rad2deg()


@pytest.mark.parametrize(("n", "outliers", "limit"), [(8, 0.0, 2.0), (64, 0.0, 0.5), (64, 0.3, 0.6), (64, 0.6, 0.8)])
def test_default_solves_without_an_initial_pose(n: int, outliers: float, limit: float) -> None:
    correspondences, camera, truth = random_problems(20, n, outliers=outliers)
    estimate = solve_pnp(correspondences, camera)
    assert estimate.usable.all()
    assert _rotation_error_deg(estimate.pose, truth).median() < limit


@pytest.mark.parametrize("solver", ["sqpnp", "epnp", "iterative", "ransac", "magsac", "poselib"])
def test_classical_solvers_give_pose_and_covariance(solver: str) -> None:
    correspondences, camera, truth = random_problems(5, 16)
    estimate = solve_pnp(correspondences, camera, solver=solver)
    assert estimate.usable.all()
    assert (_rotation_error_deg(estimate.pose, truth) < 10.0).all()
    assert (torch.linalg.eigvalsh(estimate.covariance.double()) > 0).all()


@pytest.mark.parametrize("solver", ["magsac", "poselib"])
def test_consensus_of_others_withstands_outliers(solver: str) -> None:
    correspondences, camera, truth = random_problems(20, 64, outliers=0.6)
    estimate = solve_pnp(correspondences, camera, solver=solver)
    assert (_rotation_error_deg(estimate.pose, truth) < 5.0).double().mean() >= 0.95
    assert _rotation_error_deg(estimate.pose, truth).median() < 1.0


def test_initial_pose_is_refined_to_the_same_solution() -> None:
    correspondences, camera, truth = random_problems(10, 32, dtype=torch.float64)
    turn = so3.exp(torch.tensor([0.3, -0.3, 0.3], dtype=torch.float64))
    init = Pose(turn @ truth.rotation, truth.translation * 1.2)
    a = solve_pnp(correspondences, camera, init=init, loss=Gaussian())
    b = solve_pnp(correspondences, camera, init="epnp", loss=Gaussian())
    torch.testing.assert_close(a.pose.rotation, b.pose.rotation, atol=1e-5, rtol=0)


def test_unknown_names_are_errors_that_list_the_known_ones() -> None:
    correspondences, camera, _ = random_problems(1, 8)
    with pytest.raises(ValueError, match=r"solver.*sqpnp"):
        solve_pnp(correspondences, camera, solver="magic")
    with pytest.raises(ValueError, match=r"init.*sqpnp"):
        solve_pnp(correspondences, camera, init="magic")
    with pytest.raises(ValueError, match="differentiate"):
        solve_pnp(correspondences, camera, differentiate="unrolled")  # type: ignore[arg-type]
