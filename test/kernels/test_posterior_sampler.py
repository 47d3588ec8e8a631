"""The cost of many poses against its plain torch form, values and gradients."""

from pathlib import Path

import pytest
import torch
import warp as wp

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import so3
from pnp_ros.kernels import lm_launch, posterior_sampler, posterior_sampler_reference, posterior_warp
from pnp_ros.kernels.posterior_sampler import PoseCosts
from pnp_ros.kernels.robust import RobustKind
from pnp_ros.types import Correspondences


def _problem(batch, points, modes, samples, dtype=torch.float32, device="cpu"):
    """Points, and poses that are differences to the first of each mode."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(batch, points, 2, 3, generator=generator)
    object_points = torch.randn(batch, points, 3, generator=generator)
    rotation = so3.random_rotation(batch, modes, samples, generator=generator)
    translation = torch.randn(batch, modes, samples, 3, generator=generator) + torch.tensor([0.0, 0.0, 2.0])
    matrix = torch.cat([rotation, translation[..., None]], dim=-1).flatten(-2).double()
    centre = matrix[:, :, 0]
    offsets = (matrix - centre[:, :, None]).mT.to(dtype)
    min_depth = 0.5 + torch.rand(batch, modes, generator=generator).double()
    leaves = [rows.to(device, dtype).requires_grad_(), object_points.to(device, dtype).requires_grad_()]
    return [*leaves, centre.to(device), min_depth.to(device)], offsets.to(device)


def _plain(problem, offsets, kind):
    """In double precision, with the same leaves."""
    rows, object_points, centre, min_depth = problem
    poses = (centre[..., None] + offsets).mT.flatten(1, 2).unflatten(-1, (3, 4))
    least = min_depth[..., None].expand(-1, -1, offsets.shape[-1]).flatten(1)
    arguments = rows.double(), object_points.double(), poses[..., :3], poses[..., 3], least
    return posterior_sampler_reference.pose_costs(*arguments, kind, 1.5).reshape(*centre.shape[:2], -1)


def _assert_agrees(problem, offsets, kind, rtol):
    costs = PoseCosts(*problem, kind, 1.5)
    values, plain = costs(offsets), _plain(problem, offsets, kind)
    assert not values.requires_grad
    torch.testing.assert_close(values.double(), plain, rtol=rtol, atol=rtol)
    result = costs.differentiable(offsets, values)
    torch.testing.assert_close(result, values)
    weights = torch.linspace(0.1, 1.0, values.numel(), dtype=torch.float64).reshape(values.shape).to(plain)
    got = torch.autograd.grad((result * weights).sum(), problem[:2])
    expected = torch.autograd.grad((plain * weights).sum(), problem[:2])
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b, rtol=10 * rtol, atol=rtol * float(b.abs().max()))


@pytest.mark.parametrize("kind", list(RobustKind))
@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_agrees_with_the_reference(kind, modes, dtype, rtol):
    _assert_agrees(*_problem(2, 21, modes, 7, dtype), kind, rtol)


def test_agrees_with_a_point_for_each_thread_as_on_cuda(monkeypatch):
    monkeypatch.setitem(posterior_sampler._WIDTH, "cpu", 1)
    _assert_agrees(*_problem(2, 21, 2, 7), RobustKind.HUBER, 1e-4)


@pytest.mark.parametrize("points", [0, 1, 16, 17])
def test_any_number_of_points_fills_the_chunks(points):
    problem, offsets = _problem(2, points, 1, 3)
    assert PoseCosts(*problem)(offsets).shape == (2, 1, 3)
    if points > 0:
        _assert_agrees(problem, offsets, RobustKind.GAUSSIAN, 1e-4)


def test_some_points_of_the_comparison_are_held_at_the_least_depth():
    (_, object_points, centre, min_depth), offsets = _problem(2, 21, 1, 7)
    matrix = (centre[..., None] + offsets).mT.unflatten(-1, (3, 4))
    depth = (object_points.double()[:, None, None] @ matrix[..., :3].mT)[..., 2] + matrix[..., None, 2, 3]
    held = (depth < min_depth[..., None, None]).double().mean()
    assert 0.05 < held < 0.5


def test_single_precision_resolves_poses_within_its_own_resolution():
    (rows, object_points, centre, min_depth), _ = _problem(1, 64, 1, 1, torch.float64)
    # A million standard deviations per unit: steps of 1e-7, the resolution of float32, count.
    matrix = centre[0, 0].reshape(3, 4)
    points = object_points.detach() @ matrix[:, :3].mT + matrix[:, 3]
    rows = rows.detach().clone()
    rows[..., :2] *= 1e6
    plane = points[..., :2] / points[..., 2:]
    rows[..., 2] = torch.randn(1, 64, 2, dtype=torch.float64) - (rows[..., :2] @ plane[..., None]).squeeze(-1)
    rows, object_points = rows.float(), object_points.detach().float()
    offsets = 1e-7 * torch.randn(1, 1, 12, 100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    single = PoseCosts(rows, object_points, centre, min_depth)(offsets.float())
    double = PoseCosts(rows.double(), object_points.double(), centre, min_depth)(offsets)
    assert (double - double.mean()).std() > 0.01 * double.mean()
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=0.0)


def test_kernels_compile_for_cuda_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wp.config, "use_precompiled_headers", False)  # 80 MB that nvrtc leaves in the temporary folder
    lm_launch.initialise()
    for kernel in posterior_warp.build(1):
        (cubin,) = wp.compile_aot_module(kernel.module, arch=90, module_dir=tmp_path, use_ptx=False)
        assert cubin.suffix == ".cubin"
        assert cubin.stat().st_size > 5_000


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
    _assert_agrees(*_problem(2, 21, 2, 7, device="cuda"), kind, 1e-4)
