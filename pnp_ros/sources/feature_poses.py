"""Where the object is by one match alone, and which matches agree on that.

A feature has a place, a direction and a size, in the image as on the object. So one match by itself tells a pose: the
turn that lays direction on direction, at the distance from which the feature is as wide as the image shows it (Lowe,
IJCV 2004, 7.3). It is off by tens of degrees where the view was another one. Right matches agree on it all the same;
those by chance have nothing to agree on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera

_STEP = 2.0  # pixels along a feature's direction, over which the lens is taken for linear
_TURN = math.radians(45.0)  # largest turn between the poses of two matches that agree
_RANGE = 2.0  # largest ratio of the distances that they tell
_PLACE = 0.25  # of the diameter: how far one's pose lays the other's point beside it, at most
_WITNESSES = 200  # matches that speak for others; more take longer, and tell no more


@dataclass(frozen=True, eq=False)
class FeatureFrames:
    """How a camera sees features.

    Args:
        axes: (N, 3, 3) columns are x along the feature's direction, y, and z along its ray, in the camera's frame.
            NaN where the lens has no ray.
        widths: (N) radians, how wide it appears.
    """

    axes: NDArray[np.float32]
    widths: NDArray[np.float32]


def feature_frames(
    camera: Camera, pixels: NDArray[np.float32], angles: NDArray[np.float32], sizes: NDArray[np.float32]
) -> FeatureFrames:
    """Frames of features at pixels (N, 2) with directions (N) in degrees from x towards y, and sizes (N) in pixels."""
    turned = np.radians(angles)
    beside = pixels + np.float32(_STEP) * np.stack([np.cos(turned), np.sin(turned)], axis=1)
    both = torch.from_numpy(np.stack([pixels, beside]).astype(np.float32))
    rays, others = camera.unproject(both.to(camera.intrinsics)).float().numpy()
    along = others - rays
    widths = np.linalg.norm(along, axis=1) * sizes / np.float32(_STEP)
    along -= (along * rays).sum(1, keepdims=True) * rays
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    return FeatureFrames(np.stack([along, np.cross(rays, along), rays], axis=2), widths.astype(np.float32))


def agreeing(
    points: NDArray[np.float32],
    axes: NDArray[np.float32],
    sizes: NDArray[np.float32],
    seen: FeatureFrames,
    diameter: float,
    order: NDArray[np.int64],
) -> NDArray[np.int64]:
    """How many others (N) say the same pose as each match, about.

    Args:
        points: (N, 3) of the object that are matched, metres.
        axes: (N, 3, 3) of the features there, as :class:`FeatureFrames` has them, in the object's frame.
        sizes: (N) of the features there, metres.
        seen: the same N features in the image.
        diameter: of the object, metres.
        order: (N) indices of the matches, the most trusted first: at most 200 of them speak for others.
    """
    turns = seen.axes @ axes.transpose(0, 2, 1)  # object to camera
    distances, rays = sizes / seen.widths, seen.axes[:, :, 2]
    witness = order[:_WITNESSES]
    shifts = distances[witness, None] * rays[witness] - (turns[witness] @ points[witness, :, None])[..., 0]
    laid = turns[witness] @ points.T + shifts[:, :, None]  # (W, 3, N), by the pose of each witness
    away = np.linalg.norm(laid, axis=1)
    beside = np.linalg.norm(laid / away[:, None] - rays.T, axis=1) * distances[witness, None]
    # trace(A^T B) = 1 + 2 cos(turn from A to B)
    cosines = (turns[witness].reshape(-1, 9) @ turns.reshape(-1, 9).T - 1.0) / 2.0
    agree = (cosines > math.cos(_TURN)) & (beside < _PLACE * diameter)
    agree &= np.abs(np.log(away / distances)) < math.log(_RANGE)
    agree[np.arange(len(witness)), witness] = False
    return agree.sum(axis=0)
