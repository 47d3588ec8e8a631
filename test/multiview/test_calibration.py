"""Calibration against OpenCV on real images, and against the truth on synthetic views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import so3
from pnp_ros.multiview.calibration import CalibrationError, board_points, calibrate, detect_board
from pnp_ros.types import Pose

CHESSBOARD = Path(__file__).parents[3] / "shared" / "data" / "chessboard"
TRUTH = {
    "plumb_bob": (CameraModel.BROWN_CONRADY, [520.0, 515.0, 330.0, 236.0], [-0.28, 0.08, 1e-3, -5e-4, 0.01]),
    "rational_polynomial": (
        CameraModel.BROWN_CONRADY,
        [300.0, 298.0, 330.0, 236.0],
        [0.4, 0.05, 1e-3, -5e-4, 0.01, 0.75, 0.1, 0.02],
    ),
    "equidistant": (CameraModel.KANNALA_BRANDT, [230.0, 231.0, 322.0, 238.0], [-0.02, 0.005, -0.003, 0.0005]),
}


def synthetic_views(distortion_model: str, views: int, sigma: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image points (V, N, 2), board points (N, 3) and the true parameters (P)."""
    model, intrinsics, coefficients = TRUTH[distortion_model]
    padding = (14 if model is CameraModel.BROWN_CONRADY else 4) - len(coefficients)
    distortion = torch.tensor(coefficients + [0.0] * padding, dtype=torch.float64)
    camera = Camera(model, torch.tensor(intrinsics, dtype=torch.float64), distortion, 640, 480)
    board = board_points(9, 6, 0.025)
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return 2.0 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1.0

    rotation = so3.exp(uniform(views, 3) * torch.tensor([0.7, 0.7, 1.5], dtype=torch.float64))
    depth = 5e-4 * intrinsics[0] + 0.03 * uniform(views)
    pixels = torch.tensor([320.0, 240.0]) + uniform(views, 2) * torch.tensor([130.0, 80.0])
    centre = depth[:, None] * camera.unproject(pixels[:, None])[:, 0]
    pose = Pose(rotation, centre - (rotation @ board.mean(0)[:, None]).squeeze(-1))
    noise = torch.randn(views, len(board), 2, generator=generator, dtype=torch.float64)
    return (
        camera.project(pose.transform(board)) + sigma * noise,
        board,
        torch.tensor(intrinsics + coefficients).double(),
    )


@pytest.mark.parametrize("distortion_model", list(TRUTH))
def test_synthetic_camera_is_found_again(distortion_model: str) -> None:
    pixels, board, truth = synthetic_views(distortion_model, 12, sigma=1e-5, seed=1)
    result = calibrate(pixels, board, 640, 480, distortion_model)
    assert result.converged
    assert result.rms < 1e-3
    camera = result.camera
    ray = camera.unproject(torch.tensor([[100.0, 80.0], [320.0, 240.0], [560.0, 400.0]], dtype=torch.float64))
    padding = camera.distortion.shape[-1] - (len(truth) - 4)
    true_camera = Camera(camera.model, truth[:4], torch.nn.functional.pad(truth[4:], (0, padding)), 640, 480)
    torch.testing.assert_close(camera.project(ray), true_camera.project(ray), rtol=0, atol=5e-3)


@pytest.mark.parametrize("distortion_model", ["plumb_bob", "equidistant"])
def test_uncertainties_are_calibrated(distortion_model: str) -> None:
    normalised = []
    for seed in range(6):
        pixels, board, truth = synthetic_views(distortion_model, 10, sigma=0.3, seed=100 + seed)
        result = calibrate(pixels, board, 640, 480, distortion_model)
        error = result.values - truth
        normalised.append(float(error @ torch.linalg.solve(result.covariance, error)) / len(truth))
        assert result.rms == pytest.approx(0.3 * 2**0.5, rel=0.1)
    # mean of 6 chi-square variables of 9 (or 8) degrees of freedom over their number: sigma 0.2
    assert 0.4 < np.mean(normalised) < 1.8


