"""Square crops of an image together with the camera that took them.

The window has whole-pixel edges, so cutting and resizing is exact: crop pixel ``u'`` shows image pixel
``u = (u' + 0.5) side / size - 0.5 + x``, which is the map of :meth:`pnp_ros.cameras.camera.Camera.crop`. Distortion
stays in the cropped camera: the solver undistorts points, nobody undistorts the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.cameras.single_view import imaged
from pnp_ros.detection.box import Box
from pnp_ros.geometry.single_pose import placed
from pnp_ros.types import Pose

_LARGEST_WINDOW = 8  # times the image's longer side; beyond it a crop shows nothing but padding


class CropError(ValueError):
    """The window cannot be cut: not finite, without area, or outside the image."""


@dataclass(frozen=True, eq=False)
class Crop:
    """A square part of an image.

    Args:
        image: (S, S, 3) uint8 RGB; what lies outside the image repeats its edge.
        camera: projects camera-frame points to crop pixels.
        window: (x, y, side) in image pixels; (x, y) is the pixel whose outer corner is the window's corner.
    """

    image: np.ndarray
    camera: Camera
    window: tuple[int, int, int]

    @property
    def box(self) -> Box:
        """Where it is in the image."""
        x, y, side = map(float, self.window)
        return Box(x, y, side, side)

    @property
    def scale(self) -> float:
        """Image pixels per crop pixel."""
        return self.window[2] / self.image.shape[0]

    def to_image(self, points: Tensor) -> Tensor:
        """Crop pixels (..., 2) to image pixels."""
        corner = points.new_tensor([self.window[0], self.window[1]])
        return (points + 0.5) * self.scale - 0.5 + corner


def square_window(box: Box, margin: float) -> tuple[int, int, int]:
    """The square of whole pixels (x, y, side) around a box, ``margin`` times its longer side.

    Raises:
        CropError: for a box that is not finite or has no area.
    """
    if not box.is_finite or box.longer_side <= 0.0:
        raise CropError(f"box: expected finite (x, y, width, height) with a positive size, got {tuple(box)}")
    side = max(2, round(margin * box.longer_side))
    return round(box.centre[0] - side / 2), round(box.centre[1] - side / 2), side


def window_error(window: Box, box: Box, margin: float) -> float:
    """How far a square ``window`` is from the one around ``box``: shift or growth, as a share of its side."""
    shift = max(abs(a - b) for a, b in zip(box.centre, window.centre)) / window.width
    return max(shift, abs(box.longer_side * margin / window.width - 1.0))


def crop_from_box(image: np.ndarray, camera: Camera, box: Box, size: int, margin: float) -> Crop:
    """Cut the square around a box and resize it to ``size`` x ``size``.

    Args:
        image: (H, W, 3) uint8.
        camera: of the whole image.
        box: in the image.
        size: side of the crop in pixels.
        margin: side of the window as a multiple of the box's longer side.

    Raises:
        CropError: if the box is not finite, has no area, or does not touch the image.
    """
    x, y, side = window_in(image.shape[1::-1], box, margin)
    inside = cut(image, x, y, x + side, y + side)
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    resized = cv2.resize(inside, (size, size), interpolation=interpolation)
    return Crop(resized, camera.crop(x, y, side, side, size, size), (x, y, side))


def window_in(size: Sequence[int], box: Box, margin: float) -> tuple[int, int, int]:
    """As :func:`square_window`, of a box that must touch an image of this width and height.

    Raises as :func:`crop_from_box`.
    """
    x, y, side = square_window(box, margin)
    width, height = size
    if x + side <= 0 or y + side <= 0 or x >= width or y >= height:
        raise CropError(f"box: expected to overlap the {width}x{height} image, got {tuple(box)}")
    if side > _LARGEST_WINDOW * max(width, height):
        raise CropError(f"box: {side} px is too large for the {width}x{height} image")
    return x, y, side


def cut(image: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """The pixels of a rectangle that touches the image; what lies outside repeats the image's edge."""
    height, width = image.shape[:2]
    inside = image[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    beyond = max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0)
    return np.asarray(cv2.copyMakeBorder(inside, *beyond, cv2.BORDER_REPLICATE)) if any(beyond) else inside


def box_from_pose(camera: Camera, pose: Pose, object_points: Tensor) -> Box:
    """The box around the projection of object points (N, 3) in metres.

    Raises:
        CropError: if a point is behind the camera or does not project to a finite pixel.
    """
    seen = placed(pose, object_points.numpy())
    if not seen[:, 2].min() > 0.0:
        raise CropError("pose: expected the whole object in front of the camera")
    pixels = imaged(camera, seen)
    box = Box.around(pixels)
    if not box.is_finite:
        raise CropError("pose: the object does not project to finite pixels")
    return box


def crop_from_pose(
    image: np.ndarray, camera: Camera, pose: Pose, object_points: Tensor, size: int, margin: float
) -> Crop:
    """Cut the square around the object at ``pose``; see :func:`crop_from_box` and :func:`box_from_pose`."""
    return crop_from_box(image, camera, box_from_pose(camera, pose, object_points), size, margin)


def crop_around(
    image: np.ndarray, camera: Camera, where: Box | Pose, object_points: Tensor, size: int, margin: float
) -> Crop:
    """Cut the square around a box, or around the object at a pose."""
    if isinstance(where, Pose):
        return crop_from_pose(image, camera, where, object_points, size, margin)
    return crop_from_box(image, camera, where, size, margin)
