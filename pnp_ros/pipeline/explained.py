"""What is left of an image without the objects that explain parts of it, and which objects others hide."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.cameras.single_view import imaged
from pnp_ros.geometry.single_pose import placed
from pnp_ros.types import Pose

_HIDDEN = 0.7  # share of an object behind others above which it counts as hidden
_COARSE = 4  # pixels of the image a pixel of the masks that tell who is hidden


class Explained:
    """One image in which objects are known to be: each stands for the convex outline of its mesh.

    Args:
        image: (H, W, 3) uint8 RGB.
        camera: of the image.
        shapes: (M, 3) extreme points of each object by name, metres.
    """

    def __init__(self, image: NDArray[np.uint8], camera: Camera, shapes: Mapping[str, NDArray]) -> None:
        self.image, self.camera, self._shapes = image, camera, shapes

    @functools.cached_property
    def _colour(self) -> list[int]:
        """Mean of the image."""
        return [int(value) for value in self.image.reshape(-1, 3)[::97].mean(0)]

    def without(self, places: Mapping[str, Pose], wider: float = 1.0) -> NDArray[np.uint8]:
        """(H, W, 3) a copy of the image with objects painted over in its mean colour.

        Args:
            places: ``T_camera_object`` of each that is painted over.
            wider: how many times as large.
        """
        painted = self.image.copy()  # who looks at it may look again when the next one is painted
        for name, pose in places.items():
            if len(outline := self._outline(name, pose, wider)):
                cv2.fillConvexPoly(painted, outline, self._colour)
        return painted

    def behind(self, name: str, pose: Pose, others: Mapping[str, Pose]) -> list[str]:
        """The names of those that together hide most of an object at a pose; empty where they do not."""
        own = np.zeros((self.camera.height // _COARSE + 1, self.camera.width // _COARSE + 1), np.uint8)

        def fill(each: str, place: Pose, value: int) -> int:
            outline = self._outline(each, place, coarse=_COARSE)
            if len(outline):
                cv2.fillConvexPoly(own, outline, [value])
            return int(own.sum())

        whole = left = fill(name, pose, 1)
        front = []
        for other, place in others.items():
            if other != name and place.translation[2] < pose.translation[2]:
                before, left = left, fill(other, place, 0)
                if left < before:
                    front.append(other)
        return front if left < (1.0 - _HIDDEN) * whole else []

    def _outline(self, name: str, pose: Pose, wider: float = 1.0, coarse: int = 1) -> NDArray[np.int32]:
        """(N, 1, 2) corners of an object's outline, a pixel of which is ``coarse`` of the camera's; N = 0: none."""
        seen = placed(pose, wider * self._shapes[name])
        pixels = imaged(self.camera, seen[seen[:, 2] > 0.0])
        pixels = pixels[np.isfinite(pixels).all(axis=-1)]
        if len(pixels) < 3:
            return np.zeros((0, 1, 2), np.int32)
        limit = 4 * max(self.camera.width, self.camera.height)
        return np.asarray(cv2.convexHull((np.clip(pixels, -limit, limit) / coarse).round().astype(np.int32)), np.int32)