def test_real_chessboard_agrees_with_opencv() -> None:
    if not CHESSBOARD.is_dir():
        pytest.skip(f"no chessboard images at {CHESSBOARD}")
    import cv2

    files = sorted(CHESSBOARD.glob("left[0-9]*.jpg"))
    corners = [detect_board(cv2.imread(str(file)), 9, 6) for file in files]
    seen = [c for c in corners if c is not None]
    assert len(seen) >= 12
    board = board_points(9, 6, 0.025)
    result = calibrate(torch.stack(seen), board, 640, 480)
    points = [board.numpy().astype(np.float32)] * len(seen)
    reference = cv2.calibrateCameraExtended(
        points, [c.numpy().astype(np.float32) for c in seen], (640, 480), None, None
    )
    rms, matrix, distortion, sigmas = reference[0], reference[1], reference[2].ravel(), reference[5].ravel()[:9]
    assert result.rms == pytest.approx(rms, rel=0.02)
    expected = torch.tensor([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], *distortion])
    assert ((result.values - expected).abs() / result.sigmas).max() < 0.2
    torch.testing.assert_close(result.sigmas, torch.from_numpy(sigmas), rtol=0.1, atol=0)


def test_views_that_do_not_determine_the_camera_are_refused() -> None:
    pixels, board, _ = synthetic_views("plumb_bob", 4, sigma=0.1, seed=0)
    with pytest.raises(CalibrationError, match="3 views"):
        calibrate(pixels[:2], board, 640, 480)
    # A board seen from straight ahead only: focal length and distance cannot be told apart.
    depth = torch.tensor([0.25, 0.3, 0.35, 0.4], dtype=torch.float64)
    pixels_ahead = 320.0 + 500.0 * (board[:, :2] - 0.08) / depth[:, None, None]
    with pytest.raises(CalibrationError, match="tilt the board"):
        calibrate(pixels_ahead, board, 640, 480)
    with pytest.raises(ValueError, match="distortion_model"):
        calibrate(pixels, board, 640, 480, "pincushion")
    with pytest.raises(ValueError, match="image_points, object_points"):
        calibrate(pixels, board[:-1], 640, 480)


def tilted_views(tilt: float, seed: int) -> tuple[Tensor, Tensor]:
    """Twelve views with f = 900 px and 0.2 px of noise, the board tilted by up to ``tilt`` degrees."""
    lens = torch.tensor([-0.2, 0.05] + [0.0] * 12, dtype=torch.float64)
    intrinsics = torch.tensor([900.0, 900.0, 320.0, 240.0], dtype=torch.float64)
    camera, board = Camera(CameraModel.BROWN_CONRADY, intrinsics, lens, 640, 480), board_points(9, 6, 0.025)
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return 2.0 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1.0

    limits = torch.tensor([tilt * np.pi / 180, tilt * np.pi / 180, 1.5], dtype=torch.float64)
    rotation = so3.exp(uniform(12, 3) * limits)
    depth = 0.62 * (1 + 0.3 * uniform(12))
    pixels = torch.tensor([320.0, 240.0]) + uniform(12, 2) * torch.tensor([110.0, 60.0])
    centre = depth[:, None] * camera.unproject(pixels[:, None])[:, 0]
    pose = Pose(rotation, centre - (rotation @ board.mean(0)[:, None]).squeeze(-1))
    noise = torch.randn(12, 54, 2, generator=generator, dtype=torch.float64)
    return camera.project(pose.transform(board)) + 0.2 * noise, board


@pytest.mark.parametrize("tilt", [0.5, 1.0, 2.0, 3.0])
def test_views_that_leave_the_focal_length_open_are_refused(tilt: float) -> None:
    """OpenCV gives 240 to 5800 px for 900 here, with deviations of 0.1 px."""
    pixels, board = tilted_views(tilt, seed=0)
    with pytest.raises(CalibrationError, match=r"do not determine the focal length .*; tilt the board by 20"):
        calibrate(pixels, board, 640, 480)


@pytest.mark.parametrize("tilt", [10.0, 30.0])
def test_more_tilt_tells_it(tilt: float) -> None:
    pixels, board = tilted_views(tilt, seed=0)
    result = calibrate(pixels, board, 640, 480)
    assert abs(float(result.values[0]) - 900.0) < 3.0 * float(result.sigmas[0])
    assert float(result.sigmas[0]) < 20.0


