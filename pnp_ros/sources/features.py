"""Features of the mesh in the image: each is matched to the most similar one of the mesh's views.

The ratio test (Lowe, IJCV 2004, 7.1) asks for a rival at another *place* of the object: another view of the same place
is no rival. Distances are those of RootSIFT (Arandjelovic and Zisserman, CVPR 2012), neighbours are found
approximately (FLANN's kd-trees; Muja and Lowe, VISAPP 2009). What is matched by chance the robust solve leaves out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import CropError, box_from_pose
from pnp_ros.detection.detector import Detection
from pnp_ros.sources.feature_table import FeatureTable, Sift
from pnp_ros.sources.source import Sighting
from pnp_ros.types import Correspondences, Pose

_LARGEST = 400_000  # pixels of an image that is searched first; a larger one is reduced by halves
_ENOUGH = 16  # matches there that make a pose worth a try: by chance some are found anywhere


@dataclass(frozen=True)
class FeatureSearchConfig:
    """How features are matched.

    Args:
        count: at most so many features of an image, the strongest.
        ratio: a match counts if the best rival is at least 1 / ratio times as far away.
        place: features of the mesh closer than this share of the diameter are the same place.
        sigma: standard deviation of a match, as a share of the feature's size in the image, and at least
            ``least_sigma`` px.
        margin: around a box or pose that is looked at, as a multiple of its size.
    """

    count: int = 1500
    ratio: float = 0.85
    place: float = 0.04
    sigma: float = 0.2
    least_sigma: float = 0.8
    margin: float = 1.5


class FeatureSource:
    """The features of a mesh as a source of correspondences.

    Args:
        table: of the mesh's views.
        diameter: of the object, metres.
        extent: (E, 3) outermost points of the mesh, metres.
        config: how features are matched.
    """

    name = "features"
    crop_margin = None

    def __init__(
        self, table: FeatureTable, diameter: float, extent: Tensor, config: FeatureSearchConfig | None = None
    ) -> None:
        self._config = config or FeatureSearchConfig()
        self._points, self._diameter, self._extent = table.points, diameter, extent
        self._sift = Sift(self._config.count)
        cv2.setRNGSeed(0)  # FLANN's trees are drawn at random: the same table gives the same trees
        self._index = cv2.FlannBasedMatcher({"algorithm": 1, "trees": 4}, {"checks": 32})
        self._index.add([_root(table.descriptors)])
        self._index.train()

    def places(self, image: np.ndarray, count: int) -> Sequence[Detection]:
        """The whole image: features need no detector."""
        return [Detection(Box(0.0, 0.0, float(image.shape[1]), float(image.shape[0])), 1.0)][:count]

    def look(self, image: np.ndarray, camera: Camera, where: Box | Pose) -> Sighting:
        """Matches within a box, or around the object at a pose; see :class:`~pnp_ros.sources.source.Source`."""
        box = _within(image, self._around(camera, where) if isinstance(where, Pose) else where)
        left, top, width, height = (int(value) for value in box)
        part = image[top : top + height, left : left + width]
        grey = np.asarray(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), np.uint8)
        return self._closer(grey, box, _scale(grey))

    def _closer(self, grey: NDArray[np.uint8], box: Box, scale: int) -> Sighting:
        """What is seen of a part of the image that is reduced so many times, or less if that shows too little."""
        while True:
            correspondences, ratio = self._matched(grey, (int(box[0]), int(box[1])), scale)
            finer = functools.partial(self._closer, grey, box, scale // 2) if scale > 1 else None
            if finer is None or len(ratio) >= _ENOUGH:
                return Sighting(correspondences, 1.0 if len(ratio) else 0.0, box, matched=True, finer=finer)
            scale //= 2

    def _around(self, camera: Camera, pose: Pose) -> Box:
        return box_from_pose(camera, pose, self._extent).square(self._config.margin)

    def _matched(
        self, grey: NDArray, corner: tuple[int, int], scale: int = 1
    ) -> tuple[Correspondences, NDArray[np.float32]]:
        """What passes the ratio test in a part of an image, and (N) the distance as a share of the best rival's.

        Args:
            grey: (H, W) uint8.
            corner: where the part begins, pixels of the image.
            scale: pixels of it that are taken for one, in x and y.
        """
        if scale > 1:
            smaller = cv2.resize(grey, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
            grey = np.asarray(smaller, np.uint8)
        keys, descriptors = self._sift.detectAndCompute(grey, None)
        if descriptors is None or len(self._points) == 0:
            nothing = torch.zeros(0, 2)
            return Correspondences(nothing, torch.zeros(0, 3), nothing), np.zeros(0, np.float32)
        neighbours = self._index.knnMatch(_root(np.asarray(descriptors)), k=min(6, len(self._points)))
        points, distance, rival = nearest_and_rival(neighbours, self._points, self._config.place * self._diameter)
        good = distance < self._config.ratio * rival
        pixels = scale * (np.array([key.pt for key in keys], np.float32)[good] + 0.5) - 0.5
        pixels += np.array(corner, np.float32)
        sizes = scale * np.array([key.size for key in keys], np.float32)[good]
        sigma = np.maximum(self._config.least_sigma, self._config.sigma * sizes)
        correspondences = Correspondences(
            torch.from_numpy(pixels),
            torch.from_numpy(points[good]),
            torch.from_numpy(np.repeat(1.0 / sigma[:, None], 2, axis=1).astype(np.float32)),
        )
        return correspondences, (distance[good] / rival[good]).astype(np.float32)


def _scale(grey: NDArray) -> int:
    """How many pixels of an image in x and y are taken for one at first: a power of two."""
    return 2 ** max(0, math.ceil(math.log2(grey.size / _LARGEST) / 2))


def nearest_and_rival(
    neighbours: Sequence[Sequence[cv2.DMatch]], points: NDArray[np.float32], apart: float
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """What the ratio test compares: nearest points (N, 3), their distances (N), and those (N) of the best rivals.

    Args:
        neighbours: (N, k) of each feature, the most similar first.
        points: (M, 3) of the object, metres, that they are indices of.
        apart: metres; what is no farther away from the nearest one is the same place, and no rival. Without any the
            rival's distance is infinite.
    """
    index = np.array([[n.trainIdx for n in row] for row in neighbours])
    distance = np.array([[n.distance for n in row] for row in neighbours])
    places = points[index]
    elsewhere = np.linalg.norm(places - places[:, :1], axis=2) > apart
    return places[:, 0], distance[:, 0], np.where(elsewhere, distance, np.inf).min(axis=1)


def _root(descriptors: NDArray) -> NDArray[np.float32]:
    """RootSIFT: the Euclidean distance of square roots is the Hellinger distance of histograms."""
    values = descriptors.astype(np.float32)
    return np.sqrt(values / (values.sum(axis=1, keepdims=True) + np.float32(1e-6)))


def _within(image: np.ndarray, box: Box) -> Box:
    """The whole pixels of a box that are in the image."""
    height, width = image.shape[:2]
    x, y, w, h = box
    if not np.isfinite(box).all():
        raise CropError(f"box: expected finite numbers, got {tuple(box)}")
    left, top = max(0, int(np.floor(x))), max(0, int(np.floor(y)))
    right, bottom = min(width, int(np.ceil(x + w))), min(height, int(np.ceil(y + h)))
    if right - left < 8 or bottom - top < 8:
        raise CropError(f"box: expected to overlap the {width}x{height} image, got {tuple(box)}")
    return Box(float(left), float(top), float(right - left), float(bottom - top))
