"""Single poses, and points of the object at them, in a camera: what is asked hundreds of times a second, in NumPy.

A torch operation on a few hundred numbers costs more than the numbers. A lens is left to the camera.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.detection.crop import Box, CropError
from pnp_ros.geometry import so3
from pnp_ros.types import Pose

_TINY, _HALF_TURN = 1e-9, -0.99  # sine and cosine of an angle at which its axis is not told by the skew part


def placed(pose: Pose, points: NDArray) -> NDArray:
    """(N, 3) object points in the camera frame, of the points' dtype."""
    rotation, translation = (v.numpy().astype(points.dtype, copy=False) for v in (pose.rotation, pose.translation))
    return np.asarray(points @ rotation.T + translation)


def projected(camera: Camera, pose: Pose, points: NDArray) -> NDArray:
    """(N, 2) pixels of object points (N, 3) at a pose."""
    seen = placed(pose, points)
    if camera.model is CameraModel.PINHOLE:
        focal, centre = np.split(camera.intrinsics.numpy().astype(seen.dtype, copy=False), 2)
        return np.asarray(seen[:, :2] / seen[:, 2:] * focal + centre)
    return np.asarray(camera.to(dtype=_torch(seen)).project(torch.from_numpy(seen)).numpy())


def slopes(camera: Camera, seen: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 2) pixels of points (N, 3) of the camera frame, and d pixel / d point (N, 2, 3)."""
    if camera.model is not CameraModel.PINHOLE:
        both = camera.to(dtype=torch.float64).project_with_jacobian(torch.from_numpy(seen))
        return both[0].numpy(), both[1].numpy()
    focal, centre = np.split(camera.intrinsics.numpy().astype(np.float64), 2)
    plane = seen[:, :2] / seen[:, 2:]
    slope = np.zeros((len(seen), 2, 3))
    slope[:, 0, 0], slope[:, 1, 1] = (focal / seen[:, 2:]).T
    slope[:, :, 2] = -plane * focal / seen[:, 2:]
    return plane * focal + centre, slope


def box(camera: Camera, pose: Pose, points: NDArray[np.float32]) -> Box:
    """As :func:`pnp_ros.detection.crop.box_from_pose`, of object points (N, 3)."""
    if not float((points @ pose.rotation[2].numpy()).min()) + float(pose.translation[2]) > 0.0:
        raise CropError("pose: expected the whole object in front of the camera")
    pixels = projected(camera, pose, points)
    low, high = pixels.min(0) + 0.5, pixels.max(0) + 0.5
    if not np.isfinite(low + high).all():
        raise CropError("pose: the object does not project to finite pixels")
    (x, y), (width, height) = low.tolist(), (high - low).tolist()
    return x, y, width, height


def moved(pose: Pose, delta: NDArray) -> Pose:
    """As :func:`pnp_ros.geometry.se3.retract`, by ``delta`` (6,)."""
    x, y, z = delta[3:].tolist()
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = math.sqrt(x * x + y * y + z * z)
    half = 0.5 * angle
    sine, cosine = (math.sin(angle) / angle, 0.5 * (math.sin(half) / half) ** 2) if angle > _TINY else (1.0, 0.5)
    turn = np.eye(3) + sine * skew + cosine * (skew @ skew)
    rotation, translation = turn @ pose.rotation.numpy(), pose.translation.numpy() + delta[:3]
    dtype = pose.rotation.dtype
    return Pose(torch.from_numpy(rotation).to(dtype), torch.from_numpy(translation).to(dtype))


def difference(reference: Pose, pose: Pose) -> NDArray[np.float64]:
    """As :func:`pnp_ros.geometry.se3.local`: ``delta`` (6,) with ``moved(reference, delta) == pose``."""
    a, b = (p.rotation.numpy().astype(np.float64) for p in (reference, pose))
    relative = b @ a.T
    skew = 0.5 * (relative - relative.T)
    vector = np.array([skew[2, 1], skew[0, 2], skew[1, 0]])
    sine, cosine = float(np.linalg.norm(vector)), 0.5 * (float(np.trace(relative)) - 1.0)
    if cosine < _HALF_TURN:
        vector = so3.log(torch.from_numpy(relative)).numpy()
    elif sine > _TINY:
        vector *= math.atan2(sine, cosine) / sine
    return np.concatenate([pose.translation.numpy() - reference.translation.numpy(), vector])


def _torch(array: NDArray) -> torch.dtype:
    return torch.float32 if array.dtype == np.float32 else torch.float64
