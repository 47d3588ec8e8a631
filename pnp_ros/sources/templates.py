"""Templates of the mesh's edges in the image: a first pose of an untextured object without any training.

Each view of the mesh, turned about the line of sight, is laid over every place of the image at every size (as LINEMOD
does: Hinterstoisser et al., PAMI 2012); the best few are laid again, finer and from more sides. All are compared at
once: templates are sums of a hundred filters of the image's edges by direction, decorrelated from what clutter is like
(see :mod:`~pnp_ros.sources.template_filters`). What comes of it is right to 10 or 15 degrees and a tenth of the
distance, which is enough for the alignment; and it is one of thousands, so that the image must show more of its outline
than of a pose from elsewhere (``EstimatorConfig.valid_guess``).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import CropError, box_from_pose
from pnp_ros.detection.detector import Detection
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.sources.edge_response import BINS, CELL, response
from pnp_ros.sources.source import Sighting
from pnp_ros.sources.template_filters import TemplateFilters, make_template_filters
from pnp_ros.sources.template_views import TemplateViews, make_template_views, turned
from pnp_ros.types import Correspondences, Pose

TEMPLATES = "templates"
_ENLARGED = 1.5  # at most: there is nothing finer to see
_LARGE = 3500  # cells of an image, from which every second column is looked at first
_PLACES, _TRIED = 400, 3000  # places of it that are looked at with all templates, and hits of them that are compared
_SAME_PLACE, _SAME_SIZE, _SAME_VIEW = 0.12, 0.2, math.cos(0.5)  # of the size, of its logarithm, of the angle
_BESIDE = 0.15  # of the size: how far a box that is looked at may be off


@dataclass(frozen=True)
class _Step:
    """How a hit is looked at again.

    Args:
        cells: of the object's size.
        beside: angle between views that are tried, in mean distances between neighbours.
        turn, size: to either side, rad and a share.
        every: place of an edge that is looked at.
    """

    cells: int
    beside: float
    turn: float
    size: float
    every: int

    @property
    def variants(self) -> NDArray[np.float64]:
        """(9, 2) turns and factors of the size."""
        turns = (-self.turn, 0.0, self.turn)
        return np.array(list(itertools.product(turns, (1.0 - self.size, 1.0, 1.0 + self.size))))


_SHIFTS = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=2)))  # cells, of each step
_FINE, _FINEST = _Step(24, 1.7, 0.12, 0.08, 2), _Step(36, 0.85, 0.06, 0.04, 1)


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
        kept: hits of the first look that are looked at again, twice as fine.
        best: of them, looked at once more, three times as fine.
        given: of them, to be solved and aligned, which is what costs most.
        filters: of which the templates are sums.
        points: of the correspondences.
        sigma: standard deviation of a correspondence, as a share of the object's size.
    """

    views: int = 400
    coarse: int = 100
    cells: int = 12
    smallest: float = 0.11
    largest: float = 0.95
    ratio: float = 1.19
    kept: int = 60
    best: int = 12
    given: int = 3
    filters: int = 96
    points: int = 24
    sigma: float = 0.06