@pytest.mark.parametrize("fixed", [("k3",), ("k2", "k3", "p1", "p2"), ("cx", "cy", "k3")])
def test_what_is_held_stays(fixed: tuple[str, ...]) -> None:
    pixels, board = tilted_views(30.0, seed=1)
    result = calibrate(pixels, board, 640, 480, fixed=fixed)
    assert set(result.names) == {"fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3"} - set(fixed)
    assert len(result.values) == len(result.sigmas) == len(result.names)
    places = {"k1": 0, "k2": 1, "p1": 2, "p2": 3, "k3": 4}
    for name in fixed:
        expected = {"cx": 319.5, "cy": 239.5}.get(name, 0.0)
        value = result.camera.intrinsics[2 + "xy".index(name[1])] if name[0] == "c" else None
        assert float(result.camera.distortion[places[name]] if value is None else value) == expected
    free = calibrate(pixels, board, 640, 480)
    assert (result.sigmas[0] < free.sigmas[0]) or "k3" not in fixed
    with pytest.raises(ValueError, match="fixed: expected of cx, cy, k1"):
        calibrate(pixels, board, 640, 480, fixed=("k7",))


def test_holding_k3_on_real_images_agrees_with_opencv() -> None:
    if not CHESSBOARD.is_dir():
        pytest.skip(f"no chessboard images at {CHESSBOARD}")
    import cv2

    for side in ("left", "right"):
        found = [detect_board(cv2.imread(str(f)), 9, 6) for f in sorted(CHESSBOARD.glob(f"{side}[0-9]*.jpg"))]
        seen = [corners for corners in found if corners is not None]
        board = board_points(9, 6, 0.025)
        result = calibrate(torch.stack(seen), board, 640, 480, fixed=("k3",))
        rms, matrix, distortion, *_ = cv2.calibrateCamera(
            [board.numpy().astype(np.float32)] * len(seen),
            [c.numpy().astype(np.float32) for c in seen],
            (640, 480),
            None,
            None,
            flags=cv2.CALIB_FIX_K3,
        )
        assert result.rms == pytest.approx(rms, rel=0.02)
        expected = torch.tensor([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], *distortion.ravel()[:4]])
        assert ((result.values - expected).abs() / result.sigmas).max() < 0.2


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("distortion_model", list(TRUTH))
def test_where_gradients_are_off_the_camera_is_the_same(distortion_model: str, mode: type[torch.no_grad]) -> None:
    pixels, board, _ = synthetic_views(distortion_model, 8, sigma=0.1, seed=3)
    expected = calibrate(pixels, board, 640, 480, distortion_model)
    with mode():
        found = calibrate(pixels.clone(), board.clone(), 640, 480, distortion_model)
    torch.testing.assert_close(found.values, expected.values)


def test_arrays_are_taken_without_rounding() -> None:
    pixels, board, _ = synthetic_views("plumb_bob", 8, sigma=0.1, seed=3)
    found = calibrate(pixels.numpy(), board.numpy(), 640, 480)
    torch.testing.assert_close(found.values, calibrate(pixels, board, 640, 480).values, rtol=0, atol=0)


def test_no_board_is_no_detection() -> None:
    assert detect_board(np.full((240, 320, 3), 128, dtype=np.uint8), 9, 6) is None


RATIONAL = {  # focal length (px), width, height, coefficients
    "moderate": (500.0, 640, 480, [0.5, 0.2, 1e-3, -1e-3, 0.02, 0.6, 0.3, 0.05]),
    "depth camera": (610.0, 1280, 720, [0.52, -2.7, 4e-4, -2e-4, 1.55, 0.4, -2.5, 1.47]),
    "wide": (290.0, 640, 400, [9.4, 5.6, -2e-4, 3e-5, 0.17, 9.8, 8.6, 1.2]),
    "without a denominator": (500.0, 640, 480, [-0.3, 0.1, 1e-3, -1e-3, 0.0, 0.0, 0.0, 0.0]),
    "no distortion": (500.0, 640, 480, [0.0] * 8),
}


