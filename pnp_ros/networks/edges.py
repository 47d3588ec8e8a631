"""An image's edges in place of its colours: what is left of an object whose colour and light are not known.

Where an edge is, which way it runs, and how strong it is among its neighbours. Gradients of all colours are added as
their structure tensors (Di Zenzo, 1986), whose angle is twice the edge's, so that from dark to bright is as from bright
to dark. They are divided by the mean of their neighbourhood, so that contrast does not count (as in HOG, Dalal and
Triggs, 2005).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

Sees = Literal["colours", "edges"]
SEES = get_args(Sees)
_CELL, _CELLS = 4, 5  # pixels, and cells across the neighbourhood
_USUAL = 2.0  # times the neighbourhood's mean: an edge of strength 1
_NOISE = 0.03  # of white, between pixels that are two apart: an edge of that strength is half one
_STRONGEST = 2.0


def seen(images: Tensor, sees: Sees) -> Tensor:
    """What a network's first layer gets of (B, 3, H, W) RGB in [0, 1]: colours from -1 to 1, or :func:`edges`."""
    return edges(images) if sees == "edges" else 2.0 * images - 1.0


def check_sees(sees: object) -> None:
    """ValueError names the field and what it expects."""
    if sees not in SEES:
        raise ValueError(f"sees: expected one of {', '.join(SEES)}, got {sees!r}")


def edges(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in [0, 1] to (B, 3, H, W): strength times cosine and sine of twice the angle, and strength.

    H and W are multiples of 4.
    """
    padded = functional.pad(images.contiguous(), (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    xx, yy, xy = _over_colours(across, across), _over_colours(down, down), _over_colours(across, down)
    energy = xx + yy + 1e-8
    magnitude = energy.sqrt()
    cells = functional.avg_pool2d(magnitude, _CELL)
    around = functional.avg_pool2d(cells, _CELLS, 1, _CELLS // 2, count_include_pad=False)
    around = functional.interpolate(around, scale_factor=float(_CELL), mode="nearest")
    strength = (magnitude / (_USUAL * around + _NOISE)).clamp_max(_STRONGEST)
    share = strength / energy
    return torch.cat([share * (xx - yy), 2.0 * share * xy, strength], dim=1)


def _over_colours(one: Tensor, other: Tensor) -> Tensor:
    """(B, 1, H, W) sum of products; one by one, for a sum over so few is slow."""
    products = one[:, 0:1] * other[:, 0:1]
    for colour in (1, 2):
        products = torch.addcmul(products, one[:, colour : colour + 1], other[:, colour : colour + 1])
    return products
