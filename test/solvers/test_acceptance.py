"""One acceptance on every path: unrelated points are refused, what is ambiguous says so, a bad start costs nothing."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from pnp_ros.geometry import se3, so3
from pnp_ros.geometry.covariance import nees
from pnp_ros.kernels import accept_reference, search_reference
from pnp_ros.solvers.levenberg_marquardt import LevenbergMarquardt
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Gaussian
from pnp_ros.types import Correspondences, Pose, PoseEstimate, SolveStatus
from synthetic.cpu_time import cpu_seconds
from synthetic.problems import Case, Problems, draw

CROWDED = Case(n=32, outliers=0.5, kind="clustered")
NEAR = Case(n=32, outliers=0.5, kind="near")


def _near(truth: Pose) -> Pose:
    return Pose(so3.exp(torch.tensor([0.1, -0.1, 0.1]).to(truth.rotation)) @ truth.rotation, truth.translation * 1.05)


def _distance2(estimate: PoseEstimate, problems: Problems) -> torch.Tensor:
    pose = Pose(estimate.pose.rotation.double(), estimate.pose.translation.double())
    return nees(se3.local(pose, problems.truth()), estimate.covariance.double())


@pytest.mark.parametrize("with_init", [False, True])
@pytest.mark.parametrize(
    ("n", "sigma", "width"), [(4, 2.0, 640), (5, 2.0, 640), (7, 5.0, 640), (12, 0.3, 3840), (20, 2.0, 640)]
)
def test_unrelated_points_are_refused(n: int, sigma: float, width: int, with_init: bool) -> None:
    problems = draw(Case(n=n, sigma=sigma, width=width, noise_only=True), 400, 5)
    init = _near(problems.truth(torch.float32)) if with_init else None
    estimate = solve_pnp(problems.correspondences(), problems.lens.camera().to(dtype=torch.float32), init=init)
    assert estimate.usable.double().mean() <= 0.01


@pytest.mark.parametrize(("n", "outliers"), [(6, 1 / 6), (7, 1 / 7), (8, 0.25)])
def test_few_points_withstand_an_outlier(n: int, outliers: float) -> None:
    problems = draw(Case(n=n, outliers=outliers), 300, 1)
    estimate = solve_pnp(problems.correspondences(), problems.lens.camera().to(dtype=torch.float32))
    right = torch.from_numpy(problems.right(estimate.pose))
    assert (estimate.usable & right).double().mean() >= 0.98
    assert (estimate.usable & ~right).double().mean() <= 0.01


@pytest.mark.parametrize(("n", "wrong"), [(5, 1), (8, 3), (10, 4)])
def test_points_that_may_as_well_be_wrong_are_told(n: int, wrong: int) -> None:
    # Outliers so near that a pose may bend to some of them and leave right points out.
    problems = draw(Case(n=n, outliers=wrong / n, kind="near"), 300, 11)
    estimate = solve_pnp(problems.correspondences(), problems.lens.camera().to(dtype=torch.float32))
    assert estimate.alternative is not None
    lies = estimate.usable & ~torch.from_numpy(problems.right(estimate.pose))
    hidden = lies & ~torch.from_numpy(problems.right(estimate.alternative.pose))
    assert lies.double().mean() <= 0.055
    assert hidden.double().mean() <= 0.015
    doubtful = (estimate.status == int(SolveStatus.UNEXPLAINED)) & (estimate.alternative.probability > 0.02)
    assert doubtful.double().mean() >= 0.04


def test_near_outliers_tell_right_from_wrong_poses() -> None:
    # Any pose near the right one explains some of them; about the right one they lie closest.
    problems = draw(Case(n=64, outliers=0.85, kind="near"), 100)
    estimate = solve_pnp(problems.correspondences(), problems.lens.camera().to(dtype=torch.float32))
    right = torch.from_numpy(problems.right(estimate.pose))
    assert (estimate.usable & ~right).double().mean() <= 0.04
    assert (estimate.usable & right).double().mean() >= 0.85
    lost = draw(Case(n=64, outliers=0.9, kind="near"), 20)  # six inliers do not suffice among these
    estimate = solve_pnp(lost.correspondences(), lost.lens.camera().to(dtype=torch.float32))
    assert (estimate.usable & ~torch.from_numpy(lost.right(estimate.pose))).sum() <= 4


@pytest.mark.parametrize("rank", [1.0, 2.0])
def test_outliers_tell_how_far_from_their_places_they_lie(rank: float) -> None:
    u = torch.rand(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    share = u if rank == 2.0 else u.square()  # of s / (spread + s), of Student's t with two degrees of freedom
    squared = (300.0 * share / (1.0 - share))[None]
    spread = accept_reference.near_spread(squared, torch.ones(1, 4000, dtype=torch.bool), torch.full((1, 4000), rank))
    assert spread.item() == pytest.approx(300.0, rel=0.15)


@pytest.mark.parametrize("n", [8, 20, 64])
def test_a_start_from_anywhere_leads_to_the_pose(n: int) -> None:
    problems = draw(Case(n=n), 300, 2)
    anywhere = so3.random_rotation(300, generator=torch.Generator().manual_seed(1))
    init = Pose(anywhere, problems.truth(torch.float32).translation)
    estimate = solve_pnp(problems.correspondences(), problems.lens.camera().to(dtype=torch.float32), init=init)
    right = torch.from_numpy(problems.right(estimate.pose))
    assert (estimate.usable & ~right).double().mean() <= 0.02
    assert right.double().mean() >= 0.98


def test_a_slender_object_is_not_turned_about_its_axis() -> None:
    """Most of its points fit a pose that is, so that half of them are not enough to do without the search."""
    problems = draw(Case(n=64, shape="line"), 600, 22)
    anywhere = so3.random_rotation(600, generator=torch.Generator().manual_seed(1))
    init = Pose(anywhere, problems.truth(torch.float32).translation)
    estimate = solve_pnp(problems.correspondences(), problems.lens.camera().to(dtype=torch.float32), init=init)
    right = torch.from_numpy(problems.right(estimate.pose))
    assert (estimate.usable & ~right).double().mean() <= 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_start_chooses_among_instances(dtype: torch.dtype) -> None:
    """26 points of one instance, 38 of another: a start near the first leads to it, and nothing else is sought."""
    count = 100 if dtype is torch.float32 else 3
    small, large = draw(Case(n=26), count, 3), draw(Case(n=38), count, 4)
    both = Correspondences(
        *(
            torch.cat([getattr(p.correspondences(), name) for p in (small, large)], dim=-2).to(dtype)
            for name in ("image_points", "object_points", "weights")
        )
    )
    camera = small.lens.camera().to(dtype=dtype)
    estimate = solve_pnp(both, camera, init=_near(small.truth(dtype)))
    right = torch.from_numpy(small.right(estimate.pose))
    assert (estimate.usable & right).double().mean() >= 0.97
    assert not solve_pnp(both, camera).pose.rotation.isclose(estimate.pose.rotation).all((-2, -1)).any()


@pytest.mark.parametrize(("n", "extent"), [(8, 0.2), (32, 0.1)])
def test_a_flat_object_carries_its_mirrored_pose_and_the_covariance_knows_it(n: int, extent: float) -> None:
    problems = draw(Case(n=n, shape="flat", extent=extent), 400, 3)
    estimate = solve_pnp(problems.correspondences(), problems.lens.camera().to(dtype=torch.float32))
    assert estimate.alternative is not None
    right = torch.from_numpy(problems.right(estimate.pose))
    other = torch.from_numpy(problems.right(estimate.alternative.pose))
    wrong = estimate.usable & ~right
    assert wrong.double().mean() > 0.05  # the image does not tell
    probability = estimate.alternative.probability
    assert (wrong & ~(other & (probability > 0.01))).double().mean() <= 0.02
    assert abs(float(probability.mean()) - float(wrong.double().mean())) < 0.06  # as probable as it says
    assert 0.7 < _distance2(estimate, problems)[estimate.usable].mean() / 6.0 < 1.4


def test_a_gaussian_fit_of_an_outlier_is_refused() -> None:
    problems = draw(Case(n=7, outliers=1 / 7), 200, 4)
    camera = problems.lens.camera().to(dtype=torch.float32)
    estimate = solve_pnp(problems.correspondences(), camera, loss=Gaussian())
    wrong = estimate.usable & ~torch.from_numpy(problems.right(estimate.pose))
    assert wrong.double().mean() <= 0.03


def test_outliers_in_one_spot_are_no_object() -> None:
    problems = draw(Case(n=200, outliers=0.9, kind="clustered"), 20, 7)
    estimate = solve_pnp(problems.correspondences(), problems.lens.camera().to(dtype=torch.float32))
    right = torch.from_numpy(problems.right(estimate.pose))
    assert (estimate.usable & ~right).sum() == 0
    assert (estimate.usable & right).sum() >= 19


@pytest.mark.parametrize("n", [6, 64])
def test_a_small_object_is_no_crowd(n: int) -> None:
    problems = draw(Case(n=n, outliers=0.0 if n == 6 else 0.3, extent=0.1), 200, 8)  # 48 px
    estimate = solve_pnp(problems.correspondences(), problems.lens.camera().to(dtype=torch.float32))
    assert (estimate.usable & torch.from_numpy(problems.right(estimate.pose))).double().mean() >= 0.98


def test_outliers_that_lie_evenly_are_no_crowd() -> None:
    points = torch.rand(20, 64, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([640.0, 480.0])
    used = torch.ones(20, 64, dtype=torch.bool)
    crowd = accept_reference.crowding(points, used, torch.arange(64).expand(20, 64) < 6, 640.0 * 480.0)
    assert (crowd.amax(-1) == 0.0).sum() >= 19


def test_only_outliers_make_a_crowd() -> None:
    generator = torch.Generator().manual_seed(0)
    spot = torch.tensor([300.0, 200.0]) + 5.0 * torch.randn(1, 50, 2, generator=generator)
    points = torch.cat([spot, torch.tensor([[[20.0, 20.0]]])], dim=1)
    used = torch.ones(1, 51, dtype=torch.bool)
    inlier = torch.arange(51)[None] >= 45
    crowd = accept_reference.crowding(points, used, inlier, 640.0 * 480.0)
    assert (crowd[0, 45:50] > 4.0).all()
    assert crowd[0, 50] == 0.0
    assert (accept_reference.crowding(points, used, used, 640.0 * 480.0) == 0.0).all()


def _weighed(num_inliers: int) -> accept_reference.Weighed:
    """Two hundred points in one spot, of which a pose explains so many."""
    generator = torch.Generator().manual_seed(0)
    points = torch.tensor([300.0, 200.0]) + 20.0 * torch.randn(1, 200, 2, generator=generator)
    squared = torch.where(torch.arange(200) < num_inliers, 1.0, 1e4)[None]
    one = torch.ones(1)
    used = torch.ones(1, 200, dtype=torch.bool)
    area = 640.0 * 480.0
    return accept_reference.weigh(
        squared, torch.full((1, 200), 10.8), used, num_inliers * one, 33.0 * one, area, points, 2 * used, 1e6 * one
    )


def test_a_crowd_counts_against_a_rival_that_nobody_would_believe() -> None:
    """What a pose is compared with must not be told by another measure, or chance makes a rival of every right pose."""
    weak, strong = _weighed(6), _weighed(12)
    assert float(strong.evidence) > accept_reference.MIN_EVIDENCE
    assert float(weak.standing) < -10.0  # about 0 without the crowd


def test_right_poses_among_points_of_the_object_in_other_places_have_no_rival_by_chance() -> None:
    drawn = draw(Case(n=200, outliers=0.95, kind="shuffled"), 150)
    for index in (6, 71, 86):  # found, and refused, where such a rival is weighed otherwise
        problems = drawn.part(index, index + 1)
        estimate = solve_pnp(problems.correspondences(), problems.lens.camera())
        assert estimate.usable.all()
        assert problems.right(estimate.pose).all()


@pytest.mark.parametrize(
    "case", [Case(n=12, outliers=0.25), Case(n=8, shape="flat", extent=0.2), Case(n=6), CROWDED, NEAR], ids=str
)
def test_the_reference_without_kernels_comes_to_the_same_verdict(case: Case) -> None:
    problems = draw(case, 12, 6)
    camera = problems.lens.camera()
    single = solve_pnp(problems.correspondences(), camera.to(dtype=torch.float32))
    double = solve_pnp(problems.correspondences(torch.float64), camera.to(dtype=torch.float64))
    assert torch.equal(single.usable, double.usable)
    assert single.alternative is not None
    assert double.alternative is not None
    torch.testing.assert_close(
        single.alternative.probability.double(), double.alternative.probability, atol=0.02, rtol=0.05
    )
    pose = Pose(single.pose.rotation.double(), single.pose.translation.double())
    # Of two as probable as each other either may come first, and a long valley has no end within the iterations.
    clear = (double.alternative.probability < 0.45) & (double.status == int(SolveStatus.CONVERGED))
    assert clear.sum() >= 9
    assert (nees(se3.local(double.pose, pose), double.covariance) < 0.1**2)[clear].all()


def test_to_refuse_unrelated_points_takes_no_longer_than_promised() -> None:
    clean, unrelated = draw(Case(n=64), 200, 9), draw(Case(n=64, noise_only=True), 5, 9)
    camera = clean.lens.camera()
    accepted, refused = cpu_seconds(*(partial(solve_pnp, x.correspondences(), camera) for x in (clean, unrelated)))
    assert refused / 5 < 2000 * accepted / 200  # about 700; 7,600 where each sample that fits nothing is refined


def test_sampling_ends_where_a_pose_is_improbable_to_be_missed() -> None:
    enough = search_reference.samples_until_sure(64, 5)
    shares = [k * (k - 1) * (k - 2) / (64 * 63 * 62) for k in range(5, 65)]
    missed = [(1.0 - search_reference.GOOD_SAMPLE * share) ** enough / 65 for share in shares]
    assert 0.5e-3 < sum(missed) < 1e-3
    unrelated = draw(Case(n=20, noise_only=True), 20, 9)
    camera = unrelated.lens.camera()
    few = LevenbergMarquardt(samples=int(search_reference.samples_until_sure(20, 5)) + 1)
    one, other = (solve_pnp(unrelated.correspondences(), camera, solver=x) for x in (few, LevenbergMarquardt()))
    assert torch.equal(one.pose.translation, other.pose.translation)


def test_a_guess_among_many_outliers_costs_a_fraction_of_none() -> None:
    problems = draw(Case(n=64, outliers=0.8), 100, 10)
    c, camera, init = problems.correspondences(), problems.lens.camera(), _near(problems.truth(torch.float32))
    with_guess, without = cpu_seconds(lambda: solve_pnp(c, camera, init=init), lambda: solve_pnp(c, camera))
    assert with_guess < 0.5 * without  # about a fifth; as long, when all was sought
    anywhere = so3.random_rotation(100, generator=torch.Generator().manual_seed(1))
    for start in (init, Pose(anywhere, init.translation)):
        estimate = solve_pnp(c, camera, init=start)
        assert (estimate.usable & torch.from_numpy(problems.right(estimate.pose))).double().mean() >= 0.99
    few, double = problems.first(3), torch.float64
    start = Pose(init.rotation[:3].double(), init.translation[:3].double())
    reference = solve_pnp(few.correspondences(double), camera.to(dtype=double), init=start)
    assert reference.usable.all()
    assert few.right(reference.pose).all()


def test_grunerts_p3p_finds_the_pose() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(200, 3, 3, generator=generator, dtype=torch.float64) * 2 - 1
    rotation = so3.random_rotation(200, generator=generator, dtype=torch.float64)
    translation = torch.tensor([0.2, -0.1, 6.0], dtype=torch.float64)
    bearings = torch.nn.functional.normalize(points @ rotation.mT + translation, dim=-1)
    found, moved, exists = search_reference.p3p(bearings, points)
    error = (found - rotation[:, None]).flatten(-2).norm(dim=-1) + (moved - translation).norm(dim=-1)
    best = torch.where(exists, error, torch.inf).amin(-1)
    assert (best < 1e-4).double().mean() > 0.97
