"""A prior on the pose: what it adds to the points, and that nothing hides in a direction it knows all or nothing of."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pnp_ros.geometry import se3, so3
from pnp_ros.geometry.covariance import UNKNOWN_VARIANCE, nees
from pnp_ros.kernels import lm
from pnp_ros.kernels.lm_problem import LMSettings
from pnp_ros.kernels.pose_prior import PosePrior
from pnp_ros.kernels.robust import RobustKind
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.types import Correspondences, Pose, PoseEstimate, SolveStatus
from synthetic.cube import random_problems


def random_covariance(batch: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Correlated, about 0.05 m and 0.03 rad."""
    factor = torch.randn(batch, 6, 8, generator=generator, dtype=torch.float64) / 8**0.5
    scale = torch.tensor([0.05] * 3 + [0.03] * 3, dtype=torch.float64)
    factor = scale[:, None] * factor
    return (factor @ factor.mT).to(dtype)


def problems_with_prior(
    batch: int, n: int, dtype: torch.dtype = torch.float32, seed: int = 0, outliers: float = 0.0
) -> tuple[Correspondences, object, Pose, PoseEstimate]:
    """Priors drawn around the true pose from their own covariance; the object's origin lies beside its points."""
    c, camera, truth = random_problems(batch, n, seed=seed, dtype=torch.float64, outliers=outliers)
    offset = torch.tensor([1.5, -0.5, 0.3], dtype=torch.float64)
    c = replace(c, object_points=c.object_points + offset)
    truth = Pose(truth.rotation, truth.translation - truth.rotation @ offset)
    generator = torch.Generator().manual_seed(seed + 1)
    covariance = random_covariance(batch, generator)
    draw = torch.linalg.cholesky(covariance) @ torch.randn(batch, 6, 1, generator=generator, dtype=torch.float64)
    # the prior is such that local(prior, truth) has the covariance
    rotation = so3.exp(-draw[:, 3:, 0]) @ truth.rotation
    prior = Pose(rotation.to(dtype), (truth.translation - draw[:, :3, 0]).to(dtype))
    truth = Pose(truth.rotation.to(dtype), truth.translation.to(dtype))
    return c.to(dtype=dtype), camera.to(dtype=dtype), truth, PoseEstimate.of(prior, covariance)


def _solve(c: Correspondences, camera: object, prior: PoseEstimate, settings: LMSettings | None = None) -> PoseEstimate:
    return lm.solve(c, camera, prior.pose, settings or LMSettings(), prior=PosePrior.of(prior))


def _double(pose: Pose) -> Pose:
    return Pose(pose.rotation.double(), pose.translation.double())


