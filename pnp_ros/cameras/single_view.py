"""Points of one object in one camera, in NumPy as :mod:`pnp_ros.geometry.single_pose`; a lens is left to the camera."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry.single_pose import placed
from pnp_ros.types import Pose


def projected(camera: Camera, pose: Pose, points: NDArray) -> NDArray:
    """(N, 2) pixels of object points (N, 3) at a pose."""
    return imaged(camera, placed(pose, points))


def imaged(camera: Camera, seen: NDArray) -> NDArray:
    """(N, 2) pixels of points (N, 3) of the camera frame."""
    if camera.model is CameraModel.PINHOLE:
        values = camera.intrinsics.numpy().astype(seen.dtype, copy=False)
        return np.asarray(seen[:, :2] / seen[:, 2:] * values[:2] + values[2:])
    return np.asarray(camera.to(dtype=_torch(seen)).project(torch.from_numpy(seen)).numpy())


def slopes(camera: Camera, seen: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 2) pixels of points (N, 3) of the camera frame, and d pixel / d point (N, 2, 3)."""
    if camera.model is not CameraModel.PINHOLE:
        both = camera.to(dtype=torch.float64).project_with_jacobian(torch.from_numpy(seen))
        return both[0].numpy(), both[1].numpy()
    values = camera.intrinsics.numpy().astype(np.float64)
    focal, centre = values[:2], values[2:]
    plane = seen[:, :2] / seen[:, 2:]
    slope = np.zeros((len(seen), 2, 3))
    slope[:, 0, 0], slope[:, 1, 1] = (focal / seen[:, 2:]).T
    slope[:, :, 2] = -plane * focal / seen[:, 2:]
    return plane * focal + centre, slope


def _torch(array: NDArray) -> torch.dtype:
    return torch.float32 if array.dtype == np.float32 else torch.float64
