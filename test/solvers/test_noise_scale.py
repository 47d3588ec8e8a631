"""The weights' common scale from the residuals: consistent covariances whatever the weights' unit."""

from __future__ import annotations

import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3
from pnp_ros.geometry.covariance import nees
from pnp_ros.solvers.noise_scale import noise_scale
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy, Gaussian, GemanMcClure, Huber, RobustLoss
from pnp_ros.types import Correspondences, Pose, SolveStatus
from synthetic.cube import random_problems
from synthetic.problems import Case, draw


@pytest.mark.parametrize("wrong", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(
    ("n", "outliers", "loss"),
    [(16, 0.0, Gaussian()), (64, 0.0, GemanMcClure()), (64, 0.6, GemanMcClure()), (200, 0.6, GemanMcClure())],
)
def test_covariance_is_consistent_with_wrong_weights(n: int, outliers: float, loss: RobustLoss, wrong: float) -> None:
    c, camera, truth = random_problems(1000, n, outliers=outliers, seed=5)
    estimate = solve_pnp(c.scaled(torch.full((1000, n), wrong)), camera, loss=loss, noise="estimated")
    assert estimate.usable.double().mean() > 0.98
    squares = nees(se3.local(estimate.pose, truth).double(), estimate.covariance.double())[estimate.usable]
    assert 0.865 < (squares < 10.645).double().mean() < 0.935
    assert 5.2 < squares.clamp(max=60.0).mean() < 6.8


@pytest.mark.parametrize(("n", "loss"), [(8, Gaussian()), (8, GemanMcClure()), (20, GemanMcClure())])
def test_few_points_that_tell_their_noise_cover_what_they_say(n: int, loss: RobustLoss) -> None:
    problems = draw(Case(n=n, weights="double"), 2000, 3)
    estimate = solve_pnp(problems.correspondences(), problems.lens.camera(), loss=loss, noise="estimated")
    pose = Pose(estimate.pose.rotation.double(), estimate.pose.translation.double())
    squares = nees(se3.local(pose, problems.truth()), estimate.covariance.double())[estimate.usable]
    assert 0.87 < (squares < 10.645).double().mean() < 0.93


@pytest.mark.parametrize(("n", "outliers"), [(12, 1 / 3), (20, 0.3)])
def test_few_points_with_outliers_cover_what_they_say(n: int, outliers: float) -> None:
    """All of the pose's parameters are fitted to the inliers, none to the outliers."""
    problems = draw(Case(n=n, outliers=outliers), 1000, 4)
    estimate = solve_pnp(problems.correspondences(), problems.lens.camera(), noise="estimated")
    pose = Pose(estimate.pose.rotation.double(), estimate.pose.translation.double())
    squares = nees(se3.local(pose, problems.truth()), estimate.covariance.double())[estimate.usable]
    assert 0.88 < (squares < 10.645).double().mean() < 0.93


@pytest.mark.parametrize("loss", [Gaussian(), Huber(), Cauchy(), GemanMcClure()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("lines", [False, True])
def test_the_scale_is_that_of_the_noise(loss: RobustLoss, lines: bool) -> None:
    c, camera, truth = random_problems(400, 60, sigma=2.0, seed=6)
    if lines:
        generator = torch.Generator().manual_seed(0)
        normals = torch.nn.functional.normalize(torch.randn(400, 60, 2, generator=generator), dim=-1)
        c = Correspondences.from_lines(c.image_points, c.object_points, normals, 1.0)
    else:
        c = Correspondences.from_sigma(c.image_points, c.object_points, 1.0)
    estimate = solve_pnp(c, camera, init=truth, loss=loss, noise="estimated")
    scale = noise_scale(c, camera, estimate, loss)
    assert abs(scale.square().mean().sqrt() - 2.0) < 0.05


def test_only_the_ratios_of_the_weights_count() -> None:
    c, camera, truth = random_problems(20, 30, seed=7)
    a, b = (
        solve_pnp(c.scaled(torch.full((20, 30), f)), camera, init=truth, loss=Huber(), noise="estimated")
        for f in (0.5, 2.0)
    )
    diagonals = (e.covariance.diagonal(dim1=-2, dim2=-1) for e in (a, b))
    torch.testing.assert_close(*diagonals, rtol=0.02, atol=0)
    torch.testing.assert_close(a.pose.translation, b.pose.translation, rtol=1e-3, atol=1e-3)


def test_full_weights_of_the_varied_generator() -> None:
    problems = draw(Case(n=40, weights="full"), 300, 1)
    c = problems.correspondences().to(dtype=torch.float32).scaled(torch.full((300, 40), 2.0))
    estimate = solve_pnp(c, problems.lens.camera(), noise="estimated")
    truth = problems.truth()
    pose = Pose(estimate.pose.rotation.to(truth.rotation), estimate.pose.translation.to(truth.rotation))
    squares = nees(se3.local(pose, truth), estimate.covariance.to(truth.rotation))[estimate.usable]
    assert estimate.usable.double().mean() > 0.97
    assert 0.84 < (squares < 10.645).double().mean() < 0.95


@pytest.mark.parametrize("batch", [(), (0,), (2,)])
def test_no_points_tell_no_pose(batch: tuple[int, ...]) -> None:
    nothing = Correspondences(*(torch.zeros(*batch, 0, size) for size in (2, 3, 2)))
    camera = Camera.pinhole(800, 800, 320, 240, 640, 480)
    status = solve_pnp(nothing, camera, noise="estimated").status
    assert status.shape == batch
    assert (status == int(SolveStatus.DEGENERATE)).all()


def test_an_unknown_word_is_named() -> None:
    c, camera, _ = random_problems(1, 8)
    with pytest.raises(ValueError, match='noise: expected "given" or "estimated", got \'guess\''):
        solve_pnp(c, camera, noise="guess")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_camera_follows_the_correspondences(dtype: torch.dtype) -> None:
    c, camera, _ = random_problems(3, 20, sigma=2.0, seed=1, dtype=dtype)
    camera = Camera.from_matrix(camera.matrix(), [1e-3], width=camera.width, height=camera.height, dtype=dtype)
    other = camera.to(dtype=torch.float64 if dtype == torch.float32 else torch.float32)
    expected = solve_pnp(c, camera, noise="estimated")
    found = solve_pnp(c, other, noise="estimated")
    torch.testing.assert_close(found.covariance, expected.covariance, rtol=1e-2, atol=1e-9)
