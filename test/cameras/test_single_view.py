"""What is calculated of one view in NumPy is what the batched camera says, with and without a lens."""

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.cameras.single_view import projected, slopes
from pnp_ros.types import Pose

PINHOLE = Camera.pinhole(600.0, 610.0, 320.0, 240.0, width=640, height=480)
MATRIX = [[600.0, 0.0, 320.0], [0.0, 610.0, 240.0], [0.0, 0.0, 1.0]]
LENS = Camera.from_matrix(MATRIX, [-0.3, 0.1, 0.001, -0.002, 0.0], width=640, height=480)


@pytest.mark.parametrize("camera", [PINHOLE, LENS], ids=["pinhole", "lens"])
def test_one_view_is_the_batched_one(camera: Camera) -> None:
    assert (camera.model is CameraModel.PINHOLE) == (camera is PINHOLE)
    points = 0.1 * np.random.default_rng(3).standard_normal((30, 3))
    pose = Pose(torch.eye(3, dtype=torch.float64), torch.tensor([0.1, -0.05, 0.8], dtype=torch.float64))
    seen = pose.transform(torch.from_numpy(points))
    pixels, slope = camera.to(dtype=torch.float64).project_with_jacobian(seen)
    np.testing.assert_allclose(projected(camera, pose, points), pixels.numpy(), atol=1e-9)
    found = slopes(camera, seen.numpy())
    np.testing.assert_allclose(found[0], pixels.numpy(), atol=1e-9)
    np.testing.assert_allclose(found[1], slope.numpy(), rtol=1e-9, atol=1e-9)
