"""What a source of correspondences is: it looks at a place of an image and says which pixel shows which object point.

Keypoint network, features of the mesh, or a network of your own: the estimator asks each in turn where the object may
be (:meth:`Source.places`) and what is there (:meth:`Source.look`); solving, aligning and judging is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.detector import Detection
from pnp_ros.types import Correspondences, Pose


@dataclass(frozen=True, eq=False)
class Sighting:
    """What a source saw at one place.

    Args:
        correspondences: pixels of the whole image, object points in metres, weights in 1/px.
        score: probability that the object is there, 0 to 1.
        box: that was looked at.
        matched: the points were matched, many of them by chance. Else each is meant to be right, and few that agree
            speak against the pose.
        dense: the points are so many that their errors go together: what counts is what their weights tell in all.
        finer: a slower look at the same place, for where this one makes no valid pose; None if there is none.
    """

    correspondences: Correspondences
    score: float
    box: Box
    matched: bool = False
    dense: bool = False
    finer: Callable[[], Sighting] | None = None


class Source(Protocol):
    """One way to correspondences. Used by one thread."""

    @property
    def name(self) -> str:
        """As it stands in results: ``keypoints``, ``features``."""
        ...

    @property
    def crop_margin(self) -> float | None:
        """How much larger than the object the crop is that the source sees best, to be looked at again around the pose
        that came of it; None for a source that needs no second look."""
        ...

    def places(self, image: np.ndarray, count: int) -> Iterable[Detection]:
        """Where in the image (H, W, 3) uint8 RGB the object may be, at most ``count``, the likeliest first.

        The estimator takes them one by one and stops at the first valid pose: a second, slower search may follow, with
        as many places again.
        """
        ...

    def look(self, image: np.ndarray, camera: Camera, where: Box | Pose) -> Sighting:
        """What is seen in a box of the whole image, or around the object at a pose.

        Raises:
            CropError: if the place is not in the image.
        """
        ...
