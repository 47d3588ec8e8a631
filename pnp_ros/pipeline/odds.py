"""Whether an image speaks for one aligned pose or for another one, of one object or of two."""

from __future__ import annotations

import numpy as np

from pnp_ros.alignment.aligner import Alignment
from pnp_ros.alignment.rival import log_odds
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import CropError
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.sources.edge_likeness import EdgeLikeness


class Odds:
    """By how much lines and matches miss, by how much of the outline is found, and by the edges of the whole surface.

    For one thread.

    Args:
        mesh: in metres.
        other: that of the other pose.
    """

    def __init__(self, mesh: TriangleMesh, other: TriangleMesh) -> None:
        own = EdgeLikeness(mesh)
        self._edges = own, own if other is mesh else EdgeLikeness(other)

    def __call__(self, image: np.ndarray, camera: Camera, other: Alignment, one: Alignment) -> float:
        """Log odds of ``other`` against ``one``; of an image (H, W, 3) uint8 RGB and its camera."""
        odds = log_odds(other, one, camera)
        sides = [(edges, found.estimate.pose) for edges, found in zip(self._edges, (one, other))]
        try:
            mine, its = (edges.box(camera, pose) for edges, pose in sides)
        except CropError:
            return odds
        # from the same pixels: in a window of its own, the smaller of the two would count by a larger scale
        own, others = (edges.log_likelihoods(image, camera, [pose], mine.joined(its)) for edges, pose in sides)
        return odds + float(others - own)
