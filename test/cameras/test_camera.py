"""Every lens model against OpenCV, finite differences and its own inverse, in float64."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pnp_ros.cameras.brown_conrady import turning_radius
from pnp_ros.cameras.camera import Camera, CameraModel, camera_from_info

BEYOND_FOLD = Path(__file__).parents[3] / "shared/data/reports/12_point_beyond_fold.json"
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


# where the radius turns back: r - 0.3 r^3 at 1/sqrt(0.9), 0.7027 out; theta - 0.1 theta^5 at 2^(1/4), 0.9514 out
@pytest.mark.parametrize(
    ("model", "d", "largest"), [("plumb_bob", [-0.3], 0.70273), ("fisheye", [0.0, -0.1, 0.0, 0.0], 0.95137)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixels_beyond_the_fold_have_no_bearing(model: str, d: list[float], largest: float, dtype: torch.dtype) -> None:
    camera = make(model, d, dtype)
    share = torch.tensor([0.0, 0.5, 0.97, 0.995, 1.005, 1.03, 2.0, 9.0], dtype=dtype)
    angle = torch.linspace(0.0, 6.0, 8, dtype=dtype)
    direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
    pixels = camera.intrinsics[2:] + camera.intrinsics[:2] * (largest * share)[:, None] * direction
    pixels.requires_grad_()
    bearings = camera.unproject(pixels)
    assert bearings.isfinite().all(-1).tolist() == [True] * 4 + [False] * 4
    torch.testing.assert_close(camera.project(bearings[:4]), pixels[:4], atol=0.02, rtol=0)
    (gradient,) = torch.autograd.grad(bearings[[0, 1, 2, 4, 5, 6, 7]].nan_to_num().sum(), pixels)
    assert gradient.isfinite().all()
    assert gradient[1].any()
    assert not gradient[4:].any()


@pytest.mark.parametrize("k", [[-0.48, 0.18], [-0.28, 0.05, 0.0, 0.0, 0.0], [0.3, -2.0, 0.0, 0.0, 4.0]])
def test_a_bearing_is_that_of_the_first_branch(k: list[float]) -> None:
    camera = make("plumb_bob", k)
    turn = turning_radius(camera.distortion).item()
    radius = torch.linspace(0.01, min(turn, 3.0) * 0.99, 50, dtype=torch.float64)
    rays = torch.stack([0.6 * radius, 0.8 * radius, torch.ones_like(radius)], dim=-1)
    found = camera.unproject(camera.project(rays))
    torch.testing.assert_close(found[:, :2] / found[:, 2:], rays[:, :2], atol=1e-5, rtol=0)


@pytest.mark.skipif(not BEYOND_FOLD.is_file(), reason="no public reports on this machine")
def test_the_reported_point_beyond_the_fold() -> None:
    case = json.loads(BEYOND_FOLD.read_text())
    camera = Camera.from_matrix(case["K"], case["D"], width=case["width"], height=case["height"])
    reached = camera.unproject(torch.tensor(case["image_points"], dtype=torch.float32)).isfinite().all(-1)
    assert int(reached.sum()) == 3


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
    if not bearing.isnan().all():  # beyond the fold
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


@pytest.mark.parametrize(
    ("intrinsics", "message"),
    [
        ([torch.nan, 600.0, 320.0, 240.0], "intrinsics: expected finite numbers, got nan"),
        ([600.0, 600.0, torch.inf, 240.0], "intrinsics: expected finite numbers within torch.float32"),
        ([3.5e38, 600.0, 320.0, 240.0], "intrinsics: expected finite numbers within torch.float32"),
        ([-1.0, 600.0, 320.0, 240.0], "focal lengths fx, fy > 0 px, got -1"),
        ([600.0, 0.0, 320.0, 240.0], "focal lengths fx, fy > 0 px, got 0"),
    ],
)
def test_camera_refuses_values_that_no_camera_has(intrinsics: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Camera.pinhole(*intrinsics, 640, 480)
    batch = torch.tensor([[600.0, 600.0, 320.0, 240.0], intrinsics])
    with pytest.raises(ValueError, match=message):
        Camera(CameraModel.PINHOLE, batch, torch.zeros(2, 0), 640, 480)


@pytest.mark.parametrize("sigmas", [(1.0,), (1.0, 1.0, -1.0, 1.0), (1.0, 1.0, 1.0, math.nan)])
def test_camera_refuses_sigmas_that_are_none(sigmas: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="sigmas: expected four numbers of 0 or more, or none"):
        Camera(CameraModel.PINHOLE, torch.tensor([500.0, 500.0, 320.0, 240.0]), torch.zeros(0), 640, 480, sigmas)


def test_camera_refuses_what_is_no_camera() -> None:
    matrix = torch.tensor(K).reshape(3, 3)
    with pytest.raises(ValueError, match=r"intrinsics: .*got \(3, 3\); Camera.from_matrix takes a matrix K"):
        Camera(CameraModel.PINHOLE, matrix, torch.zeros(0), 640, 480)
    with pytest.raises(ValueError, match=r"intrinsics: expected a tensor .* got ndarray"):
        Camera(CameraModel.PINHOLE, matrix.numpy(), torch.zeros(0), 640, 480)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"intrinsics: expected a tensor .* got torch\.int64"):
        Camera(CameraModel.PINHOLE, torch.ones(4, dtype=torch.int64), torch.zeros(0), 640, 480)
    with pytest.raises(ValueError, match="width: expected a whole number"):
        Camera.pinhole(600, 600, 320, 240, 640.5, 480)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="distortion: expected finite"):
        Camera(CameraModel.KANNALA_BRANDT, torch.ones(4), torch.full((4,), torch.nan), 640, 480)
    with pytest.raises(ValueError, match="no_such_lens"):
        Camera("no_such_lens", torch.ones(4), torch.zeros(0), 640, 480)  # type: ignore[arg-type]


def test_from_matrix_takes_what_opencv_gives() -> None:
    matrix, d = np.reshape(K, (3, 3)), np.array([[-0.3, 0.1, 0.001, 0.002, 0.01]])
    camera = Camera.from_matrix(matrix, d, width=640, height=480, dtype=torch.float64)
    assert (camera.width, camera.height, camera.model) == (640, 480, CameraModel.BROWN_CONRADY)
    expected, _ = cv2.projectPoints(scene().numpy(), np.zeros(3), np.zeros(3), matrix, d)
    np.testing.assert_allclose(camera.project(scene()), expected.reshape(-1, 2), rtol=0, atol=1e-9)
    assert Camera.from_matrix(K, width=640, height=480).model is CameraModel.PINHOLE
    fisheye = Camera.from_matrix(torch.tensor(K).reshape(3, 3), FISHEYE, width=640, height=480, model="equidistant")
    assert fisheye.model is CameraModel.KANNALA_BRANDT
    with pytest.raises(ValueError, match="expected 9 numbers, got 4"):
        Camera.from_matrix([600, 600, 320, 240], width=640, height=480)
