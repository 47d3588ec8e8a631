"""Templates of the mesh's edges in the image: a first pose of an untextured object without any training.

Each view of the mesh, turned about the line of sight, is laid over every place of the image at every size (as LINEMOD
does: Hinterstoisser et al., PAMI 2012); the best few are laid again, finer and from more sides. All are compared at
once: templates are the kernels of one convolution of the image's edges by direction. What comes of it is right to 10 or
15 degrees and a tenth of the distance, which is enough for the alignment; and it is one of thousands, so that the image
must show more of its outline than of a pose from elsewhere (``EstimatorConfig.valid_template``).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import Box, CropError, box_from_pose
from pnp_ros.detection.detector import Detection
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.sources.edge_response import BINS, CELL, response
from pnp_ros.sources.source import Sighting
from pnp_ros.sources.template_views import TemplateViews, make_template_views, turned
from pnp_ros.types import Correspondences, Pose

TEMPLATES = "templates"
_FINER = 3  # cells of a fine look to one of the first
_ENLARGED = 1.5  # at most: there is nothing finer to see
_SHIFTS = np.arange(-1.6, 1.7, 0.8)  # of a fine look, cells
_TURNS, _SIZES = (-0.12, 0.0, 0.12), (0.92, 1.0, 1.08)  # rad, and factors
_BESIDE_VIEW = math.cos(0.3)  # views that are looked at beside a coarse one
_SAME_PLACE, _SAME_SIZE, _SAME_VIEW = 0.12, 0.2, 0.5  # of the size, of its logarithm, rad: one and the same hit
_BESIDE = 0.15  # of the size: how far a box that is looked at may be off


@dataclass(frozen=True)
class TemplateSearchConfig:
    """How templates are searched.

    Args:
        views: of the mesh, spread evenly.
        coarse: of them, with which a search begins.
        cells: of a template's side, in the first look; four pixels each.
        smallest, largest: size of the object that is searched for: its bounding sphere's diameter as a share of the
            image's longer side, so that a larger image costs no more.
        ratio: from one size to the next.
        kept: hits of the first look that are looked at again, three times as fine.
        points: of the correspondences.
        sigma: standard deviation of a correspondence, as a share of the object's size.
    """

    views: int = 400
    coarse: int = 100
    cells: int = 12
    smallest: float = 0.11
    largest: float = 0.95
    ratio: float = 1.19
    kept: int = 40
    points: int = 24
    sigma: float = 0.06


@dataclass(frozen=True)
class _Hit:
    """A view at a place: ``middle`` and ``size`` of the bounding sphere, and ``roll``, in pixels and rad.

    ``score`` grows with the edges that agree, of which a view may have many; ``share`` of them do.
    """

    score: float
    share: float
    view: int
    roll: float
    middle: tuple[float, float]
    size: float


class TemplateSource:
    """The edges of a mesh as a source of correspondences.

    Args:
        mesh: in metres; its edges are drawn when they are first searched for, which takes a second or two.
        settings: ``views`` of the object package.
        config: how they are searched.
    """

    name = TEMPLATES
    crop_margin = None

    def __init__(
        self,
        mesh: TriangleMesh,
        settings: Mapping[str, float | int | str | bool] | None = None,
        config: TemplateSearchConfig | None = None,
    ) -> None:
        self._mesh, self._settings, self._config = mesh, settings, config or TemplateSearchConfig()
        self._extent = torch.from_numpy(mesh.extreme_points)
        self._hits: dict[Box, _Hit] = {}  # of the last search

    @functools.cached_property
    def _views(self) -> TemplateViews:
        return make_template_views(self._mesh, self._settings, self._config.views, self._config.coarse)

    @functools.cached_property
    def _kernels(self) -> Tensor:
        return torch.from_numpy(self._views.kernels(self._config.cells))

    def places(self, image: np.ndarray, count: int) -> Sequence[Detection]:
        """The best views of the object anywhere in the image."""
        config = self._config
        steps = math.log(config.largest / config.smallest) / math.log(config.ratio)
        smallest = config.smallest * max(image.shape[:2])
        sizes = [smallest * config.ratio**k for k in range(max(int(steps) + 1, 1))]
        self._hits = {self._box(hit): hit for hit in self._search(image, sizes)[:count]}
        return [Detection(box, hit.share) for box, hit in self._hits.items()]

    def look(self, image: np.ndarray, camera: Camera, where: Box | Pose) -> Sighting:
        """The best view in a box, or around the object at a pose; see :class:`~pnp_ros.sources.source.Source`."""
        box = where if isinstance(where, tuple) else box_from_pose(camera, where, self._extent)
        hit = self._hits.get(box) or self._beside(image, box)
        views, config = self._views, self._config
        step = max(views.places.shape[1] // config.points, 1)
        places = turned(views.places[hit.view, ::step], hit.roll)
        pixels = np.array(hit.middle) + hit.size * places
        weights = np.full((len(pixels), 2), 1.0 / (config.sigma * hit.size), np.float32)
        correspondences = Correspondences(
            torch.from_numpy(pixels.astype(np.float32)),
            torch.from_numpy(views.points[hit.view, ::step].copy()),
            torch.from_numpy(weights),
        )
        return Sighting(correspondences, min(hit.share, 1.0), box)

    def _beside(self, image: np.ndarray, box: Box) -> _Hit:
        """The best hit in a box that somebody else tells."""
        x, y, width, height = box
        if not np.isfinite(box).all() or min(width, height) <= 0.0:
            raise CropError(f"box: expected finite numbers and an area, got {box}")
        size = max(width, height)
        pad = _BESIDE * size
        left, top = max(int(x - pad), 0), max(int(y - pad), 0)
        window = image[top : max(int(y + height + pad), 0), left : max(int(x + width + pad), 0)]
        if min(window.shape[:2]) < 8:
            raise CropError(f"box: expected to overlap the {image.shape[1]}x{image.shape[0]} image, got {box}")
        hit = self._search(window, [size * factor for factor in (0.9, 1.05, 1.25)])[0]
        return replace(hit, middle=(hit.middle[0] + left, hit.middle[1] + top))

    def _search(self, image: np.ndarray, sizes: Sequence[float]) -> list[_Hit]:
        """Distinct hits, the best first."""
        rough = itertools.chain.from_iterable(self._rough(image, size) for size in sizes)
        kept = self._distinct(sorted(rough, key=lambda hit: -hit.score), self._config.kept)
        maps: dict[float, tuple[NDArray[np.float32], float]] = {}
        fine = []
        for hit in kept:
            if hit.size not in maps:
                cells = min(_FINER * self._config.cells, _ENLARGED * hit.size / CELL)
                maps[hit.size] = self._map(image, hit.size, cells)
            fine.append(self._fine(*maps[hit.size], hit))
        return self._distinct(sorted(fine, key=lambda hit: -hit.score), len(fine))

    @staticmethod
    def _map(image: np.ndarray, size: float, cells: float) -> tuple[NDArray[np.float32], float]:
        """The image's edges where the object's size is so many cells, and pixels of the image to a cell."""
        scale = cells * CELL / size
        height, width = (max(CELL, round(side * scale)) for side in image.shape[:2])
        how = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
        return response(np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)), CELL / scale

    def _rough(self, image: np.ndarray, size: float) -> list[_Hit]:
        found, pixels = self._map(image, size, self._config.cells)
        side = self._kernels.shape[-1]
        padded = torch.nn.functional.pad(torch.from_numpy(found), (side // 2,) * 4)
        scores = torch.nn.functional.conv2d(padded[None], self._kernels)[0]
        best, index = scores.flatten().topk(min(4 * self._config.kept, scores.numel()))
        template, y, x = np.unravel_index(index.numpy(), tuple(scores.shape))
        odd = 0.5 * (side % 2 == 0)  # a kernel of an even side has its middle between two cells
        count = len(self._views.rolls)
        return [
            _Hit(
                s,
                0.0,
                int(self._views.coarse[int(t) // count]),
                float(self._views.rolls[int(t) % count]),
                self._at(x_ - odd, y_ - odd, pixels),
                size,
            )
            for s, t, y_, x_ in zip(best.tolist(), template, y, x)
        ]

    @staticmethod
    def _at(x: float, y: float, pixels: float) -> tuple[float, float]:
        return (float(x) + 0.5) * pixels - 0.5, (float(y) + 0.5) * pixels - 0.5

    def _fine(self, found: NDArray[np.float32], pixels: float, hit: _Hit) -> _Hit:
        """The view whose edges lie best on the image's near a hit, of those from about the same side."""
        rows, columns = found.shape[1:]
        rotations, its = self._views.rotations, self._rotation(hit)
        shifts = np.stack(np.meshgrid(_SHIFTS, _SHIFTS), -1).reshape(-1, 1, 2) * pixels
        best = replace(hit, score=0.0)
        for view in np.flatnonzero(rotations[:, 2] @ rotations[hit.view, 2] > _BESIDE_VIEW):
            across = its @ rotations[view].T
            straight = math.atan2(across[1, 0] - across[0, 1], across[0, 0] + across[1, 1])
            evidence = math.sqrt(float(self._views.lengths[view]))
            for turn, factor in itertools.product(_TURNS, _SIZES):
                roll, size = straight + turn, factor * hit.size
                places = np.array(hit.middle) + size * turned(self._views.places[view], roll)
                bins = ((self._views.angles[view] + roll) / math.pi * BINS).astype(int) % BINS
                cells = np.floor((places + shifts + 0.5) / pixels).astype(int)
                inside = ((cells >= 0) & (cells < (columns, rows))).all(-1)
                x, y = cells[..., 0].clip(0, columns - 1), cells[..., 1].clip(0, rows - 1)
                seen = inside.mean(1)
                mean = (found[bins, y, x] * inside).mean(1) / np.maximum(seen, 0.01)
                scores = evidence * np.sqrt(seen) * mean
                which = int(scores.argmax())
                if scores[which] > best.score:
                    x_, y_ = (np.array(hit.middle) + shifts[which, 0]).tolist()
                    best = _Hit(float(scores[which]), float(mean[which]), int(view), roll, (x_, y_), size)
        return best

    def _rotation(self, hit: _Hit) -> NDArray[np.float64]:
        """Of the object in a camera that looks straight at it."""
        c, s = math.cos(hit.roll), math.sin(hit.roll)
        return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ self._views.rotations[hit.view]

    def _distinct(self, hits: Sequence[_Hit], count: int) -> list[_Hit]:
        """At most ``count`` hits, each at another place, of another size or from another side than those before."""
        kept: list[_Hit] = []
        turns: list[NDArray] = []
        for hit in hits:
            turn = self._rotation(hit)
            for other, its in zip(kept, turns):
                near = math.dist(hit.middle, other.middle) < _SAME_PLACE * other.size
                if near and abs(math.log(hit.size / other.size)) < _SAME_SIZE:
                    cosine = (float((turn * its).sum()) - 1.0) / 2.0
                    if math.acos(min(max(cosine, -1.0), 1.0)) < _SAME_VIEW:
                        break
            else:
                kept.append(hit)
                turns.append(turn)
                if len(kept) == count:
                    break
        return kept

    def _box(self, hit: _Hit) -> Box:
        places = np.array(hit.middle) + hit.size * turned(self._views.places[hit.view], hit.roll)
        (left, top), (right, bottom) = places.min(0), places.max(0)
        return float(left), float(top), float(right - left), float(bottom - top)
