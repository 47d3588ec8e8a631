"""Which of several poses of an object without texture the image likes best: by edges of its whole surface.

Outlines of turns that nearly keep a body in place are nearly the same: what moves is the rim of a hole or a rib. So the
edges drawn at each pose, bends and steps in depth among them, are looked up in the image by direction, whatever their
contrast. What hides a part has edges every way, and says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.pose_likeness import PoseLikeness
from pnp_ros.sources.edge_response import BINS, CELL, response
from pnp_ros.sources.template_views import drawn_edges
from pnp_ros.types import Pose

_SIDE, _MARGIN = 240, 1.25  # of the window, pixels; over the object's box
_LOOK = 8.0  # pixels of an edge that make one independent look
_TOLD = 2.0  # log-likelihood of a look at an edge that is there and runs one way


class EdgeLikeness(PoseLikeness):
    """An object whose poses are compared with images by its edges. For one thread.

    Args:
        mesh: in metres.
    """

    def __init__(self, mesh: TriangleMesh) -> None:
        super().__init__(mesh, _SIDE, _MARGIN)
        self._normals = mesh.face_normals
        self._centre = torch.from_numpy(mesh.bounds.mean(0)).float()
        self._radius = float(np.linalg.norm(mesh.vertices - mesh.bounds.mean(0), axis=1).max())

    def _compared(self, window: NDArray[np.uint8]) -> Callable[[Pose, Camera], float]:
        seen = response(window)
        more = seen - seen.mean(0)

        def log_likelihood(pose: Pose, camera: Camera) -> float:
            distance = float(pose.transform(self._centre[None])[0, 2])
            view = self._mesh.view(pose, camera)
            y, x, angle, share = drawn_edges(view, pose, self._normals, distance, self._radius)
            bins = (angle * (BINS / math.pi)).astype(int) % BINS
            return _TOLD / _LOOK * float((share * more[bins, y // CELL, x // CELL]).sum())

        return log_likelihood
