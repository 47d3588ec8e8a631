"""Every lens model against OpenCV, finite differences and its own inverse, in float64."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pnp_ros.cameras.camera import Camera, CameraModel, camera_from_info

K = [800.0, 0.0, 325.5, 0.0, 790.0, 238.0, 0.0, 0.0, 1.0]
BROWN = [0.1, -0.2, 0.001, 0.002, 0.05, 0.02, 0.03, -0.01, 0.001, 0.002, 0.003, 0.001, 0.05, -0.03]
FISHEYE = [0.05, -0.02, 0.01, -0.003]
LENSES = [("plumb_bob", BROWN[:count]) for count in (0, 4, 5, 8, 12, 14)] + [("equidistant", FISHEYE)]
lens = pytest.mark.parametrize(("model", "d"), LENSES, ids=[f"{model}-{len(d)}" for model, d in LENSES])


def make(model: str, d: list[float], dtype: torch.dtype = torch.float64) -> Camera:
    return camera_from_info(640, 480, model, d, K, dtype=dtype)


def scene(count: int = 200) -> torch.Tensor:
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return points * torch.tensor([0.5, 0.4, 0.3]) + torch.tensor([0.0, 0.0, 2.0])


@lens
def test_projects_like_opencv(model: str, d: list[float]) -> None:
    matrix, points, zero = np.reshape(K, (3, 3)), scene().numpy(), np.zeros(3)
    if model == "equidistant":
        expected, _ = cv2.fisheye.projectPoints(points[:, None], zero, zero, matrix, np.array(d))
    else:
        expected, _ = cv2.projectPoints(points, zero, zero, matrix, np.array(d) if d else None)
    np.testing.assert_allclose(make(model, d).project(scene()), expected.reshape(-1, 2), rtol=0, atol=1e-9)


@lens
def test_jacobian_is_the_derivative(model: str, d: list[float]) -> None:
    camera, points, step = make(model, d), scene(), 1e-6
    _, jacobian = camera.project_with_jacobian(points)
    for axis in range(3):
        shift = step * torch.eye(3, dtype=torch.float64)[axis]
        difference = (camera.project(points + shift) - camera.project(points - shift)) / (2 * step)
        torch.testing.assert_close(jacobian[..., axis], difference, atol=1e-5, rtol=1e-6)


@lens
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_unproject_inverts_project(model: str, d: list[float], dtype: torch.dtype, tolerance: float) -> None:
    camera, points = make(model, d, dtype), scene().to(dtype)
    pixels = camera.project(points)
    bearings = camera.unproject(pixels)
    torch.testing.assert_close(bearings.norm(dim=-1), torch.ones(200, dtype=dtype))
    torch.testing.assert_close(bearings, torch.nn.functional.normalize(points, dim=-1), atol=tolerance / 10, rtol=0)
    torch.testing.assert_close(camera.project(bearings), pixels, atol=tolerance, rtol=0)


@lens
def test_gradients_are_right_for_points_pixels_and_parameters(model: str, d: list[float]) -> None:
    camera, points = make(model, d), scene(5)
    pixels = camera.project(points)

    def forward(points: torch.Tensor, intrinsics: torch.Tensor, distortion: torch.Tensor) -> torch.Tensor:
        return Camera(camera.model, intrinsics, distortion, 640, 480).project(points)

    def backward(pixels: torch.Tensor, intrinsics: torch.Tensor, distortion: torch.Tensor) -> torch.Tensor:
        return Camera(camera.model, intrinsics, distortion, 640, 480).unproject(pixels)

    parameters = [camera.intrinsics.requires_grad_(), camera.distortion.requires_grad_()]
    assert torch.autograd.gradcheck(forward, [points.requires_grad_(), *parameters], atol=1e-4)
    assert torch.autograd.gradcheck(backward, [pixels.detach().requires_grad_(), *parameters], atol=1e-6)


@lens
def test_a_batch_of_cameras_equals_the_loop(model: str, d: list[float]) -> None:
    camera = make(model, d)
    factors = torch.tensor([0.9, 1.0, 1.1], dtype=torch.float64)[:, None]
    batch = Camera(camera.model, factors * camera.intrinsics, factors * camera.distortion, 640, 480)
    points = scene(12).reshape(3, 4, 3)
    pixels = batch.project(points)
    bearings = batch.unproject(pixels)
    for i in range(3):
        single = Camera(camera.model, batch.intrinsics[i], batch.distortion[i], 640, 480)
        torch.testing.assert_close(pixels[i], single.project(points[i]))
        torch.testing.assert_close(bearings[i], single.unproject(pixels[i]))


def test_fisheye_sees_beyond_ninety_degrees() -> None:
    camera = make("fisheye", [0.05, -0.01, 0.001, 0.0])
    angles = torch.linspace(0.0, 1.9, 50, dtype=torch.float64)
    rays = torch.stack([angles.sin() * 0.6, angles.sin() * 0.8, angles.cos()], dim=-1)
    torch.testing.assert_close(camera.unproject(camera.project(rays)), rays, atol=1e-12, rtol=0)


def test_fisheye_gives_the_turning_point_for_pixels_that_no_ray_reaches() -> None:
    camera = make("fisheye", [0.0, -0.1, 0.0, 0.0])  # radius theta - 0.1 theta^5 turns at 2^(1/4)
    pixels = torch.tensor([[5000.0, 238.0]], dtype=torch.float64)
    angle = torch.acos(camera.unproject(pixels)[0, 2]).item()
    assert angle == pytest.approx(2**0.25, abs=0.02)


@lens
def test_on_the_axis_value_and_gradient_are_those_of_the_limit(model: str, d: list[float]) -> None:
    camera = make(model, d)
    axis = torch.tensor([[0.0, 0.0, 2.0]], dtype=torch.float64, requires_grad=True)
    near = torch.tensor([[1e-7, -1e-7, 2.0]], dtype=torch.float64)
    pixels, jacobian = camera.project_with_jacobian(axis)
    near_pixels, near_jacobian = camera.project_with_jacobian(near)
    torch.testing.assert_close(pixels, near_pixels, atol=1e-4, rtol=0)
    torch.testing.assert_close(jacobian, near_jacobian, atol=1e-3, rtol=0)
    (gradient,) = torch.autograd.grad(pixels.sum(), axis)
    torch.testing.assert_close(gradient, jacobian.sum(-2))
    centre = pixels.detach().requires_grad_()
    assert torch.autograd.grad(camera.unproject(centre).sum(), centre)[0].isfinite().all()


@lens
@given(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3))
def test_every_point_and_pixel_gives_finite_values(model: str, d: list[float], values: list[float]) -> None:
    camera = make(model, d, torch.float32)
    point = torch.tensor([values], requires_grad=True)
    pixels, jacobian = camera.project_with_jacobian(point)
    assert pixels.isfinite().all()
    assert jacobian.isfinite().all()
    assert torch.autograd.grad(pixels.sum(), point)[0].isfinite().all()
    bearing = camera.unproject(100 * point[:, :2])
    assert bearing.isfinite().all()
    assert bearing.norm().item() == pytest.approx(1.0, abs=1e-5)


def test_whole_numbers_make_a_camera_of_floats() -> None:
    assert Camera.pinhole(600, 600, 320, 240, 640, 480).intrinsics.dtype == torch.float32


def test_points_behind_a_pinhole_land_outside_on_their_side() -> None:
    pixels = Camera.pinhole(800, 800, 320, 240, 640, 480).project(torch.tensor([[0.1, -0.2, -1.0]]))[0]
    assert pixels[0] > 640
    assert pixels[1] < 0


@lens
def test_crop_cuts_and_scales_pixels(model: str, d: list[float]) -> None:
    camera = make(model, d)
    cropped = camera.crop(100, 50, 200, 120, 64, 96)
    assert (cropped.width, cropped.height) == (64, 96)
    pixels = camera.project(scene())
    window = (pixels - torch.tensor([100, 50]) + 0.5) * torch.tensor([64 / 200, 96 / 120]) - 0.5
    torch.testing.assert_close(cropped.project(scene()), window)


def test_crop_agrees_with_opencv_resize() -> None:
    camera = Camera.pinhole(100, 100, 31.5, 31.5, 64, 64)
    image = np.zeros((64, 64), np.float32)
    image[20:24, 36:40] = 1.0  # a square whose centre is at (37.5, 21.5)
    small = cv2.resize(image[8:56, 16:64], (12, 12), interpolation=cv2.INTER_AREA)
    rows, columns = np.nonzero(small)
    centre = (columns.mean(), rows.mean())
    ray = camera.unproject(torch.tensor([[37.5, 21.5]]))
    expected = camera.crop(16, 8, 48, 48, 12, 12).project(ray)[0]
    assert centre == pytest.approx(tuple(expected.tolist()), abs=1e-4)


def test_crop_of_a_batch_of_windows() -> None:
    camera = Camera.pinhole(800, 790, 320, 240, 640, 480)
    x, size = torch.tensor([10.0, 50.5]), torch.tensor([100.0, 33.0])
    batch = camera.crop(x, 2 * x, size, size, 64, 64)
    for i in range(2):
        single = camera.crop(x[i].item(), 2 * x[i].item(), size[i].item(), size[i].item(), 64, 64)
        torch.testing.assert_close(batch.intrinsics[i], single.intrinsics)


def test_matrix_and_to() -> None:
    camera = make("plumb_bob", BROWN).to(dtype=torch.float32)
    assert camera.distortion.dtype == torch.float32
    torch.testing.assert_close(camera.matrix(), torch.tensor(K).reshape(3, 3))


def test_camera_refuses_wrong_shapes() -> None:
    with pytest.raises(ValueError, match="intrinsics"):
        Camera(CameraModel.PINHOLE, torch.ones(3), torch.zeros(0), 64, 64)
    with pytest.raises(ValueError, match="distortion"):
        Camera(CameraModel.KANNALA_BRANDT, torch.ones(4), torch.zeros(5), 64, 64)
    with pytest.raises(ValueError, match="height"):
        Camera.pinhole(1, 1, 0, 0, 64, 0)
