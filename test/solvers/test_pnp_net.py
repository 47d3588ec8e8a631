"""PnP-Net with its shipped weights: what it must not depend on, and how well it does."""

import math

import pytest
import torch

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import so3
from pnp_ros.solvers import pnp_net
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.types import Correspondences, Pose, SolveStatus
from synthetic.cube import random_problems


def _assert_same(a, b, tolerance=1e-3):
    torch.testing.assert_close(a.rotation, b.rotation, rtol=0.0, atol=tolerance)
    torch.testing.assert_close(a.translation, b.translation, rtol=tolerance, atol=tolerance)


def test_the_order_of_the_points_does_not_matter():
    correspondences, camera, _ = random_problems(8, 20, outliers=0.3)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    shuffled = Correspondences(*(x[:, order] for x in vars(correspondences).values()))
    pose, likelihood = pnp_net.coarse_pose(correspondences, camera)
    pose_shuffled, likelihood_shuffled = pnp_net.coarse_pose(shuffled, camera)
    _assert_same(pose, pose_shuffled)
    torch.testing.assert_close(likelihood[:, order], likelihood_shuffled, rtol=0.0, atol=1e-3)


def test_points_without_weight_do_not_matter():
    correspondences, camera, _ = random_problems(8, 20)
    weights = correspondences.weights.clone()
    weights[:, 15:] = 0.0
    some = Correspondences(*(x[:, :15] for x in vars(correspondences).values()))
    pose, _ = pnp_net.coarse_pose(some, camera)
    image_points = correspondences.image_points.clone()
    image_points[:, 18:] = math.nan
    masked = Correspondences(image_points, correspondences.object_points, weights)
    pose_masked, likelihood = pnp_net.coarse_pose(masked, camera)
    _assert_same(pose, pose_masked)
    assert (likelihood[:, 15:] == 0).all()


def test_units_object_frame_and_intrinsics_do_not_matter():
    correspondences, camera, _ = random_problems(8, 20, outliers=0.3)
    pose, likelihood = pnp_net.coarse_pose(correspondences, camera)
    shift = torch.tensor([3.0, -2.0, 1.0])
    in_millimetres = Correspondences(
        correspondences.image_points, 1000 * (correspondences.object_points + shift), correspondences.weights
    )
    moved, likelihood_moved = pnp_net.coarse_pose(in_millimetres, camera)
    back = Pose(moved.rotation, moved.translation / 1000 + moved.rotation @ shift)
    _assert_same(pose, back)
    torch.testing.assert_close(likelihood, likelihood_moved, rtol=0.0, atol=1e-3)
    # The same rays in a camera of twice the resolution.
    finer = Camera.pinhole(1600.0, 1600.0, 640.0, 480.0, 1280, 960)
    doubled = Correspondences(
        2 * correspondences.image_points, correspondences.object_points, correspondences.weights / 2
    )
    _assert_same(pose, pnp_net.coarse_pose(doubled, finer)[0])


def test_a_turned_camera_turns_the_pose():
    correspondences, _, _ = random_problems(8, 20, outliers=0.2, dtype=torch.float64)
    lens = Camera(CameraModel.KANNALA_BRANDT, torch.tensor([400.0, 400.0, 320.0, 240.0]), torch.zeros(4), 640, 480)
    lens = lens.to(dtype=torch.float64)
    pose, _ = pnp_net.coarse_pose(correspondences, lens)
    turn = so3.exp(torch.tensor([0.1, -0.3, 0.0], dtype=torch.float64))
    image_points = lens.project(lens.unproject(correspondences.image_points) @ turn.mT)
    turned = Correspondences(image_points, correspondences.object_points, correspondences.weights)
    pose_turned, _ = pnp_net.coarse_pose(turned, lens)
    # The canonical frames differ by a roll about the mean bearing, which the network has learnt, not built in.
    angle = so3.angle_between(pose_turned.rotation, turn @ pose.rotation)
    assert angle.median() < math.radians(3.0)


def test_a_batch_equals_its_problems():
    correspondences, camera, _ = random_problems(4, 20, outliers=0.3)
    pose, _ = pnp_net.coarse_pose(correspondences, camera)
    for index in range(4):
        single = Correspondences(*(x[index] for x in vars(correspondences).values()))
        _assert_same(Pose(pose.rotation[index], pose.translation[index]), pnp_net.coarse_pose(single, camera)[0])


