"""The cost of many poses against its plain torch form, values and gradients."""

import pytest
import torch

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import so3
from pnp_ros.kernels import posterior_sampler, posterior_sampler_reference
from pnp_ros.kernels.robust import RobustKind
from pnp_ros.types import Correspondences


def _problem(batch, points, modes, samples, dtype=torch.float64, seed=0, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(batch, points, 2, 3, generator=generator)
    object_points = torch.randn(batch, points, 3, generator=generator)
    rotation = so3.random_rotation(batch, modes, samples, generator=generator)
    translation = torch.randn(batch, modes, samples, 3, generator=generator) + torch.tensor([0.0, 0.0, 2.0])
    matrix = torch.cat([rotation, translation[..., None]], dim=-1).flatten(-2).double()
    centre = matrix[:, :, 0]
    offsets = (matrix - centre[:, :, None]).mT.to(dtype)
    min_depth = 0.5 + torch.rand(batch, modes, generator=generator).double()
    tensors = [rows.to(dtype), object_points.to(dtype), rotation.to(dtype), translation.to(dtype)]
    tensors += [centre, offsets, min_depth]
    return [tensor.to(device) for tensor in tensors]


def _both(problem, kind):
    rows, object_points, rotation, translation, centre, offsets, min_depth = problem
    rows.requires_grad_()
    object_points.requires_grad_()
    features = posterior_sampler.point_features(rows, object_points)
    fused = posterior_sampler.pose_costs(features, centre, offsets, min_depth, kind, 1.5)
    samples = rotation.shape[2]
    plain = posterior_sampler_reference.pose_costs(
        rows,
        object_points,
        rotation.flatten(1, 2),
        translation.flatten(1, 2),
        min_depth.to(rows)[..., None].expand(-1, -1, samples).flatten(1),
        kind,
        1.5,
    )
    return fused, plain.unflatten(1, (-1, samples)), (rows, object_points)


@pytest.mark.parametrize("kind", list(RobustKind))
@pytest.mark.parametrize("modes", [1, 3])
def test_agrees_with_the_reference(kind, modes):
    fused, plain, inputs = _both(_problem(2, 9, modes, 7), kind)
    torch.testing.assert_close(fused, plain, rtol=1e-9, atol=1e-9)
    weights = torch.linspace(0.1, 1.0, fused.numel(), dtype=fused.dtype).reshape(fused.shape)
    got = torch.autograd.grad((fused * weights).sum(), inputs)
    expected = torch.autograd.grad((plain * weights).sum(), inputs)
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_some_points_of_the_comparison_are_held_at_the_least_depth():
    _, object_points, rotation, translation, _, _, min_depth = _problem(2, 9, 1, 7)
    depth = (object_points[:, None, None] @ rotation.mT + translation[..., None, :])[..., 2]
    held = (depth < min_depth[..., None, None]).double().mean()
    assert 0.05 < held < 0.5


def test_more_problems_than_fit_the_buffer(monkeypatch):
    monkeypatch.setitem(posterior_sampler._CHUNK, "cpu", 400)
    fused, plain, inputs = _both(_problem(5, 9, 2, 7), RobustKind.HUBER)
    torch.testing.assert_close(fused, plain, rtol=1e-9, atol=1e-9)
    got = torch.autograd.grad(fused.sum(), inputs)
    expected = torch.autograd.grad(plain.sum(), inputs)
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_known_costs_give_the_same_gradient():
    rows, object_points, _, _, centre, offsets, min_depth = _problem(2, 9, 1, 7)
    features = posterior_sampler.point_features(rows, object_points).requires_grad_()
    costs = posterior_sampler.pose_costs(features, centre, offsets, min_depth)
    again = posterior_sampler.pose_costs(features, centre, offsets, min_depth, known=costs.detach())
    torch.testing.assert_close(again, costs)
    torch.testing.assert_close(
        torch.autograd.grad(again.sum(), features)[0], torch.autograd.grad(costs.sum(), features)[0]
    )


def test_single_precision_resolves_poses_within_its_own_resolution():
    rows, object_points, _, _, centre, _, min_depth = _problem(1, 64, 1, 1)
    # A million standard deviations per unit: steps of 1e-7, the resolution of float32, count.
    rows[..., :2] *= 1e6
    points = object_points @ centre[0, 0].reshape(3, 4)[:, :3].mT + centre[0, 0].reshape(3, 4)[:, 3]
    plane = points[..., :2] / points[..., 2:]
    rows[..., 2] = torch.randn(1, 64, 2, dtype=torch.float64) - (rows[..., :2] @ plane[..., None]).squeeze(-1)
    offsets = 1e-7 * torch.randn(1, 1, 12, 100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    features = posterior_sampler.point_features(rows, object_points).float()
    single = posterior_sampler.pose_costs(features, centre, offsets.float(), min_depth)
    double = posterior_sampler.pose_costs(features.double(), centre, offsets, min_depth)
    assert (double - double.mean()).std() > 0.01 * double.mean()
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("model", list(CameraModel))
def test_whitened_rows_are_the_weighted_reprojection_error(model):
    distortion = {
        CameraModel.PINHOLE: [],
        CameraModel.BROWN_CONRADY: [-0.2, 0.05, 1e-3, -5e-4, 0.01] + [0.0] * 9,
        CameraModel.KANNALA_BRANDT: [0.05, -0.01, 0.003, -0.001],
    }[model]
    intrinsics = torch.tensor([500.0, 520.0, 320.0, 240.0], dtype=torch.float64)
    camera = Camera(model, intrinsics, torch.tensor(distortion, dtype=torch.float64), 640, 480)
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(50, 3, generator=generator, dtype=torch.float64) * 2 - 1 + torch.tensor([0.0, 0.0, 3.0])
    shift = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    weights = torch.rand(50, 2, generator=generator, dtype=torch.float64) + 0.1
    image_points = (camera.project(points) + shift).requires_grad_()
    rows = posterior_sampler.whitened_rows(Correspondences(image_points, points, weights), camera)
    residual = (rows @ points[..., None]).squeeze(-1) / points[..., 2:]
    tolerance = 1e-9 if model is CameraModel.PINHOLE else 2e-2
    torch.testing.assert_close(residual, -weights * shift, rtol=0.0, atol=tolerance)
    (gradient,) = torch.autograd.grad(residual.sum(), image_points)
    torch.testing.assert_close(gradient, -weights)


def test_rays_from_behind_get_no_weight():
    camera = Camera(CameraModel.KANNALA_BRANDT, torch.tensor([200.0, 200.0, 320.0, 240.0]), torch.zeros(4), 640, 480)
    image_points = torch.tensor([[320.0, 240.0], [320.0 + 200.0 * 1.7, 240.0]])  # 97 deg off the axis
    rows = posterior_sampler.whitened_rows(Correspondences.from_sigma(image_points, torch.ones(2, 3)), camera)
    assert rows[0].abs().sum() > 0
    assert rows[1].abs().sum() == 0
    assert rows.isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize("kind", list(RobustKind))
def test_agrees_with_the_reference_on_cuda(kind):
    fused, plain, inputs = _both(_problem(2, 9, 2, 7, device="cuda"), kind)
    torch.testing.assert_close(fused, plain, rtol=1e-9, atol=1e-9)
    for a, b in zip(torch.autograd.grad(fused.sum(), inputs), torch.autograd.grad(plain.sum(), inputs)):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
