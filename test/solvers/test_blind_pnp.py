"""Pose and matches from unmatched points: success, honest failure, priors."""

from __future__ import annotations

import math

import pytest
import torch

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import se3, so3
from pnp_ros.solvers.blind_pnp import BlindPnPEstimate, PosePrior, log_tail, solve_blind_pnp
from synthetic.blind import BlindProblem, random_blind_problem


def is_right(result: BlindPnPEstimate, problem: BlindProblem) -> bool:
    pose = result.estimate.pose
    turned = so3.angle_between(pose.rotation, problem.pose.rotation.to(pose.rotation))
    moved = (pose.translation - problem.pose.translation.to(pose.translation)).norm()
    near = bool(turned < math.radians(5.0)) and bool(moved < 0.05 * problem.pose.translation.norm())
    return bool(result.estimate.usable) and near


@pytest.mark.parametrize(("n", "share"), [(10, 1.0), (30, 0.5), (40, 0.6)])
def test_pose_and_matches_are_found(n: int, share: float) -> None:
    for seed in range(3):
        problem = random_blind_problem(n, share, seed=seed)
        points = (problem.image_points, problem.object_points, problem.camera)
        result = solve_blind_pnp(*points, matched_share=0.5, confidence=0.9999)
        assert is_right(result, problem)
        right = problem.partner[result.matches[:, 0]] == result.matches[:, 1]
        assert right.float().mean() > 0.85
        assert right.sum() >= 0.85 * (problem.partner >= 0).sum()
        assert result.estimate.inlier_weights.shape == right.shape


def test_float64_and_a_fisheye() -> None:
    distortion = torch.tensor([0.02, -0.01, 0.002, 0.0])
    camera = Camera(CameraModel.KANNALA_BRANDT, torch.tensor([400.0, 400.0, 320.0, 240.0]), distortion, 640, 480)
    problem = random_blind_problem(20, 0.7, sigma=0.5, camera=camera, seed=1)
    pixels, points = problem.image_points.double(), problem.object_points.double()
    result = solve_blind_pnp(pixels, points, camera.to(dtype=torch.float64), sigma=0.5)
    assert result.estimate.pose.rotation.dtype == torch.float64
    assert is_right(result, problem)


def test_clutter_alone_is_no_pose() -> None:
    for seed in range(3):
        problem = random_blind_problem(25, 0.0, seed=seed)
        result = solve_blind_pnp(problem.image_points, problem.object_points, problem.camera, max_guesses=300_000)
        assert not result.estimate.usable
        assert result.matches.shape == (0, 2)
        assert result.guesses >= 300_000
        assert result.estimate.pose.rotation.isfinite().all()


def test_a_prior_saves_guesses_and_withstands_more_clutter() -> None:
    sigmas = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    for seed in range(3):
        problem = random_blind_problem(100, 0.3, seed=seed)
        offset = sigmas * torch.randn(6, generator=torch.Generator().manual_seed(seed))
        prior = PosePrior(se3.retract(problem.pose, offset), torch.diag(sigmas.square()))
        points = (problem.image_points, problem.object_points, problem.camera)
        result = solve_blind_pnp(*points, prior=prior, matched_share=0.3)
        assert is_right(result, problem)
        assert result.guesses < 1_000_000  # without the prior: about 40 million


def test_labels_save_guesses() -> None:
    problem = random_blind_problem(60, 0.5, seed=2)
    kind = torch.arange(60) % 6
    shown = torch.where(problem.partner >= 0, kind[problem.partner], torch.arange(60) % 6)
    possible = shown[:, None] == kind
    points = (problem.image_points, problem.object_points, problem.camera)
    result = solve_blind_pnp(*points, possible=possible)
    assert is_right(result, problem)
    assert possible[result.matches[:, 0], result.matches[:, 1]].all()
    assert result.guesses < 200_000


def test_points_that_are_not_finite_are_left_out() -> None:
    problem = random_blind_problem(20, 0.9, seed=3)
    problem.image_points[4] = torch.nan
    problem.object_points[7] = torch.inf
    result = solve_blind_pnp(problem.image_points, problem.object_points, problem.camera)
    assert is_right(result, problem)
    assert 4 not in result.matches[:, 0]
    assert 7 not in result.matches[:, 1]


def test_too_few_points_are_no_pose() -> None:
    problem = random_blind_problem(20, 0.9)
    result = solve_blind_pnp(problem.image_points[:3], problem.object_points, problem.camera)
    assert not result.estimate.usable
    nothing = solve_blind_pnp(torch.zeros(0, 2), torch.zeros(0, 3), problem.camera)
    assert not nothing.estimate.usable


def test_the_same_seed_gives_the_same_pose() -> None:
    problem = random_blind_problem(20, 0.6)
    points = (problem.image_points, problem.object_points, problem.camera)
    first, second = (solve_blind_pnp(*points, seed=5) for _ in range(2))
    assert torch.equal(first.estimate.pose.rotation, second.estimate.pose.rotation)
    assert torch.equal(first.matches, second.matches)


def test_wrong_arguments_are_named() -> None:
    problem = random_blind_problem(10, 1.0)
    points = (problem.image_points, problem.object_points, problem.camera)
    with pytest.raises(ValueError, match="image_points"):
        solve_blind_pnp(problem.image_points[None], problem.object_points, problem.camera)
    with pytest.raises(ValueError, match="possible"):
        solve_blind_pnp(*points, possible=torch.ones(10, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match="sigma"):
        solve_blind_pnp(*points, sigma=0.0)
    with pytest.raises(ValueError, match="matched_share"):
        solve_blind_pnp(*points, matched_share=1.5)


def test_log_tail_is_the_binomial_tail() -> None:
    n, p, matches = 13, 0.1, 8
    tail = sum(math.comb(n - 3, k) * p**k * (1 - p) ** (n - 3 - k) for k in range(matches - 3, n - 2))
    assert log_tail(n, p, matches) == pytest.approx(math.log(tail))
    assert log_tail(n, p, 3) == 0.0
