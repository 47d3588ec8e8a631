"""Features of the mesh in the image: each is matched to the most similar one of the mesh's views.

The ratio test (Lowe, IJCV 2004, 7.1) asks for a rival at another *place* of the object: another view of the same place
is no rival. Distances are those of RootSIFT (Arandjelovic and Zisserman, CVPR 2012), neighbours are found
approximately (FLANN's kd-trees; Muja and Lowe, VISAPP 2009). Most of what is matched by chance agrees with no other
match on where the object is, and is left out; the rest the robust solve leaves out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import CropError, box_from_pose
from pnp_ros.detection.detector import Detection
from pnp_ros.sources.feature_poses import agreeing, feature_frames
from pnp_ros.sources.feature_table import FeatureTable, Sift, key_arrays
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
        partners: a match counts if so many others agree with it on where the object is, about; 0 asks for none.
    """

    count: int = 1500
    ratio: float = 0.85
    place: float = 0.04
    sigma: float = 0.2
    least_sigma: float = 0.8
    margin: float = 1.5
    partners: int = 3


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
        self._axes, self._sizes = table.axes.astype(np.float32), table.sizes
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
        return self._closer(grey, camera, box, _scale(grey))

    def _closer(self, grey: NDArray[np.uint8], camera: Camera, box: Box, scale: int) -> Sighting:
        """What is seen of a part of the image that is reduced so many times, or less if that shows too little."""
        while True:
            matches = self._agreeing(self._similar(grey, (int(box[0]), int(box[1])), scale), camera)
            found = len(matches.pixels)
            finer = functools.partial(self._closer, grey, camera, box, scale // 2) if scale > 1 else None
            if finer is None or found >= _ENOUGH:
                score = 1.0 if found else 0.0
                return Sighting(self._correspondences(matches), score, box, matched=True, finer=finer)
            scale //= 2

    def _around(self, camera: Camera, pose: Pose) -> Box:
        return box_from_pose(camera, pose, self._extent).square(self._config.margin)

    def _similar(self, grey: NDArray[np.uint8], corner: tuple[int, int], scale: int) -> _Matches:
        """What looks like one place of the object alone.

        Args:
            grey: (H, W), a part of an image.
            corner: where the part begins, pixels of the image.
            scale: pixels of it that are taken for one, in x and y.
        """
        if scale > 1:
            smaller = cv2.resize(grey, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
            grey = np.asarray(smaller, np.uint8)
        keys, descriptors = self._sift.detectAndCompute(grey, None)
        if descriptors is None or len(self._points) == 0:
            keys, nearest, ratio = (), np.zeros(0, np.int64), np.zeros(0)
        else:
            neighbours = self._index.knnMatch(_root(np.asarray(descriptors)), k=min(6, len(self._points)))
            nearest, distance, rival = nearest_and_rival(neighbours, self._points, self._config.place * self._diameter)
            ratio = distance / rival
        good = np.flatnonzero(ratio < self._config.ratio)
        pixels, angles, sizes = key_arrays([keys[i] for i in good.tolist()])
        pixels = scale * (pixels + 0.5) - 0.5 + np.array(corner, np.float32)
        return _Matches(pixels, angles, scale * sizes, nearest[good], ratio[good])

    def _agreeing(self, matches: _Matches, camera: Camera) -> _Matches:
        """Those with which enough others agree on where the object is."""
        if self._config.partners == 0:
            return matches
        seen = feature_frames(camera, matches.pixels, matches.angles, matches.sizes)
        points, axes, sizes = (values[matches.nearest] for values in (self._points, self._axes, self._sizes))
        partners = agreeing(points, axes, sizes, seen, self._diameter, np.argsort(matches.ratio, kind="stable"))
        return matches.chosen(partners >= self._config.partners)

    def _correspondences(self, matches: _Matches) -> Correspondences:
        sigma = np.maximum(self._config.least_sigma, self._config.sigma * matches.sizes)
        return Correspondences(
            torch.from_numpy(matches.pixels),
            torch.from_numpy(self._points[matches.nearest]),
            torch.from_numpy(np.repeat(1.0 / sigma[:, None], 2, axis=1).astype(np.float32)),
        )


@dataclass(frozen=True, eq=False)
class _Matches:
    """Features of an image (N) and the most similar ones of the mesh.

    Args:
        pixels: (N, 2).
        angles: (N) of their directions, degrees from x towards y.
        sizes: (N) pixels.
        nearest: (N) index of the mesh's feature.
        ratio: (N) how far it is from being the same, as a share of the best rival's.
    """

    pixels: NDArray[np.float32]
    angles: NDArray[np.float32]
    sizes: NDArray[np.float32]
    nearest: NDArray[np.int64]
    ratio: NDArray[np.float64]

    def chosen(self, which: NDArray[np.bool_]) -> _Matches:
        return _Matches(*(getattr(self, field.name)[which] for field in fields(self)))


def _scale(grey: NDArray) -> int:
    """How many pixels of an image in x and y are taken for one at first: a power of two."""
    return 2 ** max(0, math.ceil(math.log2(grey.size / _LARGEST) / 2))


def nearest_and_rival(
    neighbours: Sequence[Sequence[cv2.DMatch]], points: NDArray[np.float32], apart: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """What the ratio test compares: the index (N) of the nearest, its distance (N), and that (N) of the best rival.

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
    return index[:, 0], distance[:, 0], np.where(elsewhere, distance, np.inf).min(axis=1)


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
