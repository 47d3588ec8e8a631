"""Images of distorted cameras: render a pinhole image that sees as much, then warp it through the lens."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera

WIDEST_ANGLE = math.radians(75.0)  # half the field of view that a pinhole image can serve; beyond, black
LARGEST_SIDE = 4096


class LensWarp:
    """The pinhole camera that covers a distorted camera's view, and the warp from its images.

    Args:
        camera: one camera of any lens model.
    """

    def __init__(self, camera: Camera) -> None:
        v, u = torch.meshgrid(
            torch.arange(camera.height, dtype=torch.float64),
            torch.arange(camera.width, dtype=torch.float64),
            indexing="ij",
        )
        pixels = torch.stack([u, v], dim=-1).reshape(-1, 2)
        bearing = camera.to(dtype=torch.float64).unproject(pixels)
        seen = bearing[:, 2] > math.cos(WIDEST_ANGLE)
        plane = (bearing[:, :2] / bearing[:, 2:]).where(seen[:, None], torch.nan)
        low, high = np.nanmin(plane.numpy(), axis=0), np.nanmax(plane.numpy(), axis=0)
        focal = camera.intrinsics.reshape(4)[:2].double().numpy()
        size = np.minimum(np.ceil((high - low) * focal) + 3, LARGEST_SIDE).astype(int)
        focal = np.minimum(focal, (size - 3) / (high - low))
        centre = 1.0 - low * focal
        (fx, fy), (cx, cy), (width, height) = focal.tolist(), centre.tolist(), size.tolist()
        self.pinhole = Camera.pinhole(fx, fy, cx, cy, width, height)
        source = np.nan_to_num(plane.numpy() * focal + centre, nan=-10.0).astype(np.float32)
        self._columns, self._rows = np.ascontiguousarray(source.T).reshape(2, camera.height, camera.width)

    def warp(self, image: NDArray) -> NDArray:
        """A pinhole image (h, w) or (h, w, C) as the distorted camera sees it, interpolated linearly."""
        return self._remap(image, nearest=False)

    def warp_nearest(self, image: NDArray) -> NDArray:
        """The same with each pixel's nearest source: for masks and coordinates, which must not be mixed."""
        return self._remap(image, nearest=True)

    def _remap(self, image: NDArray, nearest: bool) -> NDArray:
        import cv2

        interpolation = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        warped = cv2.remap(image, self._columns, self._rows, interpolation, borderMode=cv2.BORDER_CONSTANT)
        return np.asarray(warped)
