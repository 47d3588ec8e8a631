"""The network that says of each cell of a crop which point of the object it shows, and how much that is worth.

After EPro-PnP-6DoF (Chen et al., arXiv 2203.13254, section 4): object coordinates and two weights for each cell at a
quarter of the resolution. The weights of all cells together are a softmax, as in attention, times a scale that the
network gives for the whole crop: how the cells compare, and how much they all tell. So 1,024 cells whose errors have
the same cause need not pretend to be 1,024 measurements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pnp_ros.networks.backbone import FeaturePyramid, conv_block
from pnp_ros.networks.crop_settings import check_crop, check_integer, plain_values, values_from_plain
from pnp_ros.networks.decode import cell_centres
from pnp_ros.networks.edges import Sees, check_sees, seen
from pnp_ros.networks.keypoint_network import BLOCKS, STRIDE
from pnp_ros.types import Correspondences

_START_SIGMA = 20.0  # crop pixels that an untrained cell claims; nearer ones make a needle of the posterior
_SCALE_LIMIT = 8.0  # of the scale's logarithm, which keeps the weights finite whatever the layers are


@dataclass(frozen=True)
class DenseNetworkConfig:
    """What is needed to build the network again and to use it; stored in ``object.yaml`` under ``network``.

    Args:
        crop_size: side of the square input in pixels, a multiple of 32.
        width: channels at 1/2 of the input; 2, 3, 4 and 5 times that at 1/4, 1/8, 1/16 and 1/32.
        crop_margin: side of the crop's window as a multiple of the longer side of the object's box.
        count: cells that are used, those of the largest weight.
        sees: ``colours`` of the image, or its ``edges``, see :mod:`pnp_ros.networks.edges`.

    Raises:
        ValueError: naming the field and what it expects.
    """

    kind: ClassVar[str] = "dense"

    crop_size: int = 128
    width: int = 32
    crop_margin: float = 1.25
    count: int = 512
    sees: Sees = "colours"

    def __post_init__(self) -> None:
        check_crop(self.crop_size, self.width, self.crop_margin)
        check_sees(self.sees)
        check_integer("count", self.count, 16, (self.crop_size // STRIDE) ** 2)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> DenseNetworkConfig:
        """From the plain values of ``object.yaml``; ValueError names an unknown field."""
        return cls(**values_from_plain(cls, values))

    def to_plain(self) -> dict[str, Any]:
        """Plain values for ``object.yaml``."""
        return plain_values(self)


@dataclass(frozen=True, eq=False)
class RawDense:
    """What the layers put out, float32.

    Args:
        coordinates: (B, 3, H, W) object points in metres.
        log_weight: (B, 2, H, W) logarithm of the weights in x and y, 1 / crop pixel.
        presence: (B,) logit.
    """

    coordinates: Tensor
    log_weight: Tensor
    presence: Tensor


@dataclass(frozen=True, eq=False)
class DensePrediction:
    """The best cells of a batch of crops, as correspondences in crop pixels, and (B,) probability of the object."""

    correspondences: Correspondences
    presence: Tensor


class DenseNetwork(nn.Module):
    """(B, 3, S, S) RGB in [0, 1] to object points and weights; see the module's docstring.

    Args:
        config: sizes.
        bounds: (2, 3) lowest and highest corner of the mesh, metres; None where weights will be loaded, which have it.
    """

    middle: Tensor
    reach: Tensor

    def __init__(self, config: DenseNetworkConfig, bounds: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        channels = tuple(config.width * factor for factor in (1, 2, 3, 4, 5))
        self.pyramid = FeaturePyramid(channels, BLOCKS)
        width = channels[1]
        self.head = conv_block(width, width)
        self.output = nn.Conv2d(width, 5, 1)
        self.presence = nn.Linear(channels[-1], 1)
        self.scale = nn.Linear(channels[-1], 2)
        bounds = torch.tensor([[-1.0] * 3, [1.0] * 3]) if bounds is None else bounds.float()
        self.register_buffer("middle", bounds.mean(0))
        self.register_buffer("reach", 0.5 * (bounds[1] - bounds[0]))
        for layer in (self.output, self.scale):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> RawDense:
        """(B, 3, S, S) RGB in [0, 1] to raw maps in float32, whatever autocast does inside."""
        fine, coarse = self.pyramid(seen(images, self.config.sees))
        maps, pooled = self.output(self.head(fine)).float(), coarse.mean((-2, -1)).float()
        size = maps.shape[-2:]
        start = math.log(size[0] * size[1] / _START_SIGMA)
        log_scale = start + self.scale(pooled).float().clamp(-_SCALE_LIMIT, _SCALE_LIMIT)
        shares = maps[:, 3:].flatten(-2).log_softmax(-1)
        coordinates = self.middle[:, None, None] + self.reach[:, None, None] * maps[:, :3]
        return RawDense(coordinates, (shares + log_scale[..., None]).unflatten(-1, size), self.presence(pooled)[:, 0])

    def window_presence(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), multiples of 32, to the presence logits (B, h, w) of all crops, 32 pixels apart."""
        return self.pyramid.window_presence(self.presence, seen(images, self.config.sees), self.config.crop_size)

    @torch.inference_mode()
    def predict(self, images: Tensor) -> DensePrediction:
        """(B, 3, S, S) RGB in [0, 1] to the best cells. Call in ``eval()`` mode."""
        return best_cells(self(images), self.config.count)


def all_cells(raw: RawDense) -> Correspondences:
    """Every cell (B, H W) as a correspondence in crop pixels; gradients flow to object points and weights."""
    height, width = raw.coordinates.shape[-2:]
    columns, rows = (cell_centres(n, STRIDE, raw.coordinates) for n in (width, height))
    centres = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).flatten(0, 1)
    objects = raw.coordinates.flatten(-2).mT
    return Correspondences(centres.expand(len(objects), -1, -1), objects, raw.log_weight.flatten(-2).mT.exp())


def best_cells(raw: RawDense, count: int) -> DensePrediction:
    """The ``count`` cells of the largest weight."""
    cells = all_cells(raw)
    best = cells.weights.square().sum(-1).topk(min(count, cells.weights.shape[-2]), dim=-1).indices[..., None]

    def chosen(values: Tensor) -> Tensor:
        return values.gather(-2, best.expand(*best.shape[:-1], values.shape[-1]))

    found = Correspondences(*map(chosen, (cells.image_points, cells.object_points, cells.weights)))
    return DensePrediction(found, raw.presence.sigmoid())