def _assert_same(kernel: PoseEstimate, reference: PoseEstimate) -> None:
    assert torch.equal(kernel.status, reference.status)
    ok = reference.usable
    delta = se3.local(reference.pose, _double(kernel.pose))
    assert nees(delta[ok], reference.covariance[ok]).max() < 0.05**2
    std = reference.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    scale = std[..., :, None] * std[..., None, :]
    assert ((kernel.covariance.double() - reference.covariance) / scale)[ok].abs().max() < 0.02
    torch.testing.assert_close(kernel.cost.double(), reference.cost, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", list(RobustKind))
@pytest.mark.parametrize("n", [0, 1, 2, 3, 20])
def test_kernel_equals_reference(kind: RobustKind, n: int) -> None:
    c, camera, _, prior = problems_with_prior(40, n)
    settings = LMSettings(kind, 3.0, 3.0, max_iterations=60, accept=False)
    kernel = _solve(c, camera, prior, settings)
    assert (kernel.status == int(SolveStatus.CONVERGED)).all()
    double = replace(prior, pose=_double(prior.pose), covariance=prior.covariance.double())
    reference = _solve(
        c.to(dtype=torch.float64), camera.to(dtype=torch.float64), double,
        replace(settings, tolerance=1e-7, max_iterations=300),
    )  # fmt: skip
    _assert_same(kernel, reference)


@pytest.mark.parametrize("n", [0, 2, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_covariance_of_both_is_consistent(n: int, dtype: torch.dtype) -> None:
    c, camera, truth, prior = problems_with_prior(3000 if dtype == torch.float32 else 1000, n, dtype)
    estimate = _solve(c, camera, prior)
    assert estimate.usable.all()
    squares = nees(se3.local(estimate.pose, truth).double(), estimate.covariance.double())
    assert 0.88 < (squares < 10.645).double().mean() < 0.92
    assert 5.6 < squares.mean() < 6.4
    trace = estimate.covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert (trace <= 1.001 * prior.covariance.diagonal(dim1=-2, dim2=-1).sum(-1)).all()


def test_no_points_give_back_the_prior() -> None:
    c, camera, _, prior = problems_with_prior(20, 4, torch.float64)
    nothing = c.scaled(torch.zeros(20, 4, dtype=torch.float64))
    estimate = _solve(nothing, camera, prior)
    assert (estimate.status == int(SolveStatus.CONVERGED)).all()
    torch.testing.assert_close(estimate.pose.translation, prior.pose.translation, rtol=0, atol=1e-12)
    torch.testing.assert_close(estimate.covariance, prior.covariance, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("unknown", [torch.inf, UNKNOWN_VARIANCE])
def test_a_prior_that_knows_nothing_changes_nothing(dtype: torch.dtype, unknown: float) -> None:
    c, camera, _, prior = problems_with_prior(20, 10, dtype)
    nothing = replace(prior, covariance=torch.diag(torch.full((6,), unknown, dtype=dtype)).expand(20, 6, 6))
    with_prior = _solve(c, camera, nothing)
    without = lm.solve(c, camera, prior.pose, LMSettings())
    assert nees(se3.local(without.pose, with_prior.pose).double(), without.covariance.double()).max() < 0.05**2
    torch.testing.assert_close(with_prior.covariance, without.covariance, rtol=1e-2, atol=1e-6)
    few = Correspondences(*(field[:, :2] for field in vars(c).values()))
    assert (_solve(few, camera, nothing).status == int(SolveStatus.DEGENERATE)).all()
    assert (_solve(few, camera, prior).status == int(SolveStatus.CONVERGED)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_directions_known_exactly_and_not_at_all(dtype: torch.dtype) -> None:
    # Height and tilt known exactly, nothing of the others: an object on a table, the camera level.
    c, camera, truth, prior = problems_with_prior(50, 6, dtype)
    diagonal = torch.tensor([torch.inf, 0.0, torch.inf, 0.0, torch.inf, 0.0], dtype=dtype)
    exact = replace(prior, covariance=torch.diag(diagonal).expand(50, 6, 6), pose=truth)
    estimate = _solve(c, camera, exact)
    assert (estimate.status == int(SolveStatus.CONVERGED)).all()
    delta = se3.local(truth, estimate.pose)
    assert delta[:, [1, 3, 5]].abs().max() < 5e-5
    assert delta[:, [0, 2, 4]].abs().mean() > 1e-3
    squares = nees(delta[:, [0, 2, 4]].double(), estimate.covariance[:, [0, 2, 4]][..., [0, 2, 4]].double())
    assert 2.0 < squares.mean() < 4.2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_singular_covariance_off_the_axes(dtype: torch.dtype) -> None:
    # Only a motion along one mixed direction of the six is possible, as far as the prior goes.
    c, camera, truth, prior = problems_with_prior(50, 6, dtype)
    direction = torch.tensor([0.05, 0.05, -0.02, 0.03, 0.02, 0.03], dtype=dtype)
    line = replace(prior, covariance=(direction[:, None] * direction).expand(50, 6, 6), pose=truth)
    estimate = _solve(c, camera, line)
    assert (estimate.status == int(SolveStatus.CONVERGED)).all()
    delta = se3.local(truth, estimate.pose) / direction
    assert (delta - delta.mean(-1, keepdim=True)).abs().max() < 0.02
    assert estimate.covariance.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_prior_that_is_no_number_is_told(dtype: torch.dtype) -> None:
    c, camera, _, prior = problems_with_prior(3, 8, dtype)
    covariance, translation = prior.covariance.clone(), prior.pose.translation.clone()
    covariance[0, 2, 3] = torch.nan
    translation[1, 0] = torch.inf
    bad = replace(prior, covariance=covariance, pose=Pose(prior.pose.rotation, translation))
    status = lm.solve(c, camera, prior.pose, LMSettings(), prior=PosePrior.of(bad)).status.tolist()
    assert status == [int(SolveStatus.NOT_FINITE), int(SolveStatus.NOT_FINITE), int(SolveStatus.CONVERGED)]


def test_batches_that_disagree_are_named() -> None:
    c, camera, _, prior = problems_with_prior(3, 8)
    two = PoseEstimate.of(Pose(prior.pose.rotation[:2], prior.pose.translation[:2]), prior.covariance[:2])
    with pytest.raises(ValueError, match=r"batch dimensions do not agree: .*prior \(2, 10, 6\)"):
        lm.solve(c, camera, prior.pose, LMSettings(), prior=PosePrior.of(two))


def test_solve_starts_at_the_prior_and_follows_the_dtype_of_the_points() -> None:
    c, camera, truth, prior = problems_with_prior(1500, 40, outliers=0.3)
    double = PoseEstimate.of(_double(prior.pose), prior.covariance.double())
    estimate = solve_pnp(c, camera, prior=double)
    assert estimate.pose.rotation.dtype == torch.float32
    assert estimate.usable.double().mean() > 0.98
    squares = nees(se3.local(estimate.pose, truth).double(), estimate.covariance.double())
    assert 0.86 < (squares < 10.645).double().mean() < 0.93
    shared = PoseEstimate.of(Pose(truth.rotation[0], truth.translation[0]), 1e-4 * torch.eye(6))
    assert solve_pnp(Correspondences(*(f[0] for f in vars(c).values())), camera, prior=shared).usable
    with pytest.raises(TypeError, match="prior: expected a PoseEstimate or None, got Pose"):
        solve_pnp(c, camera, prior=prior.pose)  # type: ignore[arg-type]
