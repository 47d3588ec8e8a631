"""What is calculated of single poses in NumPy is what the batched functions say."""

import numpy as np
import pytest
import torch

from pnp_ros.geometry import se3, so3
from pnp_ros.geometry.single_pose import difference, moved, placed
from pnp_ros.types import Pose


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


def test_points_are_placed_in_their_own_dtype() -> None:
    pose, points = random_pose(2), np.array([[0.1, 0.2, -0.3], [0.0, 0.0, 0.0]], np.float32)
    there = placed(pose, points)
    assert there.dtype == np.float32
    np.testing.assert_allclose(there, pose.transform(torch.from_numpy(points).double()).numpy(), atol=1e-6)