@dataclass(frozen=True, eq=False)
class _Hits:
    """N views at places of the image.

    Args:
        score: (N,) by which they are ordered.
        share: (N,) of the view's edges that the image has, 0 to 1; 0 before the fine look.
        view: (N,) index of it.
        roll: (N,) its turn about the line of sight, rad.
        middle, size: (N, 2) and (N,) of the bounding sphere, pixels.
    """

    score: NDArray[np.float32]
    share: NDArray[np.float32]
    view: NDArray[np.intp]
    roll: NDArray[np.float32]
    middle: NDArray[np.float64]
    size: NDArray[np.float64]

    def __getitem__(self, index: NDArray | slice) -> _Hits:
        return _Hits(*(getattr(self, each.name)[index] for each in fields(self)))

    def __len__(self) -> int:
        return len(self.score)


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
        self._hits: dict[Box, _Hits] = {}  # of the last search

    @functools.cached_property
    def _views(self) -> TemplateViews:
        return make_template_views(self._mesh, self._settings, self._config.views, self._config.coarse)

    @functools.cached_property
    def _filters(self) -> TemplateFilters:
        return make_template_filters(self._views.kernels(self._config.cells), self._config.filters)

    def places(self, image: np.ndarray, count: int) -> Sequence[Detection]:
        """The best views of the object anywhere in the image."""
        config = self._config
        steps = math.log(config.largest / config.smallest) / math.log(config.ratio)
        smallest = config.smallest * max(image.shape[:2])
        found = self._search(image, [smallest * config.ratio**k for k in range(max(int(steps) + 1, 1))])
        best = [found[k : k + 1] for k in range(min(count, config.given, len(found)))]
        self._hits = {self._box(hit): hit for hit in best}
        return [Detection(box, float(hit.share[0])) for box, hit in self._hits.items()]

    def look(self, image: np.ndarray, camera: Camera, where: Box | Pose) -> Sighting:
        """The best view in a box, or around the object at a pose; see :class:`~pnp_ros.sources.source.Source`."""
        box = box_from_pose(camera, where, self._extent) if isinstance(where, Pose) else where
        return self._sighting(self._hits.get(box) or self._beside(image, box)[:1], box)

    def look_for_all(self, image: np.ndarray, box: Box) -> list[Sighting]:
        """Distinct views in a box, the best first.

        Raises:
            CropError: if the box is not in the image.
        """
        hits = self._beside(image, box)
        return [self._sighting(hits[k : k + 1], box) for k in range(len(hits))]

    def _sighting(self, hit: _Hits, box: Box) -> Sighting:
        step = max(self._views.places.shape[1] // self._config.points, 1)
        pixels = self._edge(hit)[::step]
        weights = np.full((len(pixels), 2), 1.0 / (self._config.sigma * hit.size[0]), np.float32)
        correspondences = Correspondences(
            torch.from_numpy(pixels.astype(np.float32)),
            torch.from_numpy(self._views.points[hit.view[0], ::step].copy()),
            torch.from_numpy(weights),
        )
        return Sighting(correspondences, min(float(hit.share[0]), 1.0), box)

    def _beside(self, image: np.ndarray, box: Box) -> _Hits:
        """The hits in a box that somebody else tells."""
        x, y, width, height = box
        if not np.isfinite(box).all() or min(width, height) <= 0.0:
            raise CropError(f"box: expected finite numbers and an area, got {tuple(box)}")
        size = max(width, height)
        pad = _BESIDE * size
        left, top = max(int(x - pad), 0), max(int(y - pad), 0)
        window = image[top : max(int(y + height + pad), 0), left : max(int(x + width + pad), 0)]
        if min(window.shape[:2]) < 8:
            raise CropError(f"box: expected to overlap the {image.shape[1]}x{image.shape[0]} image, got {tuple(box)}")
        hits = self._search(window, [size * factor for factor in (0.9, 1.05, 1.25)])
        return replace(hits, middle=hits.middle + np.array([left, top]))

    def _search(self, image: np.ndarray, sizes: Sequence[float]) -> _Hits:
        """Distinct hits, the best first."""
        found = self._distinct(self._rough(image, sizes), self._config.kept)
        for step, count in ((_FINE, self._config.best), (_FINEST, self._config.best)):
            found = self._distinct(self._fine(image, found, step), count)
        return found

    def _rough(self, image: np.ndarray, sizes: Sequence[float]) -> _Hits:
        """Hits of the coarse views at those places where one of them fits best."""
        filters, cells = self._filters, self._config.cells
        side = filters.base.shape[-1]
        odd = 0.5 * (side % 2 == 0)  # a filter of an even side has its middle between two cells
        seen, places, best = [], [], []
        for size in sizes:
            scale = cells * CELL / size
            height, width = (max(CELL, round(edge * scale)) for edge in image.shape[:2])
            how = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
            found = response(np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8))
            padded = torch.nn.functional.pad(torch.from_numpy(found) - filters.usual, (side // 2,) * 4)
            stride = 2 if found[0].size > _LARGE else 1
            based = torch.nn.functional.conv2d(padded[None], filters.base, stride=(1, stride))[0]
            y, x = np.indices(based.shape[1:]).reshape(2, -1)
            at = np.stack([x * stride, y], 1) - odd
            places.append(np.column_stack([(at + 0.5) * (CELL / scale) - 0.5, np.full(len(at), size)]))
            seen.append(based.flatten(1))
            best.append((filters.weights @ seen[-1]).amax(0))
        chosen = torch.cat(best).topk(min(_PLACES, sum(map(len, best)))).indices
        scores = filters.weights @ torch.cat(seen, 1)[:, chosen]
        score, index = scores.flatten().topk(min(_TRIED, scores.numel()))
        template, column = np.unravel_index(index.numpy(), tuple(scores.shape))
        where = np.concatenate(places)[chosen.numpy()[column]]
        rolls = self._views.rolls
        view, roll = self._views.coarse[template // len(rolls)], rolls[template % len(rolls)]
        return _Hits(score.numpy(), np.zeros(len(score), np.float32), view, roll, where[:, :2], where[:, 2])

    @staticmethod
    def _window(image: np.ndarray, middle: NDArray, size: float, cells: int) -> tuple[NDArray[np.float32], float]:
        """The image's edges around a hit, finer, and pixels of the image to a cell."""
        scale = min(cells * CELL / size, _ENLARGED)
        side = CELL * math.ceil(1.1 * cells + 2.0 * _SHIFTS.max() + 3.0)
        if scale < 1.0:  # only what is needed of it
            reach = math.ceil(side / scale / 2.0) + 2
            left, top = (max(math.floor(value) - reach, 0) for value in middle)
            image = image[top : top + 2 * reach + 2, left : left + 2 * reach + 2]
            small = tuple(max(round(edge * scale), 1) for edge in image.shape[1::-1])
            ratio = np.array(small) / image.shape[1::-1]
            image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
            at = (middle - (left, top) + 0.5) * ratio - 0.5
            found = cv2.getRectSubPix(image, (side, side), at.tolist())
        else:
            turn = np.array([[1.0 / scale, 0.0, middle[0]], [0.0, 1.0 / scale, middle[1]]])
            turn[:, 2] -= (side - 1) / 2.0 / scale
            how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            found = cv2.warpAffine(image, turn, (side, side), flags=how, borderMode=cv2.BORDER_REPLICATE)
        return response(np.asarray(found, np.uint8)), CELL / scale

    def _fine(self, image: np.ndarray, hits: _Hits, step: _Step) -> _Hits:
        """For each hit the view whose edges lie best on the image's there, of those from about the same side.

        An edge counts by how much more of the image runs its way there than any other way; what lies outside of the
        image counts neither way.
        """
        windows = [self._window(image, middle, size, step.cells) for middle, size in zip(hits.middle, hits.size)]
        maps, pixels = np.stack([window for window, _ in windows]), np.array([width for _, width in windows])
        views, its = self._views, self._rotations(hits)
        beside = step.beside * math.sqrt(4.0 * math.pi / self._config.views)
        hit, view = np.nonzero(its[:, 2] @ views.rotations[:, 2].T > math.cos(beside))
        across = its[hit] @ views.rotations[view].transpose(0, 2, 1)
        straight = np.arctan2(across[:, 1, 0] - across[:, 0, 1], across[:, 0, 0] + across[:, 1, 1])
        steps = step.variants
        hit, view = np.repeat(hit, len(steps)), np.repeat(view, len(steps))
        roll = np.repeat(straight, len(steps)) + np.tile(steps[:, 0], len(straight))
        size = hits.size[hit] * np.tile(steps[:, 1], len(straight))
        cells = maps.shape[-1]
        c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
        x, y = views.places[view, :: step.every].transpose(2, 0, 1)
        scale = (size / pixels[hit])[:, None]
        place = np.stack([c * x - s * y, s * x + c * y], -1) * scale[..., None] + cells / 2.0
        bins = ((views.angles[view, :: step.every] + roll[:, None]) / math.pi * BINS).astype(int) % BINS
        row = (hit[:, None] * BINS + bins) * cells
        more = (maps - maps.mean(1, keepdims=True)).ravel()
        found = np.empty((len(_SHIFTS), len(hit)), np.float32)
        low = (cells / 2.0 - (hits.middle + 0.5) / pixels[:, None])[hit, None]  # where the image begins and ends
        high = low + np.array(image.shape[1::-1]) / pixels[hit, None, None]
        for at, shift in zip(found, _SHIFTS):
            moved = place + shift
            x_, y_ = np.moveaxis(moved.astype(int).clip(0, cells - 1), -1, 0)
            seen = ((moved >= low) & (moved < high)).all(-1)
            at[:] = (more[(row + y_) * cells + x_] * seen).mean(1) / np.sqrt(np.maximum(seen.mean(1), 0.01))
        found *= np.sqrt(views.lengths[view])
        which = found.argmax(0)
        score = found[which, np.arange(len(hit))]
        order = np.lexsort((-score, hit))
        best = order[np.unique(hit[order], return_index=True)[1]]
        x_, y_ = np.moveaxis((place[best] + _SHIFTS[which[best], None]).astype(int).clip(0, cells - 1), -1, 0)
        share = maps.ravel()[(row[best] + y_) * cells + x_].mean(1)
        middle = hits.middle[hit[best]] + _SHIFTS[which[best]] * pixels[hit[best], None]
        return _Hits(score[best], share, view[best], roll[best].astype(np.float32), middle, size[best])

    def _rotations(self, hits: _Hits) -> NDArray[np.float64]:
        """(N, 3, 3) of the object in a camera that looks straight at it."""
        c, s = np.cos(hits.roll), np.sin(hits.roll)
        turns = np.zeros((len(hits), 3, 3))
        turns[:, 0, 0], turns[:, 0, 1], turns[:, 1, 0], turns[:, 1, 1], turns[:, 2, 2] = c, -s, s, c, 1.0
        return turns @ self._views.rotations[hits.view]

    def _distinct(self, hits: _Hits, count: int) -> _Hits:
        """At most ``count``, the best first, each elsewhere, of another size or from another side."""
        left = np.argsort(-hits.score, kind="stable")
        turns = self._rotations(hits).reshape(len(hits), 9)
        kept: list[int] = []
        while len(left) and len(kept) < count:
            best = int(left[0])
            kept.append(best)
            size = hits.size[best]
            near = np.linalg.norm(hits.middle[left] - hits.middle[best], axis=1) < _SAME_PLACE * size
            near &= np.abs(np.log(hits.size[left] / size)) < _SAME_SIZE
            near &= (turns[left] @ turns[best] - 1.0) / 2.0 > _SAME_VIEW
            near[0] = True
            left = left[~near]
        return hits[np.array(kept, int)]

    def _edge(self, hit: _Hits) -> NDArray[np.float64]:
        """(P, 2) pixels where the edges of the one hit's view lie."""
        return hit.middle + hit.size * turned(self._views.places[hit.view[0]], float(hit.roll[0]))

    def _box(self, hit: _Hits) -> Box:
        places = self._edge(hit)
        (left, top), (right, bottom) = places.min(0), places.max(0)
        return Box(float(left), float(top), float(right - left), float(bottom - top))
