"""What alignment calculates of single poses in NumPy is what the batched functions say."""

import numpy as np
import pytest
import torch

from pnp_ros.alignment.placement import box, difference, moved
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import CropError, box_from_pose
from pnp_ros.geometry import se3, so3
from pnp_ros.types import Pose

CAMERA = Camera.pinhole(600.0, 610.0, 320.0, 240.0, width=640, height=480)


def random_pose(seed: int) -> Pose:
    generator = torch.Generator().manual_seed(seed)
    rotation = so3.random_rotation(generator=generator, dtype=torch.float64)
    return Pose(rotation, torch.tensor([0.1, -0.05, 0.8], dtype=torch.float64))


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-5, 0.3, 2.5, 3.1, np.pi - 1e-6])
def test_a_pose_is_moved_and_compared_as_by_the_batched_functions(angle: float) -> None:
    pose = random_pose(1)
    delta = np.array([0.01, -0.02, 0.03, *(angle * np.array([0.6, 0.0, -0.8]))])
    there = moved(pose, delta)
    expected = se3.retract(pose, torch.from_numpy(delta))
    torch.testing.assert_close(there.rotation, expected.rotation, rtol=0, atol=1e-12)
    torch.testing.assert_close(there.translation, expected.translation)
    np.testing.assert_allclose(difference(pose, there), se3.local(pose, expected).numpy(), atol=1e-9)
    np.testing.assert_allclose(difference(pose, there), delta, atol=1e-8)


def test_the_box_is_the_batched_one() -> None:
    pose, points = random_pose(2).to(dtype=torch.float32), 0.1 * torch.randn(30, 3)
    np.testing.assert_allclose(box(CAMERA, pose, points.numpy()), box_from_pose(CAMERA, pose, points), rtol=1e-4)
    behind = Pose(pose.rotation, torch.tensor([0.0, 0.0, 0.05]))
    with pytest.raises(CropError, match="in front of the camera"):
        box(CAMERA, behind, points.numpy())
