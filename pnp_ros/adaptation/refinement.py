"""A pose moved a little so that the object rendered there fits the image best: pattern search on the correlation.

What it finds is better than the keypoints' pose where the texture is rich; where it is not, nothing is gained and the
pose stays. Hooke and Jeeves, "Direct search solution of numerical and statistical problems" (1961).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import crop_from_pose
from pnp_ros.evaluation.overlap import normalised_cross_correlation
from pnp_ros.geometry import se3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose

_SIDE, _MARGIN = 96, 1.2
_FIRST_STEP, _LAST_STEP = 0.03, 0.007  # radians; the same share of the object's radius for translations
_DEPTH = 3.0  # depth changes the image so many times less than a sideways move


class Refiner:
    """Refines poses of one object; owns a renderer, to be used by one thread.

    Args:
        mesh: in metres.
    """

    def __init__(self, mesh: TriangleMesh) -> None:
        self._renderer = Renderer(supersampling=1)
        self._mesh = self._renderer.add(mesh)
        self._extent = torch.from_numpy(mesh.extreme_points)
        self._radius = 0.5 * mesh.diameter

    def refine(self, rgb: NDArray[np.uint8], camera: Camera, pose: Pose) -> tuple[Pose, float, float]:
        """The refined pose, and the correlation before and after.

        Args:
            rgb: (H, W, 3) uint8.
            camera: of the image.
            pose: float32, near the truth.

        Raises:
            CropError: if the pose does not put the object into the image.
        """
        crop = crop_from_pose(rgb, camera, pose, self._extent, _SIDE, _MARGIN)

        def correlation(candidate: Pose) -> float:
            rendering = self._renderer.render([(self._mesh, candidate)], crop.camera)
            return normalised_cross_correlation(crop.image, rendering.rgb, rendering.mask)

        before = best = correlation(pose)
        step = _FIRST_STEP
        while step >= _LAST_STEP:
            start = pose
            for direction in self._directions():
                for sign in (1.0, -1.0):
                    candidate = se3.retract(pose, sign * step * direction)
                    value = correlation(candidate)
                    if value > best:
                        pose, best = candidate, value
                        break
            if pose is start:
                step *= 0.5
        return pose, before, best

    def _directions(self) -> Tensor:
        """(6, 6) rows [dt, dtheta] that move the image about equally."""
        scale = torch.tensor([self._radius, self._radius, _DEPTH * self._radius, 1.0, 1.0, 1.0])
        return torch.diag(scale)
