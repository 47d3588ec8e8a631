import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import CropError, box_from_pose, crop_from_box, crop_from_pose
from pnp_ros.types import Pose


def _camera() -> Camera:
    return Camera.pinhole(600.0, 610.0, 320.0, 240.0, 640, 480)


def _ramp() -> np.ndarray:
    """An image whose red is the column and whose green is the row, as 8-bit values."""
    columns = np.broadcast_to(np.arange(200, dtype=np.uint8), (120, 200))
    rows = np.broadcast_to(np.arange(120, dtype=np.uint8)[:, None], (120, 200))
    return np.ascontiguousarray(np.stack([columns, rows, np.zeros_like(rows)], axis=-1))


@pytest.mark.parametrize("size", [32, 64, 128])
def test_crop_pixels_show_the_image_pixels_they_claim(size: int) -> None:
    camera = Camera.pinhole(100.0, 100.0, 100.0, 60.0, 200, 120)
    crop = crop_from_box(_ramp(), camera, Box(60.0, 30.0, 50.0, 40.0), size, 1.28)
    v, u = np.mgrid[4 : size - 4, 4 : size - 4].astype(np.float32)
    claimed = crop.to_image(torch.from_numpy(np.stack([u, v], axis=-1))).numpy()
    shown = crop.image[4 : size - 4, 4 : size - 4, :2].astype(np.float32)
    assert np.abs(shown - claimed).max() <= 0.51  # rounding to 8 bits


def test_cropped_camera_projects_where_the_crop_shows() -> None:
    camera = _camera()
    crop = crop_from_box(np.zeros((480, 640, 3), np.uint8), camera, Box(100.5, 200.25, 77.0, 31.0), 128, 1.3)
    points = torch.tensor([[0.1, 0.05, 1.0], [-0.2, 0.3, 2.0]])
    torch.testing.assert_close(crop.to_image(crop.camera.project(points)), camera.project(points))


def test_crop_beyond_the_edge_repeats_the_edge() -> None:
    image = _ramp()
    camera = Camera.pinhole(100.0, 100.0, 100.0, 60.0, 200, 120)
    crop = crop_from_box(image, camera, Box(-20.0, -20.0, 40.0, 40.0), 40, 1.0)
    assert crop.window == (-20, -20, 40)
    np.testing.assert_array_equal(crop.image[20:, 20:], image[:20, :20])
    np.testing.assert_array_equal(crop.image[:20, 20:], np.broadcast_to(image[0, :20], (20, 20, 3)))


def test_crop_from_pose_contains_the_object_in_its_centre() -> None:
    camera = _camera()
    corners = torch.tensor([[x, y, z] for x in (-0.05, 0.05) for y in (-0.03, 0.03) for z in (-0.02, 0.02)])
    pose = Pose(torch.eye(3), torch.tensor([0.1, -0.05, 0.6]))
    crop = crop_from_pose(np.zeros((480, 640, 3), np.uint8), camera, pose, corners, 128, 1.25)
    pixels = crop.camera.project(pose.transform(corners))
    low, high = pixels.amin(0), pixels.amax(0)
    assert float(low.min()) > 0.0
    assert float(high.max()) < 127.0
    torch.testing.assert_close((low + high) / 2, torch.full((2,), 63.5), atol=1.0, rtol=0.0)
    assert float((high - low).max()) == pytest.approx(128 / 1.25, rel=0.02)


@pytest.mark.parametrize(
    "box",
    [
        (float("nan"), 0.0, 10.0, 10.0),
        (0.0, 0.0, 0.0, 0.0),
        (700.0, 10.0, 20.0, 20.0),
        (0.0, 0.0, 1e6, 1e6),
        (0.0, float("inf"), 10.0, 10.0),
    ],
)
def test_impossible_boxes_are_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(CropError, match="box"):
        crop_from_box(np.zeros((480, 640, 3), np.uint8), _camera(), Box(*box), 128, 1.25)


def test_pose_behind_the_camera_is_refused() -> None:
    with pytest.raises(CropError, match="pose"):
        box_from_pose(_camera(), Pose(torch.eye(3), torch.tensor([0.0, 0.0, -1.0])), torch.zeros(1, 3))
