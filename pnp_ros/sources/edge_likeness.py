"""Which of several poses of an object without texture the image likes best: by edges of its whole surface.

Outlines of turns that nearly keep a body in place are nearly the same: what moves is the rim of a hole or a rib. So the
edges drawn at each pose, bends and steps in depth among them, are looked up in the image by direction, whatever their
contrast. What hides a part has edges every way, and says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import CropError, crop_from_pose
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.sources.edge_response import BINS, CELL, response
from pnp_ros.sources.template_views import drawn_edges, face_normals
from pnp_ros.types import Pose

_SIDE, _MARGIN = 240, 1.25  # of the window, pixels; over the object's box
_LOOK = 8.0  # pixels of an edge that make one independent look
_TOLD = 2.0  # log-likelihood of a look at an edge that is there and runs one way


class EdgeLikeness:
    """An object whose poses are compared with images by its edges. For one thread.

    Args:
        mesh: in metres.
    """

    def __init__(self, mesh: TriangleMesh) -> None:
        self._mesh, self._normals = RayMesh(mesh), face_normals(mesh)
        self._extent = torch.from_numpy(mesh.extreme_points)
        self._centre = torch.from_numpy(mesh.bounds.mean(0)).float()
        self._radius = float(np.linalg.norm(mesh.vertices - mesh.bounds.mean(0), axis=1).max())

    def log_likelihoods(self, image: NDArray[np.uint8], camera: Camera, poses: Sequence[Pose]) -> Tensor:
        """(K,) float64 of the poses, but for a constant; zeros where the image tells nothing.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: of the image.
            poses: ``T_camera_object``, float32.
        """
        found = torch.zeros(len(poses), dtype=torch.float64)
        try:
            crop = crop_from_pose(image, camera, poses[0], self._extent, _SIDE, _MARGIN)
        except CropError:
            return found
        seen = response(crop.image)
        more = seen - seen.mean(0)
        for k, pose in enumerate(poses):
            distance = float(pose.transform(self._centre[None])[0, 2])
            view = self._mesh.view(pose, crop.camera)
            y, x, angle, share = drawn_edges(view, pose, self._normals, distance, self._radius)
            bins = (angle * (BINS / math.pi)).astype(int) % BINS
            found[k] = _TOLD / _LOOK * float((share * more[bins, y // CELL, x // CELL]).sum())
        return found