@pytest.mark.parametrize(
    ("n", "outliers", "success"), [(8, 0.0, 0.97), (64, 0.0, 0.99), (64, 0.3, 0.99), (64, 0.6, 0.98), (512, 0.6, 0.99)]
)
def test_success_rates(n, outliers, success):
    correspondences, camera, truth = random_problems(150, n, outliers=outliers, seed=7)
    estimate = solve_pnp(correspondences, camera, init=pnp_net.PnPNetStart())
    angle = so3.angle_between(estimate.pose.rotation, truth.rotation)
    distance = (estimate.pose.translation - truth.translation).norm(dim=-1) / truth.translation.norm(dim=-1)
    good = (angle < math.radians(5.0)) & (distance < 0.05)
    assert good.float().mean() >= success
    assert estimate.usable[good].all()


def test_flat_objects():
    correspondences, camera, truth = random_problems(100, 64, outliers=0.3, planar=True, seed=3)
    estimate = solve_pnp(correspondences, camera, init=pnp_net.PnPNetStart())
    angle = so3.angle_between(estimate.pose.rotation, truth.rotation)
    assert (angle < math.radians(5.0)).float().mean() > 0.9


def test_likelihoods_tell_outliers():
    correspondences, camera, truth = random_problems(50, 64, outliers=0.5, seed=11)
    _, likelihood = pnp_net.coarse_pose(correspondences, camera)
    error = (camera.project(truth.transform(correspondences.object_points)) - correspondences.image_points).norm(dim=-1)
    inlier, outlier = error < 6.0, error > 20.0
    assert (likelihood[inlier] > 0.5).float().mean() > 0.95
    assert (likelihood[outlier] < 0.5).float().mean() > 0.95


def test_outliers_alone_are_said_to_be_degenerate():
    correspondences, camera, _ = random_problems(100, 64, outliers=1.0)
    estimate = solve_pnp(correspondences, camera, init=pnp_net.PnPNetStart())
    assert estimate.usable.float().mean() < 0.03


def test_not_finite_and_too_few_points_give_a_status():
    correspondences, camera, _ = random_problems(4, 10)
    image_points = correspondences.image_points.clone()
    object_points = correspondences.object_points.clone()
    weights = correspondences.weights.clone()
    image_points[0] = math.nan
    object_points[1, 3] = math.inf
    weights[2, 2:] = 0.0
    estimate = solve_pnp(Correspondences(image_points, object_points, weights), camera, init=pnp_net.PnPNetStart())
    assert estimate.status[:2].tolist() == [SolveStatus.NOT_FINITE] * 2
    assert not estimate.usable[2]
    assert estimate.usable[3]
    for tensor in (estimate.pose.rotation, estimate.pose.translation, estimate.covariance, estimate.cost):
        assert tensor.isfinite().all()


@pytest.mark.parametrize("magnitude", [1e-20, 1e20])
def test_coarse_pose_is_finite_for_any_finite_input(magnitude):
    correspondences, camera, _ = random_problems(2, 10)
    for name in ("image_points", "object_points", "weights"):
        values = {**vars(correspondences), name: magnitude * getattr(correspondences, name)}
        pose, likelihood = pnp_net.coarse_pose(Correspondences(**values), camera)
        assert pose.rotation.isfinite().all()
        assert pose.translation.isfinite().all()
        assert likelihood.isfinite().all()


@pytest.mark.parametrize("tilt", [0.0, 0.5, 1.0])
def test_the_head_solves_flat_objects(tilt):
    plane = torch.tensor([[x, y, 0.0] for x in (-1.0, 0.0, 1.0) for y in (-1.0, 0.0, 1.0)]).double()[None]
    pose = Pose(so3.exp(torch.tensor([[tilt, 0.0, 0.0]]).double()), torch.tensor([[0.1, 0.0, 6.0]]).double())
    points = pose.transform(plane)
    problem = pnp_net.CanonicalProblem(points[..., :2] / points[..., 2:], plane, torch.full((1, 9), 1000.0).double())
    weights = torch.ones(1, 9).double()
    estimate = pnp_net.scaled_orthographic_pose(problem, weights, torch.zeros(1, 9).double())
    for _ in range(10):
        estimate = pnp_net.scaled_orthographic_pose(problem, weights, problem.depth_ratio(estimate))
    estimate = pnp_net.gauss_newton(problem, estimate, weights, 3)
    assert so3.angle_between(estimate.rotation, pose.rotation) < math.radians(1.0)


def test_missing_or_wrong_weights_are_named(tmp_path):
    with pytest.raises(ValueError, match="no file"):
        pnp_net.load_network(tmp_path / "missing.safetensors")
    (tmp_path / "wrong.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"wrong\.safetensors"):
        pnp_net.load_network(tmp_path / "wrong.safetensors")


def test_the_weights_are_small():
    assert pnp_net.WEIGHTS.stat().st_size < 5e6