def rational_views(name: str, sigma: float, seed: int) -> tuple[Camera, Tensor, Tensor]:
    """The true camera, twenty views in which the whole board is seen, and the board."""
    focal, width, height, coefficients = RATIONAL[name]
    intrinsics = torch.tensor([focal, focal, width / 2.0, height / 2.0], dtype=torch.float64)
    distortion = torch.tensor(coefficients + [0.0] * 6, dtype=torch.float64)
    camera, board = Camera(CameraModel.BROWN_CONRADY, intrinsics, distortion, width, height), board_points(9, 6, 0.025)
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height], dtype=torch.float64)
    seen: list[Tensor] = []
    while len(seen) < 20:
        tilt, place = (2.0 * torch.rand(3, generator=generator, dtype=torch.float64) - 1.0 for _ in range(2))
        depth = focal * (6e-4 + 2e-4 * place[2])
        centre = torch.cat([0.8 * depth * size / (2.0 * focal) * place[:2], depth[None]])
        rotation = so3.exp(0.75 * tilt)
        pixels = camera.project(Pose(rotation, centre - rotation @ board.mean(0)).transform(board))
        if bool(((pixels > 0) & (pixels < size)).all()):
            seen.append(pixels + sigma * torch.randn(54, 2, generator=generator, dtype=torch.float64))
    return camera, torch.stack(seen), board


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("name", list(RATIONAL))
def test_coefficients_that_are_open_do_not_keep_a_camera_from_being_known(name: str, sigma: float, seed: int) -> None:
    """Numerator and denominator of the rational lens can trade: the coefficients are open, the lens is not."""
    camera, pixels, board = rational_views(name, sigma, seed)
    result = calibrate(pixels, board, camera.width, camera.height, "rational_polynomial")
    assert result.converged
    assert result.rms == pytest.approx(sigma * 2**0.5, rel=0.1, abs=2e-3)
    assert float(((result.values[:4] - camera.intrinsics) / result.sigmas[:4]).abs().max()) < 4.5
    # where the image was seen, the lens is as wrong as the parameters' covariance says
    size = torch.tensor([camera.width, camera.height], dtype=torch.float64)
    rays = camera.unproject(size * torch.tensor([[0.5, 0.5], [0.3, 0.3], [0.8, 0.4], [0.2, 0.7]]).double())

    def lens(values: Tensor) -> Tensor:
        distortion = torch.nn.functional.pad(values[4:], (0, 6))
        return Camera(camera.model, values[:4], distortion, camera.width, camera.height).project(rays).flatten()

    slopes = torch.autograd.functional.jacobian(lens, result.values)
    deviations = (slopes @ result.covariance * slopes).sum(-1).sqrt()
    error = (result.camera.project(rays) - camera.project(rays)).flatten()
    assert (error.abs() < 4.5 * deviations + 1e-3).all()


@pytest.mark.parametrize("name", ["moderate", "depth camera", "without a denominator"])
def test_the_rational_lens_agrees_with_opencv(name: str) -> None:
    import cv2

    camera, pixels, board = rational_views(name, 0.1, seed=2)
    result = calibrate(pixels, board, camera.width, camera.height, "rational_polynomial")
    rms, matrix, *_ = cv2.calibrateCamera(
        [board.numpy().astype(np.float32)] * len(pixels),
        list(pixels.numpy().astype(np.float32)),
        (camera.width, camera.height),
        None,
        None,
        flags=cv2.CALIB_RATIONAL_MODEL,
    )
    assert result.rms == pytest.approx(rms, rel=0.01)
    assert abs(float(result.values[0]) - matrix[0, 0]) < float(result.sigmas[0])


@pytest.mark.parametrize("distortion_model", list(TRUTH))
def test_every_lens_refuses_views_from_straight_ahead(distortion_model: str) -> None:
    for tilt in (0.5, 2.0):
        pixels, board = tilted_views(tilt, seed=0)
        with pytest.raises(CalibrationError, match=r"focal length \(\d+ \+- \d+ px\)"):
            calibrate(pixels, board, 640, 480, distortion_model)
