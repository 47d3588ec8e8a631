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
    for seed in range(12):
        pixels, board, truth = synthetic_views(distortion_model, 10, sigma=0.3, seed=100 + seed)
        result = calibrate(pixels, board, 640, 480, distortion_model)
        error = result.values - truth
        normalised.append(float(error @ torch.linalg.solve(result.covariance, error)) / len(truth))
        assert result.rms == pytest.approx(0.3 * 2**0.5, rel=0.1)
    # mean of 12 chi-square variables of 9 (or 8) degrees of freedom over their number: sigma 0.14
    assert 0.6 < np.mean(normalised) < 1.5


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


def test_no_board_is_no_detection() -> None:
    assert detect_board(np.full((240, 320, 3), 128, dtype=np.uint8), 9, 6) is None
