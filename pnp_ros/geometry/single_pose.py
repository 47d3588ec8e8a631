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

_TINY, _HALF_TURN = 1e-9, -0.99  # sine and cosine of an angle at which its axis is not told by the skew part


def placed(pose: Pose, points: NDArray) -> NDArray:
    """(N, 3) object points in the camera frame, of the points' dtype."""
    rotation, translation = (v.numpy().astype(points.dtype, copy=False) for v in (pose.rotation, pose.translation))
    return np.asarray(points @ rotation.T + translation)


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
