"""Properties that every solution has, whatever the problem."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.geometry.covariance import is_valid, nees
from pnp_ros.solvers.levenberg_marquardt import LevenbergMarquardt
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy, Gaussian, GemanMcClure, Huber
from pnp_ros.types import Correspondences, Pose, PoseEstimate
from synthetic.cube import random_problems

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 10_000)
losses = st.sampled_from([Gaussian(), Huber(), Cauchy(), GemanMcClure()])
inits = st.sampled_from(["truth", "away", None])


def _init(kind: str | None, truth: Pose) -> Pose | None:
    if kind is None:
        return None
    if kind == "truth":
        return truth
    turn = so3.exp(torch.tensor([0.2, -0.2, 0.2]).to(truth.rotation))
    return Pose(turn @ truth.rotation, truth.translation * 1.1)


def _distance(a: PoseEstimate, pose: Pose) -> torch.Tensor:
    """Between two poses, in standard deviations."""
    delta = se3.local(Pose(a.pose.rotation.double(), a.pose.translation.double()), pose)
    return nees(delta, a.covariance.double()).sqrt()


@quick
@given(seed=seeds, loss=losses, init=inits, shift=st.floats(-3.0, 3.0))
def test_a_change_of_the_object_frame_changes_the_pose_likewise(
    seed: int, loss: Gaussian, init: str | None, shift: float
) -> None:
    c, camera, truth = random_problems(1, 24, seed=seed)
    # X' = S X + d, so R' = R S^T and t' = t - R' d
    turn = so3.random_rotation(generator=torch.Generator().manual_seed(seed))
    offset = torch.tensor([shift, -0.5 * shift, 1.0])
    moved = Correspondences(c.image_points, c.object_points @ turn.mT + offset, c.weights)
    to_moved = se3.inverse(Pose(turn, offset))
    a = solve_pnp(c, camera, loss=loss, init=_init(init, truth))
    start = _init(init, truth)
    b = solve_pnp(moved, camera, loss=loss, init=None if start is None else se3.compose(start, to_moved))
    assert torch.equal(a.status, b.status)
    back = se3.compose(
        Pose(b.pose.rotation.double(), b.pose.translation.double()), Pose(turn.double(), offset.double())
    )
    assert _distance(a, back).max() < 0.05
    # The covariance is about the object's origin, which moved by R' d
    assert (
        a.covariance[0, 3:, 3:] / b.covariance[0, 3:, 3:].diagonal().mean()
        - b.covariance[0, 3:, 3:] / b.covariance[0, 3:, 3:].diagonal().mean()
    ).abs().max() < 0.02


@quick
@given(seed=seeds, loss=losses, init=inits)
def test_the_order_of_the_points_does_not_matter(seed: int, loss: Gaussian, init: str | None) -> None:
    c, camera, truth = random_problems(1, 24, outliers=0.0 if isinstance(loss, Gaussian) else 0.1, seed=seed)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(seed))
    shuffled = Correspondences(c.image_points[:, order], c.object_points[:, order], c.weights[:, order])
    a = solve_pnp(c, camera, loss=loss, init=_init(init, truth))
    b = solve_pnp(shuffled, camera, loss=loss, init=_init(init, truth))
    assert torch.equal(a.status, b.status)
    assert _distance(a, Pose(b.pose.rotation.double(), b.pose.translation.double())).max() < 0.05
    torch.testing.assert_close(a.inlier_weights[:, order], b.inlier_weights, atol=0.02, rtol=0)


@quick
@given(seed=seeds, loss=losses, init=inits, n=st.integers(4, 40))
def test_a_batch_is_a_loop(seed: int, loss: Gaussian, init: str | None, n: int) -> None:
    c, camera, truth = random_problems(5, n, seed=seed)
    start = _init(init, truth)
    together = solve_pnp(c, camera, loss=loss, init=start)
    for i in range(5):
        one = Correspondences(c.image_points[i], c.object_points[i], c.weights[i])
        alone = solve_pnp(
            one, camera, loss=loss, init=None if start is None else Pose(start.rotation[i], start.translation[i])
        )
        assert torch.equal(alone.pose.rotation, together.pose.rotation[i])
        assert torch.equal(alone.covariance, together.covariance[i])
        assert torch.equal(alone.status, together.status[i])


@quick
@given(seed=seeds, loss=losses)
def test_single_and_double_precision_agree(seed: int, loss: Gaussian) -> None:
    c, camera, truth = random_problems(4, 20, seed=seed, dtype=torch.float64)
    # at the kink of Huber's loss the last digits of double precision can take long
    double = solve_pnp(c, camera, loss=loss, init=_init("away", truth), solver=LevenbergMarquardt(max_iterations=200))
    c, camera, truth = random_problems(4, 20, seed=seed, dtype=torch.float32)
    single = solve_pnp(c, camera, loss=loss, init=_init("away", truth))
    pose = Pose(single.pose.rotation.double(), single.pose.translation.double())
    assert torch.equal(single.status, double.status)
    assert _distance(double, pose).max() < 0.05


_PROBLEM_NUMBERS = 7 * 6 + 12  # six points, and an initial pose


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    numbers=hnp.arrays(
        np.float32, _PROBLEM_NUMBERS, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
    ),
    loss=losses,
    with_init=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    n=st.integers(0, 6),
)
def test_no_finite_input_gives_nan(
    numbers: np.ndarray, loss: Gaussian, with_init: bool, dtype: torch.dtype, n: int
) -> None:
    values = torch.from_numpy(numbers.copy()).to(dtype)
    points = values[: 7 * n].reshape(n, 7)
    c = Correspondences(points[:, :2], points[:, 2:5], points[:, 5:7].abs())
    pose = values[42:]
    init = Pose(pose[:9].reshape(3, 3), pose[9:]) if with_init else None
    camera = Camera.pinhole(800.0, 800.0, 320.0, 240.0, 640, 480).to(dtype=dtype)
    estimate = solve_pnp(c, camera, loss=loss, init=init)
    for tensor in (
        estimate.pose.rotation,
        estimate.pose.translation,
        estimate.covariance,
        estimate.inlier_weights,
        estimate.cost,
    ):
        assert tensor.isfinite().all()
    if estimate.usable:
        rotation = estimate.pose.rotation
        torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=dtype), atol=1e-3, rtol=0)
        assert is_valid(estimate.covariance)


@quick
@given(
    seed=seeds,
    loss=losses,
    dtype=st.sampled_from([torch.float32, torch.float64]),
    origin=st.floats(0.0, 4.0),
    distance=st.floats(-1.0, 5.0),
    stretch=st.floats(-3.0, 3.0),
)
def test_every_usable_pose_has_a_covariance(
    seed: int, loss: Gaussian, dtype: torch.dtype, origin: float, distance: float, stretch: float
) -> None:
    """However far the origin, however small the object in the image, however absurd the CameraInfo."""
    c, _, truth = random_problems(8, 10, seed=seed, dtype=torch.float64)
    away = 10.0**distance * truth.translation
    camera = Camera.pinhole(800.0, 800.0 * 10.0**stretch, 320.0, 240.0, 640, 480).to(dtype=torch.float64)
    seen = camera.project(Pose(truth.rotation, away).transform(c.object_points))
    shift = 10.0**origin * torch.tensor([0.6, -0.7, 0.4], dtype=torch.float64)
    both = Correspondences.from_sigma(seen.to(dtype), (c.object_points + shift).to(dtype))
    estimate = solve_pnp(both, camera.to(dtype=dtype), loss=loss)
    assert is_valid(estimate.covariance).all()


@quick
@given(seed=seeds, dtype=st.sampled_from([torch.float32, torch.float64]), n=st.integers(1, 12), known=st.integers(1, 6))
def test_so_has_a_pose_of_which_a_prior_knows_something_exactly(
    seed: int, dtype: torch.dtype, n: int, known: int
) -> None:
    c, camera, truth = random_problems(20, n, seed=seed, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(20, 6, 6, generator=generator, dtype=torch.float64)).Q
    variances = torch.tensor([1e-6] * (6 - known) + [0.0] * known, dtype=torch.float64)
    prior = PoseEstimate.of(truth, (axes * variances @ axes.mT).to(dtype))
    estimate = solve_pnp(c, camera, prior=prior)
    assert estimate.usable.float().mean() > 0.9
    assert is_valid(estimate.covariance[estimate.usable]).all()


@pytest.mark.parametrize("n", [6, 8, 64, 512])
def test_covariance_is_consistent_for_gaussian_noise(n: int) -> None:
    count = 4_000
    c, camera, truth = random_problems(count, n, seed=n)
    estimate = solve_pnp(c, camera, loss=Gaussian())
    assert estimate.usable.all()
    values = _distance(estimate, Pose(truth.rotation.double(), truth.translation.double())).square()
    # The mean of chi-square variables of 6 degrees of freedom, in its 95 % band
    assert abs(values.mean() / 6.0 - 1.0) < 1.96 * (12.0 / count) ** 0.5 / 6.0


@pytest.mark.parametrize(("n", "outliers"), [(8, 0.3), (64, 0.3), (64, 0.6), (64, 0.8), (512, 0.6)])
def test_covariance_covers_with_outliers(n: int, outliers: float) -> None:
    c, camera, truth = random_problems(1_000, n, outliers=outliers, seed=n)
    estimate = solve_pnp(c, camera)
    values = _distance(estimate, Pose(truth.rotation.double(), truth.translation.double())).square()
    covered = (values[estimate.usable] < 10.645).double().mean()
    assert 0.85 < covered < 0.95
