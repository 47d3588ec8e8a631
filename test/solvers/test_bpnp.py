"""Gradients of a PnP solution against central differences of an independently re-solved problem."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import se3, so3
from pnp_ros.solvers import bpnp
from pnp_ros.solvers.classical import Classical
from pnp_ros.solvers.levenberg_marquardt import LevenbergMarquardt
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy, Gaussian, GemanMcClure, Huber, RobustLoss
from pnp_ros.types import Correspondences, Pose, PoseEstimate, SolveStatus

DISTORTION = {
    CameraModel.PINHOLE: [],
    CameraModel.BROWN_CONRADY: [-0.3, 0.12, 1e-3, -2e-3, 0.01, 0.02, 0.01, 0.0, 1e-3, 0.0, -1e-3, 0.0, 0.01, -0.02],
    CameraModel.KANNALA_BRANDT: [0.05, -0.02, 0.01, -0.003],
}
LOSSES = [Gaussian(), Huber(), Cauchy(), GemanMcClure()]

UNREFINED = LevenbergMarquardt(max_iterations=0)


def make_camera(model: CameraModel, dtype: torch.dtype = torch.float64) -> Camera:
    intrinsics = torch.tensor([800.0, 790.0, 320.0, 235.0], dtype=dtype)
    return Camera(model, intrinsics, torch.tensor(DISTORTION[model], dtype=dtype), 640, 480)


def make_problem(
    camera: Camera, n: int, batch: int, sigma: float, seed: int = 0, outliers: int = 0
) -> tuple[Correspondences, Pose]:
    generator = torch.Generator().manual_seed(seed)
    dtype = camera.intrinsics.dtype

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=dtype)

    points = 2.0 * uniform(batch, n, 3) - 1.0
    rotation = so3.random_rotation(batch, generator=generator, dtype=dtype)
    translation = torch.cat([uniform(batch, 2) - 0.5, 4.0 + 4.0 * uniform(batch, 1)], dim=-1)
    pose = Pose(rotation, translation)
    noise = torch.randn(batch, n, 2, generator=generator, dtype=dtype)
    pixels = camera.project(pose.transform(points)) + sigma * noise
    pixels[:, :outliers] += 60.0
    weights = (0.5 + uniform(batch, n, 2)) / max(sigma, 1.0)
    return Correspondences(pixels, points, weights), pose


def cost(delta: Tensor, pose: Pose, data: Correspondences, camera: Camera, loss: RobustLoss) -> Tensor:
    """The stated cost, summed over all problems, written as plainly as can be."""
    moved = se3.retract(pose, delta)
    residual = data.weights * (camera.project(moved.transform(data.object_points)) - data.image_points)
    return 0.5 * loss.rho(residual.square().sum(-1)).sum()


def resolve(pose: Pose, data: Correspondences, camera: Camera, loss: RobustLoss) -> Pose:
    """The minima near ``pose``, by Newton's method on automatic second derivatives."""
    for _ in range(3):
        zero = torch.zeros(*pose.translation.shape[:-1], 6, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(cost(zero, pose, data, camera, loss), zero, create_graph=True)
        rows = [torch.autograd.grad(column.sum(), zero, retain_graph=True)[0] for column in gradient.unbind(-1)]
        pose = se3.retract(pose, -torch.linalg.solve(torch.stack(rows, dim=-1), gradient.detach()))
    return pose


def near(pose: Pose, data: Correspondences) -> PoseEstimate:
    """An estimate that a solver might have returned: close to the minimum, not at it."""
    batch = pose.translation.shape[:-1]
    offset = 1e-3 * torch.ones(*batch, 6, dtype=pose.translation.dtype)
    return PoseEstimate(
        se3.retract(pose, offset),
        torch.eye(6).expand(*batch, 6, 6),
        torch.ones_like(data.weights[..., 0]),
        torch.zeros(batch),
        torch.zeros(batch, dtype=torch.int8),
    )


FIELDS = ("image_points", "object_points", "weights", "intrinsics", "distortion")


def split(data: Correspondences, camera: Camera) -> dict[str, Tensor]:
    return {name: getattr(data if hasattr(data, name) else camera, name) for name in FIELDS}


def join(fields: dict[str, Tensor], camera: Camera) -> tuple[Correspondences, Camera]:
    data = Correspondences(fields["image_points"], fields["object_points"], fields["weights"])
    return data, replace(camera, intrinsics=fields["intrinsics"], distortion=fields["distortion"])


def directional(
    data: Correspondences, camera: Camera, pose: Pose, loss: RobustLoss, name: str, towards: Tensor
) -> Tensor:
    """d pose / d step (B, 6) of B problems by a central difference of re-solved problems."""
    batch = len(pose.translation)
    ends = {
        key: torch.cat(2 * [value.expand(batch, *value.shape[-1:]) if value.ndim == 1 else value])
        for key, value in split(data, camera).items()
    }
    h = 1e-5  # small: no residual may cross Huber's kink
    step = h * (towards.expand(batch, -1) if towards.ndim == 1 else towards)
    ends[name] = ends[name] + torch.cat([step, -step])
    twice = Pose.stack([pose, pose])
    twice = Pose(twice.rotation.flatten(0, 1), twice.translation.flatten(0, 1))
    moved = se3.local(twice, resolve(twice, *join(ends, camera), loss)).view(2, batch, 6)
    return (moved[0] - moved[1]) / (2.0 * h)


@pytest.mark.parametrize("model", list(CameraModel))
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize(("n", "sigma"), [(6, 0.0), (6, 2.0), (64, 2.0)])
def test_gradients_are_those_of_the_solution(model: CameraModel, loss: RobustLoss, n: int, sigma: float) -> None:
    camera = make_camera(model)
    batch = 2
    data, true_pose = make_problem(camera, n, batch, sigma, seed=n, outliers=n // 20)
    fields = {name: value.clone().requires_grad_() for name, value in split(data, camera).items()}
    pose = bpnp.implicit_pose(*join(fields, camera), near(true_pose, data), loss)
    solved = Pose(pose.rotation.detach(), pose.translation.detach())
    delta = se3.local(solved, pose)

    generator = torch.Generator().manual_seed(1)
    sizes = {"image_points": 1.0, "object_points": 1e-2, "weights": 1e-1, "intrinsics": 1.0, "distortion": 1e-3}
    leaves = {name: field for name, field in fields.items() if field.numel() > 0}
    rows = [torch.autograd.grad(entry, tuple(leaves.values()), retain_graph=True) for entry in delta.flatten()]
    for name, *by_entry in zip(leaves, *rows):
        towards = sizes[name] * torch.randn(fields[name].shape, generator=generator, dtype=torch.float64)
        computed = torch.stack([(row * towards).sum() for row in by_entry]).reshape(batch, 6)
        expected = directional(data, camera, solved, loss, name, towards)
        for block in (slice(0, 3), slice(3, 6)):
            # Without noise weights do not move the pose: there the floor, 1e-9 m or rad, counts.
            allowed = 1e-5 * expected[:, block].norm(dim=-1).clamp(min=1e-4)
            assert ((computed - expected)[:, block].norm(dim=-1) < allowed).all(), name


def gradients(data: Correspondences, camera: Camera, **options: object) -> tuple[Pose, list[Tensor]]:
    """The implicit pose and the gradients of a fixed random function of it on points and weights."""
    leaves = [x.clone().requires_grad_() for x in (data.image_points, data.object_points, data.weights)]
    estimate = solve_pnp(Correspondences(*leaves), camera, gradient=bpnp.Implicit(), **options)
    generator = torch.Generator().manual_seed(3)
    target = torch.randn(4, 3, generator=generator, dtype=torch.float64).to(leaves[0])
    value = (estimate.pose.matrix()[..., :3, :] * target.mT).sum()
    return estimate.pose, list(torch.autograd.grad(value, leaves))


@pytest.mark.parametrize("method", ["epnp", "sqpnp", "iterative", "poselib"])
def test_any_start_leads_to_the_same_minimum_and_gradient(method: str) -> None:
    camera = make_camera(CameraModel.PINHOLE)
    data, _ = make_problem(camera, 20, 3, sigma=2.0)
    pose, reference = gradients(data, camera, loss=Gaussian())
    other_pose, other = gradients(data, camera, init=Classical(method), solver=UNREFINED, loss=Gaussian())
    torch.testing.assert_close(other_pose.matrix(), pose.matrix(), rtol=0, atol=1e-9)
    for a, b in zip(other, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_float32_agrees_with_float64() -> None:
    camera = make_camera(CameraModel.PINHOLE)
    data, _ = make_problem(camera, 64, 8, sigma=1.0)
    _, reference = gradients(data, camera, loss=Cauchy())
    single = Correspondences(data.image_points.float(), data.object_points.float(), data.weights.float())
    _, computed = gradients(single, camera.to(dtype=torch.float32), loss=Cauchy())
    for a, b in zip(computed, reference, strict=True):
        assert a.dtype == torch.float32
        assert ((a - b).norm() / b.norm()).item() < 1e-3


def test_a_distant_object_origin_does_not_matter() -> None:
    camera = make_camera(CameraModel.PINHOLE, torch.float32)
    data, _ = make_problem(camera, 32, 4, sigma=1.0)
    origin = torch.tensor([30.0, -20.0, 10.0])
    moved = Correspondences(data.image_points, data.object_points + origin, data.weights)
    leaves = []
    for problem in (data, moved):
        image_points = problem.image_points.clone().requires_grad_()
        problem = replace(problem, image_points=image_points)
        estimate = solve_pnp(problem, camera, loss=Gaussian(), gradient=bpnp.Implicit())
        corner = estimate.pose.transform(problem.object_points[:, :3])
        leaves.append(torch.autograd.grad(corner.sum(), image_points)[0])
    assert ((leaves[1] - leaves[0]).norm() / leaves[0].norm()).item() < 1e-3


def test_batch_equals_loop() -> None:
    camera = make_camera(CameraModel.BROWN_CONRADY)
    data, true_pose = make_problem(camera, 12, 4, sigma=1.0)
    leaf = data.image_points.clone().requires_grad_()
    pose = bpnp.implicit_pose(replace(data, image_points=leaf), camera, near(true_pose, data), Huber())
    whole = torch.autograd.grad(pose.matrix().square().sum(), leaf)[0]
    for b in range(4):
        one = Correspondences(data.image_points[b].clone().requires_grad_(), data.object_points[b], data.weights[b])
        start = near(Pose(true_pose.rotation[b], true_pose.translation[b]), one)
        single = bpnp.implicit_pose(one, camera, start, Huber())
        alone = torch.autograd.grad(single.matrix().square().sum(), one.image_points)[0]
        torch.testing.assert_close(alone, whole[b], rtol=1e-8, atol=1e-12)


def test_degenerate_and_bad_problems_get_zero_gradients_and_spare_the_others() -> None:
    camera = make_camera(CameraModel.PINHOLE)
    data, _ = make_problem(camera, 12, 5, sigma=1.0)
    line = torch.linspace(-1, 1, 12, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64)
    data.object_points[1] = line
    data.image_points[2, 3] = torch.nan
    data.weights[3] = 0.0
    data.object_points[4] = data.object_points[4, :1]
    _, computed = gradients(data, camera, loss=Gaussian())
    for gradient in computed:
        assert gradient.isfinite().all()
        assert gradient[0].abs().max() > 0
        assert (gradient[1:] == 0).all()


def test_points_without_weight_may_hold_anything() -> None:
    camera = make_camera(CameraModel.PINHOLE)
    data, true_pose = make_problem(camera, 16, 1, sigma=1.0)
    kept = Correspondences(data.image_points[:, 4:], data.object_points[:, 4:], data.weights[:, 4:])
    data.weights[:, :4] = 0.0
    data.object_points[:, 0] *= -100.0  # behind the camera
    data.image_points[:, 1] = torch.nan
    results = []
    for problem in (data, kept):
        leaf = problem.object_points.clone().requires_grad_()
        pose = bpnp.implicit_pose(replace(problem, object_points=leaf), camera, near(true_pose, problem), Cauchy())
        results.append(torch.autograd.grad(pose.translation.sum(), leaf)[0])
    assert (results[0][:, :4] == 0).all()
    torch.testing.assert_close(results[0][:, 4:], results[1], rtol=1e-9, atol=1e-12)


def test_an_unusable_estimate_keeps_its_pose_and_gets_no_gradient() -> None:
    camera = make_camera(CameraModel.PINHOLE)
    data, true_pose = make_problem(camera, 12, 1, sigma=1.0)
    estimate = near(true_pose, data)
    unusable = replace(estimate, status=torch.full((1,), int(SolveStatus.DEGENERATE), dtype=torch.int8))
    leaf = data.image_points.clone().requires_grad_()
    pose = bpnp.implicit_pose(replace(data, image_points=leaf), camera, unusable, Gaussian())
    torch.testing.assert_close(pose.translation, unusable.pose.translation, rtol=0, atol=1e-12)
    assert (torch.autograd.grad(pose.translation.sum(), leaf)[0] == 0).all()


def test_the_training_loss_leads_keypoints_to_the_target_pose() -> None:
    camera = make_camera(CameraModel.PINHOLE, torch.float32)
    data, _ = make_problem(camera, 16, 2, sigma=10.0)
    _, target = make_problem(camera, 16, 2, sigma=10.0)
    points = data.image_points.clone().requires_grad_()
    optimiser = torch.optim.Adam([points], lr=1.0)
    losses, pose = [], None
    for _ in range(150):
        predicted = replace(data, image_points=points)
        before = None if pose is None else Pose(pose.rotation.detach(), pose.translation.detach())
        pose = solve_pnp(predicted, camera, init=before, loss=Gaussian(), gradient=bpnp.Implicit()).pose
        loss = bpnp.reprojection_loss(pose, predicted, camera, target).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 100.0
    assert losses[-1] < 1e-2 * losses[0]
    assert so3.angle_between(pose.rotation, target.rotation).max().item() < 5e-3


@pytest.mark.parametrize("model", list(DISTORTION))
@pytest.mark.parametrize("with_prior", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inference_mode_gives_the_same_pose(model: CameraModel, with_prior: bool, dtype: torch.dtype) -> None:
    camera = make_camera(model, dtype)
    data, pose = make_problem(camera, 12, 2, sigma=0.5)
    prior = PoseEstimate.of(pose, 1e-4 * torch.eye(6, dtype=dtype)) if with_prior else None
    expected = solve_pnp(data, camera, prior=prior, gradient=bpnp.Implicit())
    with torch.inference_mode():
        copied = Correspondences(data.image_points.clone(), data.object_points.clone(), data.weights.clone())
        found = solve_pnp(copied, camera, prior=prior, gradient=bpnp.Implicit())
    assert bool(found.usable.all())
    assert torch.equal(found.status, expected.status)
    torch.testing.assert_close(found.pose.translation, expected.pose.translation)
    # and what was made in inference mode may stand beside what is differentiated
    image_points = data.image_points.clone().requires_grad_()
    mixed = Correspondences(image_points, copied.object_points, data.weights)
    solve_pnp(mixed, camera, prior=prior, gradient=bpnp.Implicit()).pose.translation.sum().backward()
    assert bool(image_points.grad.isfinite().all())
    assert float(image_points.grad.norm()) > 0
