"""A prior does not vouch for the points: what they do not explain together with it is said, and the prior remains."""

from __future__ import annotations

import pytest
import torch

from pnp_ros.geometry import se3, so3
from pnp_ros.geometry.covariance import nees
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Gaussian
from pnp_ros.types import Pose, PoseEstimate, SolveStatus
from synthetic.problems import Case, Problems, draw

CHI2_90 = 10.645
TIGHT, WIDE, VAGUE = (0.02, 0.02), (0.1, 0.1), (1.0, 0.4)  # deviations: rad, share of the distance


def prior_of(problems: Problems, deviations: tuple[float, float], dtype: torch.dtype = torch.float32) -> PoseEstimate:
    """About the true poses, drawn from its own covariance."""
    generator = torch.Generator().manual_seed(0)
    truth = problems.truth()
    turn, share = deviations
    move = share * truth.translation.norm(dim=-1, keepdim=True).expand(-1, 3)
    deviation = torch.cat([move, torch.full_like(move, turn)], dim=-1)
    step = deviation * torch.randn(deviation.shape, generator=generator, dtype=deviation.dtype)
    rotation = so3.exp(-step[:, 3:]) @ truth.rotation
    pose = Pose(rotation.to(dtype), (truth.translation - step[:, :3]).to(dtype))
    return PoseEstimate.of(pose, torch.diag_embed(deviation.square()).to(dtype))


def _covered(estimate: PoseEstimate, problems: Problems) -> torch.Tensor:
    pose = Pose(estimate.pose.rotation.double(), estimate.pose.translation.double())
    return nees(se3.local(pose, problems.truth()), estimate.covariance.double()) < CHI2_90


@pytest.mark.parametrize("deviations", [TIGHT, WIDE, VAGUE])
@pytest.mark.parametrize("n", [3, 5, 8, 20])
def test_unrelated_points_leave_the_prior(n: int, deviations: tuple[float, float]) -> None:
    problems = draw(Case(n=n, noise_only=True), 200, 1)
    prior = prior_of(problems, deviations)
    estimate = solve_pnp(problems.correspondences(), problems.lens.camera(), prior=prior)
    assert estimate.usable.double().mean() <= 0.015  # 1 % is promised
    refused = estimate.status == int(SolveStatus.UNEXPLAINED)
    assert n == 3 or refused.double().mean() > 0.9
    assert torch.equal(estimate.pose.rotation[refused], prior.pose.rotation[refused])
    assert torch.equal(estimate.covariance[refused], prior.covariance[refused])
    assert (estimate.inlier_weights[refused] == 0.0).all()


@pytest.mark.parametrize("deviations", [TIGHT, WIDE])
@pytest.mark.parametrize(("n", "outliers"), [(3, 0.0), (5, 0.2), (20, 0.6)])
def test_points_that_agree_join_the_prior(n: int, outliers: float, deviations: tuple[float, float]) -> None:
    problems = draw(Case(n=n, outliers=outliers), 300, 2)
    prior = prior_of(problems, deviations)
    estimate = solve_pnp(problems.correspondences(), problems.lens.camera(), prior=prior)
    assert estimate.usable.double().mean() >= 0.95
    right = torch.from_numpy(problems.right(estimate.pose))
    assert (estimate.usable & ~right).double().mean() <= 0.01
    assert 0.84 < _covered(estimate, problems)[estimate.usable].double().mean() < 0.96


def test_a_vague_prior_is_searched_beside_and_leaves_three_points_undetermined() -> None:
    problems = draw(Case(n=20, outliers=0.3), 200, 3)
    camera = problems.lens.camera()
    estimate = solve_pnp(problems.correspondences(), camera, prior=prior_of(problems, VAGUE))
    assert (estimate.usable & torch.from_numpy(problems.right(estimate.pose))).double().mean() >= 0.98
    three = draw(Case(n=3), 100, 3)
    estimate = solve_pnp(three.correspondences(), camera, prior=prior_of(three, VAGUE))
    assert (estimate.status == int(SolveStatus.DEGENERATE)).all()


def test_a_gaussian_fit_far_from_the_prior_is_refused() -> None:
    problems = draw(Case(n=6), 100, 4)
    prior = prior_of(problems, TIGHT)
    off = Pose(prior.pose.rotation, 1.4 * prior.pose.translation)  # twenty deviations
    estimate = solve_pnp(
        problems.correspondences(),
        problems.lens.camera(),
        prior=PoseEstimate.of(off, prior.covariance),
        loss=Gaussian(),
    )
    assert (~estimate.usable).double().mean() >= 0.99


def test_the_reference_comes_to_the_same_verdict() -> None:
    for case in (Case(n=8, outliers=0.5), Case(n=8, noise_only=True)):
        problems = draw(case, 20, 5)
        single = solve_pnp(problems.correspondences(), problems.lens.camera(), prior=prior_of(problems, WIDE))
        double = solve_pnp(
            problems.correspondences(torch.float64),
            problems.lens.camera(torch.float64),
            prior=prior_of(problems, WIDE, torch.float64),
        )
        assert (single.usable == double.usable).double().mean() >= 0.9


@pytest.mark.parametrize(
    "case",
    [
        Case(n=12, lens="ip", extent=0.3, sigma=0.5, outliers=0.25),
        Case(n=4, lens="oak_d", shape="flat"),
        Case(n=6, lens="tilted_14"),
        Case(n=3, lens="fisheye"),
    ],
    ids=str,
)
def test_kernel_and_reference_agree_through_strong_lenses(case: Case) -> None:
    """Off centre, with few or flat points: poses within a twentieth of a deviation, deviations within 2 %."""
    problems = draw(case, 40, 6)
    kernel = solve_pnp(problems.correspondences(), problems.lens.camera(), prior=prior_of(problems, TIGHT))
    double = torch.float64
    reference = solve_pnp(
        problems.correspondences(double), problems.lens.camera(double), prior=prior_of(problems, TIGHT, double)
    )
    both = kernel.usable & reference.usable
    assert both.double().mean() >= 0.9
    assert (kernel.usable == reference.usable).double().mean() >= 0.95
    single = Pose(kernel.pose.rotation.double(), kernel.pose.translation.double())
    deviation = reference.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    apart = (se3.local(reference.pose, single).abs() / deviation)[both]
    assert apart.amax(-1).quantile(0.95) < 0.05
    ratio = kernel.covariance.double().diagonal(dim1=-2, dim2=-1).sqrt() / deviation
    assert (ratio[both] - 1.0).abs().amax(-1).quantile(0.95) < 0.02
