"""The algebra of poses, against plain matrices."""

from __future__ import annotations

import doctest

import pytest
import torch
from scipy.spatial.transform import Rotation

from pnp_ros import types
from pnp_ros.geometry import se3, so3
from pnp_ros.types import Pose


def test_poses_compose_as_matrices() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (Pose(so3.random_rotation(5, generator=generator), torch.randn(5, 3, generator=generator)) for _ in range(2))
    torch.testing.assert_close((a @ b).matrix(), a.matrix() @ b.matrix())
    torch.testing.assert_close(a.inverse().matrix(), torch.linalg.inv(a.matrix()), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((a @ b).translation, se3.compose(a, b).translation)
    points = torch.randn(5, 7, 3, generator=generator)
    torch.testing.assert_close((a @ b).apply(points), a.apply(b.apply(points)), rtol=1e-4, atol=1e-5)
    assert torch.equal(Pose.stack([a[0], a[1]]).rotation, a[:2].rotation)
    assert a.numpy().shape == (5, 4, 4)
    assert a.to(dtype=torch.float64).rotation.dtype == torch.float64
    assert torch.equal(Pose.identity(2).matrix(), torch.eye(4).expand(2, 4, 4))
    with pytest.raises(IndexError):
        a[0][0]


def test_quaternions_and_rotation_vectors_are_those_of_scipy() -> None:
    rotation = Rotation.from_rotvec([0.3, -1.2, 0.7])
    by_quat = Pose.from_quat_xyzw(rotation.as_quat(), [0.0, 0.0, 1.0])
    by_vector = Pose.from_rvec(rotation.as_rotvec(), [0.0, 0.0, 1.0])
    expected = torch.from_numpy(rotation.as_matrix()).float()
    torch.testing.assert_close(by_quat.rotation, expected)
    torch.testing.assert_close(by_vector.rotation, expected)
    torch.testing.assert_close(by_vector.quat_xyzw, torch.from_numpy(rotation.as_quat()).float())
    torch.testing.assert_close(by_vector.quat_wxyz.roll(-1), by_vector.quat_xyzw)


def test_examples_run() -> None:
    assert doctest.testmod(types).failed == 0
