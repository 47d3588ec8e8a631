"""Templates as filters that know what images are full of: each tells its object from the clutter around it.

A template that is laid over edges scores high wherever there are many: neighbouring cells and directions go together in
any image. A filter that is decorrelated from what is usual (linear discriminant analysis: Hariharan, Malik and Ramanan,
"Discriminative decorrelation for clustering and classification", ECCV 2012) asks for what is unusual. What is usual is
learnt from procedural backgrounds, once for all templates.

Thousands of templates are sums of a hundred base filters, so that an image is filtered with those alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.rendering.backgrounds import BackgroundSource
from pnp_ros.sources.edge_response import response

_IMAGES, _IMAGE = 12, (320, 240)  # procedural backgrounds, pixels
_APART = 3  # cells between two windows of them
_RIDGE = 1.5  # of the mean variance: how far the backgrounds are trusted


@dataclass(frozen=True, eq=False)
class TemplateFilters:
    """T templates of K cells a side as sums of R base filters.

    Args:
        base: (R, BINS, K, K).
        weights: (T, R); the score of a template, ``weights @ base``, is about standard normal where the object is not.
        usual: mean response, which is taken off before filtering; what lies outside the image counts as that.
    """

    base: Tensor
    weights: Tensor
    usual: float


def make_template_filters(kernels: NDArray[np.float32], rank: int = 96) -> TemplateFilters:
    """The filters of templates (T, BINS, K, K), each of length 1.

    Args:
        kernels: how much edge is expected in each cell by direction.
        rank: R, base filters, at most.
    """
    count, bins, side = kernels.shape[:3]
    flat = kernels.reshape(count, -1)
    base = np.linalg.eigh(flat.T @ flat)[1][:, ::-1][:, :rank]  # the directions in which templates differ most
    windows, usual = _windows(side)
    seen = windows @ base
    spread = seen.T @ seen / len(seen)
    spread += _RIDGE * np.trace(spread) / len(spread) * np.eye(len(spread), dtype=np.float32)
    weights = np.linalg.solve(spread, base.T @ flat.T).T
    weights /= np.sqrt(((weights @ spread) * weights).sum(1, keepdims=True))
    filters = np.ascontiguousarray(base.T, np.float32).reshape(-1, bins, side, side)
    return TemplateFilters(torch.from_numpy(filters), torch.from_numpy(weights.astype(np.float32)), usual)


def _windows(side: int) -> tuple[NDArray[np.float32], float]:
    """(N, BINS * side * side) of backgrounds, less their mean; and the mean response."""
    source, rng = BackgroundSource(), np.random.default_rng(0)
    maps = [response(source.image(*_IMAGE, rng)) for _ in range(_IMAGES)]
    found = []
    for each in maps:
        windows = np.lib.stride_tricks.sliding_window_view(each, (side, side), (1, 2))[:, ::_APART, ::_APART]
        found.append(windows.transpose(1, 2, 0, 3, 4).reshape(-1, len(each) * side * side))
    stacked = np.concatenate(found)
    return stacked - stacked.mean(0), float(np.mean(maps))
