"""One pose and its points in NumPy: what is asked hundreds of times a second.

A torch operation on a few hundred numbers costs more than the numbers.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.geometry import so3
from pnp_ros.types import Pose

_EYE = np.eye(3)
_TINY, _HALF_TURN = 1e-9, -0.99  # sine and cosine of an angle at which its axis is not told by the skew part


def placed(pose: Pose, points: NDArray) -> NDArray:
    """(N, 3) object points in the camera frame, of the points' dtype."""
    rotation, translation = pose.rotation.numpy(), pose.translation.numpy()
    if rotation.dtype != points.dtype:
        rotation, translation = rotation.astype(points.dtype), translation.astype(points.dtype)
    return np.asarray(points @ rotation.T + translation)


def moved(pose: Pose, delta: NDArray) -> Pose:
    """As :func:`pnp_ros.geometry.se3.retract`, by ``delta`` (6,)."""
    x, y, z = delta[3:].tolist()
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = math.sqrt(x * x + y * y + z * z)
    half = 0.5 * angle
    sine, cosine = (math.sin(angle) / angle, 0.5 * (math.sin(half) / half) ** 2) if angle > _TINY else (1.0, 0.5)
    turn = _EYE + sine * skew + cosine * (skew @ skew)
    before, place = pose.rotation.numpy(), pose.translation.numpy()
    rotation, translation = (turn @ before).astype(before.dtype), (place + delta[:3]).astype(place.dtype)
    return Pose.unchecked(torch.from_numpy(rotation), torch.from_numpy(translation))


def difference(reference: Pose, pose: Pose) -> NDArray[np.float64]:
    """As :func:`pnp_ros.geometry.se3.local`: ``delta`` (6,) with ``moved(reference, delta) == pose``."""
    a, b = reference.rotation.numpy().astype(np.float64), pose.rotation.numpy().astype(np.float64)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (b @ a.T).tolist()
    x, y, z = 0.5 * (zy - yz), 0.5 * (xz - zx), 0.5 * (yx - xy)
    vector, sine, cosine = np.array([x, y, z]), math.sqrt(x * x + y * y + z * z), 0.5 * (xx + yy + zz - 1.0)
    if cosine < _HALF_TURN:
        vector = so3.log(torch.from_numpy(b @ a.T)).numpy()
    elif sine > _TINY:
        vector *= math.atan2(sine, cosine) / sine
    return np.concatenate([pose.translation.numpy() - reference.translation.numpy(), vector])
