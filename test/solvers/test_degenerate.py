"""Problems without a (unique) answer, and those that only look like it: the right pose or an honest status."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.solvers.classical import METHODS, Classical
from pnp_ros.solvers.levenberg_marquardt import LevenbergMarquardt
from pnp_ros.solvers.pnp import PoseFinder, solve_pnp
from pnp_ros.solvers.pnp_net import PnPNet
from pnp_ros.solvers.robust_loss import Cauchy, Gaussian, GemanMcClure, Huber, RobustLoss
from pnp_ros.types import Correspondences, Pose, PoseEstimate, SolveStatus
from synthetic.cube import random_problems

LOSSES = [Gaussian(), Huber(), Cauchy(), GemanMcClure()]
DTYPES = [torch.float32, torch.float64]


def _error_deg(estimate: PoseEstimate, truth: Pose) -> Tensor:
    return so3.angle_between(estimate.pose.rotation, truth.rotation).rad2deg()


def _near(truth: Pose) -> Pose:
    turn = so3.exp(torch.tensor([0.05, -0.05, 0.05]).to(truth.rotation))
    return Pose(turn @ truth.rotation, truth.translation * 1.02)


def _exact(n: int, *, batch: int = 20, planar: bool = False, dtype: torch.dtype = torch.float32, seed: int = 0):  # type: ignore[no-untyped-def]
    """Problems without noise, weighted as if there were one pixel of it."""
    c, camera, truth = random_problems(batch, n, sigma=0.0, planar=planar, dtype=dtype, seed=seed)
    return Correspondences.from_sigma(c.image_points, c.object_points), camera, truth


def _assert_nothing_is_nan(estimate: PoseEstimate) -> None:
    for tensor in (
        estimate.pose.rotation,
        estimate.pose.translation,
        estimate.covariance,
        estimate.inlier_weights,
        estimate.cost,
    ):
        assert tensor.isfinite().all()


CLASSICAL = [Classical(method) for method in METHODS]
INITS = [None, PnPNet(), *CLASSICAL]


@pytest.mark.parametrize("init", INITS, ids=str)
@pytest.mark.parametrize("repeats", [1, 4])
def test_three_points_have_several_poses_however_often_they_are_given(init: PoseFinder | None, repeats: int) -> None:
    c, camera, _ = _exact(3, batch=5)
    three = Correspondences(*(value.repeat(1, repeats, 1) for value in vars(c).values()))
    estimate = solve_pnp(three, camera, init=init)
    assert (estimate.status == int(SolveStatus.DEGENERATE)).all()
    assert (estimate.covariance.diagonal(dim1=-2, dim2=-1) == 1e6).all()


@pytest.mark.parametrize("init", INITS, ids=str)
@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_points_have_none(init: PoseFinder | None, n: int) -> None:
    c, camera, _ = _exact(n, batch=2)
    assert (solve_pnp(c, camera, init=init).status == int(SolveStatus.DEGENERATE)).all()


@pytest.mark.parametrize("init", INITS, ids=str)
def test_no_solver_finds_a_pose_of_a_line(init: PoseFinder | None) -> None:
    c, camera, truth = _exact(12, batch=20)
    points = torch.linspace(-1.0, 1.0, 12)[:, None] * c.object_points[:, :1] + c.object_points[:, 1:2]
    noise = torch.randn(20, 12, 2, generator=torch.Generator().manual_seed(0))
    line = Correspondences.from_sigma(camera.project(truth.transform(points)) + noise, points)
    estimate = solve_pnp(line, camera, init=init)
    assert not estimate.usable.any()
    _assert_nothing_is_nan(estimate)


@pytest.mark.parametrize("dtype", DTYPES)
def test_three_points_are_not_believed_from_an_initial_pose_either(dtype: torch.dtype) -> None:
    c, camera, truth = _exact(3, dtype=dtype)
    for init in (None, _near(truth)):
        assert not solve_pnp(c, camera, init=init, loss=Gaussian()).usable.any()


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("n", [4, 5, 6])
def test_few_points_are_enough(n: int, planar: bool) -> None:
    c, camera, truth = _exact(n, batch=200, planar=planar)
    estimate = solve_pnp(c, camera)
    assert estimate.usable.double().mean() > 0.98
    right = _error_deg(estimate, truth)[estimate.usable] < 0.2
    assert right.double().mean() > (0.96 if planar and n == 4 else 0.98)
    if planar and n == 4:  # the mirrored pose may fit as well: then the right one is the alternative, as probable
        other = estimate.alternative
        assert other is not None
        mirrored = so3.angle_between(other.pose.rotation, truth.rotation).rad2deg()[estimate.usable] < 0.2
        assert (right | (mirrored & (other.probability[estimate.usable] > 0.4))).all()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_collinear_points_are_degenerate(loss: RobustLoss) -> None:
    c, camera, truth = _exact(12, batch=100)
    along = torch.linspace(-1.0, 1.0, 12)[:, None]
    points = along * c.object_points[:, :1] + c.object_points[:, 1:2]
    line = Correspondences.from_sigma(camera.project(truth.transform(points)), points)
    for init in (None, _near(truth)):
        estimate = solve_pnp(line, camera, init=init, loss=loss)
        assert (estimate.status == int(SolveStatus.DEGENERATE)).double().mean() > 0.98
        _assert_nothing_is_nan(estimate)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_point_many_times_is_degenerate(dtype: torch.dtype) -> None:
    c, camera, truth = _exact(1, dtype=dtype)
    same = Correspondences.from_sigma(
        c.image_points.expand(-1, 10, -1).contiguous(), c.object_points.expand(-1, 10, -1).contiguous()
    )
    for init in (None, truth):
        estimate = solve_pnp(same, camera, init=init)
        assert not estimate.usable.any()
        _assert_nothing_is_nan(estimate)


def test_duplicates_count_as_often_as_they_are_given() -> None:
    c, camera, _ = random_problems(10, 6)
    twice = Correspondences(c.image_points.repeat(1, 2, 1), c.object_points.repeat(1, 2, 1), c.weights.repeat(1, 2, 1))
    once = solve_pnp(c, camera, loss=Gaussian())
    doubled = solve_pnp(twice, camera, loss=Gaussian())
    torch.testing.assert_close(doubled.pose.rotation, once.pose.rotation, atol=1e-3, rtol=0)
    torch.testing.assert_close(doubled.covariance, once.covariance / 2, rtol=0.05, atol=1e-8)


@pytest.mark.parametrize("used", [0, 2, 3, 4, 8])
@pytest.mark.parametrize("dtype", DTYPES)
def test_points_without_weight_do_not_exist(used: int, dtype: torch.dtype) -> None:
    c, camera, truth = _exact(12, dtype=dtype)
    wrong = c.image_points + 500.0
    ignored = torch.arange(12)[:, None] >= used
    c = Correspondences(
        torch.where(ignored, wrong, c.image_points), c.object_points, torch.where(ignored, 0.0, c.weights)
    )
    estimate = solve_pnp(c, camera, loss=Gaussian())
    assert (estimate.inlier_weights[:, used:] == 0).all()
    if used < 4:
        assert (estimate.status == int(SolveStatus.DEGENERATE)).all()
    else:
        assert (_error_deg(estimate, truth)[estimate.usable] < 0.2).double().mean() > 0.9
    _assert_nothing_is_nan(estimate)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_an_initial_pose_behind_the_camera_does_not_keep_the_right_one_from_being_found(
    loss: RobustLoss, dtype: torch.dtype
) -> None:
    c, camera, truth = _exact(10, dtype=dtype)
    behind = Pose(truth.rotation, -truth.translation)
    estimate = solve_pnp(c, camera, init=behind, loss=loss)
    assert estimate.usable.all()
    assert (_error_deg(estimate, truth) < 0.2).all()
    judged = solve_pnp(c, camera, init=behind, loss=loss, solver=LevenbergMarquardt(max_iterations=0))
    assert (judged.status == int(SolveStatus.BEHIND_CAMERA)).all()
    _assert_nothing_is_nan(estimate)
    _assert_nothing_is_nan(judged)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("field", ["image_points", "object_points", "weights", "rotation", "translation"])
def test_what_is_not_finite_spoils_its_own_problem_only(field: str, value: float, dtype: torch.dtype) -> None:
    c, camera, truth = random_problems(3, 10, dtype=dtype)
    fields = {name: getattr(c, name).clone() for name in ("image_points", "object_points", "weights")}
    init = Pose(truth.rotation.clone(), truth.translation.clone())
    target = fields[field] if field in fields else getattr(init, field)
    target[1].view(-1)[4 if target[1].numel() > 4 else 1] = value
    clean = solve_pnp(c, camera, init=truth)
    estimate = solve_pnp(Correspondences(**fields), camera, init=init)
    assert estimate.status.tolist() == [0, int(SolveStatus.NOT_FINITE), 0]
    torch.testing.assert_close(estimate.pose.rotation[[0, 2]], clean.pose.rotation[[0, 2]], atol=1e-6, rtol=0)
    _assert_nothing_is_nan(estimate)


def test_unrelated_points_have_no_pose() -> None:
    c, camera, _ = random_problems(50, 64, outliers=1.0)
    estimate = solve_pnp(c, camera)
    assert (estimate.status == int(SolveStatus.UNEXPLAINED)).double().mean() > 0.95
    assert not estimate.usable.any()


@pytest.mark.parametrize("init", CLASSICAL, ids=str)
def test_classical_solvers_survive_it_too(init: PoseFinder | None) -> None:
    c, camera, truth = _exact(8, batch=4)
    image, points, weights = c.image_points.clone(), c.object_points.clone(), c.weights.clone()
    image[0, 3] = torch.nan
    points[1] = points[1, :1]
    weights[2, 2:] = 0.0
    estimate = solve_pnp(Correspondences(image, points, weights), camera, init=init)
    assert estimate.status[0] == int(SolveStatus.NOT_FINITE)
    assert not estimate.usable[:3].any()
    assert estimate.usable[3]
    assert _error_deg(estimate, truth)[3] < 5.0
    _assert_nothing_is_nan(estimate)


def test_fisheye_sees_beside_and_a_little_behind_itself() -> None:
    from pnp_ros.cameras.camera import CameraModel

    camera = Camera(CameraModel.KANNALA_BRANDT, torch.tensor([200.0, 200.0, 400.0, 400.0]), torch.zeros(4), 800, 800)
    truth = Pose(torch.eye(3)[None], torch.tensor([[3.0, 0.0, 0.2]]))
    points = torch.tensor([[[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]])
    assert (truth.transform(points)[..., 2] < 0).any()
    c = Correspondences.from_sigma(camera.project(truth.transform(points)), points)
    for init in (None, _near(truth)):
        estimate = solve_pnp(c, camera, init=init)
        assert estimate.usable.all()
        assert _error_deg(estimate, truth).max() < 0.1
