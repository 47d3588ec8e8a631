"""How many times too large a mesh is: what no image of one camera tells, and a second measurement does.

An object that is twice as large and twice as far looks the same, so that a pose's distance is wrong by the factor by
which the mesh is. A rough distance tells it, a depth image, or a camera that moves by a known way past the object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.io.depth_images import DepthImage
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.types import Pose

_UNITS = {1000.0: "the mesh is in millimetres: units mm", 100.0: "the mesh is in centimetres: units cm",
          39.37: "the mesh is in inches: units in", 0.001: "the mesh is in metres, and was read as millimetres",
          0.01: "the mesh is in metres, and was read as centimetres"}  # fmt: skip
_UNIT_WITHIN = 1.5  # a factor: so far from a unit's it may be and still be that unit
_LENS = 2.5  # a factor: no calibration is off by more
_LEAST_PIXELS, _LEAST_SHARE = 60, 0.25  # of the object that have depth
_EDGE = 2  # pixels: depth beside an edge is that of either side
_LEAST_WAY, _LARGEST_MISS = 0.05, 0.3  # of the distance, and of the way


@dataclass(frozen=True, eq=False)
class Measured:
    """What is known beside the images.

    Args:
        distance: roughly, in metres, from the camera to the object.
        depths: of each image, registered to it; None where there is none.
        cameras: of each image ``T_fixed_camera`` in a frame in which the object stands still; None where not known.
    """

    distance: float | None = None
    depths: Sequence[DepthImage | None] | None = None
    cameras: Sequence[Pose | None] | None = None


@dataclass(frozen=True)
class SizeTold:
    """What a second measurement says of the mesh's size.

    Args:
        factor: by which the mesh is too large, 1 where it is right.
        by: how it is known, in words.
        within: a factor that is no error of such a measurement.
    """

    factor: float
    by: str
    within: float

    @property
    def is_right(self) -> bool:
        """Whether the mesh has its size as far as this can tell."""
        return 1.0 / self.within < self.factor < self.within

    @property
    def words(self) -> str:
        """What the mesh seems to be."""
        factor = self.factor
        size = f"{factor:.2g} times too large" if factor > 1.0 else f"{1.0 / factor:.2g} times too small"
        return f"{self.by}: the mesh seems {size}"

    @property
    def cure(self) -> str:
        """What to do."""
        near = [cure for unit, cure in _UNITS.items() if abs(math.log(self.factor / unit)) < math.log(_UNIT_WITHIN)]
        if near:
            return near[0]
        camera = "; or the focal length is off as much" if 1.0 / _LENS < self.factor < _LENS else ""
        return f"measure an edge of the object and scale the mesh{camera}"


def by_distance(poses: Sequence[Pose], distance: float) -> SizeTold | None:
    """From a rough distance between camera and object, metres; None without poses."""
    if not poses:
        return None
    factor = float(np.median([float(pose.translation.norm()) for pose in poses])) / distance
    by = f"the object seems {factor * distance:.2g} m away, and is {distance:.2g} m away"
    return SizeTold(factor, by, within=1.25)


def by_depth(mesh: RayMesh, views: Sequence[tuple[Pose, Camera, DepthImage]]) -> SizeTold | None:
    """From depth images: the depth drawn over the depth measured, in the median of the object's pixels and images.

    What hides a part of the object, or is seen through a hole in the depth, moves the median little. None where no
    image has depth on the object.
    """
    told = [pair for view in views if (pair := _drawn_and_measured(mesh, *view)) is not None]
    if not told:
        return None
    drawn, measured = np.median([d for d, _ in told]), np.median([m for _, m in told])
    factor = float(np.median([d / m for d, m in told]))
    by = f"the object's surface seems {drawn:.2g} m away, the depth images say {measured:.2g} m"
    return SizeTold(factor, by, within=1.1)


def _drawn_and_measured(mesh: RayMesh, pose: Pose, camera: Camera, depth: DepthImage) -> tuple[float, float] | None:
    view = mesh.view(pose, camera)
    inside = cv2.erode(view.mask, np.ones((2 * _EDGE + 1,) * 2, np.uint8)) > 0
    both = inside & (depth > 0.0)
    if both.sum() < max(_LEAST_PIXELS, _LEAST_SHARE * inside.sum()):
        return None
    ratio = float(np.median(view.depth[both] / depth[both]))
    drawn = float(np.median(view.depth[both]))
    return drawn, drawn / ratio


def by_motion(poses: Sequence[tuple[Pose, Pose]]) -> SizeTold | None:
    """From a camera whose way is known, past an object that stands still.

    Where the object stands, ``c + R t / f``, must be the same in all images: least squares for 1 / f.

    Args:
        poses: of each image, ``T_fixed_camera`` and ``T_camera_object``, metres.

    Returns:
        None where the camera moved by less than a twentieth of the distance, or no size explains how it moved.
    """
    if len(poses) < 2:
        return None
    centres: NDArray[np.float64] = np.stack([fixed.translation.double().numpy() for fixed, _ in poses])
    seen = torch.stack([fixed.rotation.double() @ pose.translation.double() for fixed, pose in poses]).numpy()
    way, moved = centres - centres.mean(0), seen - seen.mean(0)
    length, distance = float(np.sqrt((way**2).sum(1).mean())), float(np.median(np.linalg.norm(seen, axis=1)))
    inverse = -float((way * moved).sum()) / max(float((moved**2).sum()), 1e-12)
    if inverse <= 0.0 or length < _LEAST_WAY * distance * inverse:
        return None
    if np.sqrt(((way + inverse * moved) ** 2).sum(1).mean()) > _LARGEST_MISS * length:
        return None
    by = (
        f"while the camera moved by {length:.2g} m (rms), the object seemed to move by {length / inverse:.2g} m past it"
    )
    return SizeTold(1.0 / inverse, by, within=1.15)
