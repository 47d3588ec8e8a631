"""A small centre-point detector (Zhou et al., "Objects as Points", 2019) on a letter-boxed full image.

Its heat map at 1/8 of the resolution is high at the object's box centre; beside it stand the centre's offset inside the
cell and the logarithm of the box's size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pnp_ros.networks.edges import Sees, check_sees, seen

DETECTOR_STRIDE = 8  # input pixels per heat map cell


@dataclass(frozen=True)
class DetectorConfig:
    """What is needed to build the detector again; stored in ``object.yaml`` under ``detector``.

    Args:
        width, height: input size in pixels, multiples of 16.
        channels: at 1/2 of the input; 2, 4, 6 and 8 times that at 1/4, 1/8, 1/16 and 1/32.
        sees: ``colours`` of the image, or its ``edges``, see :mod:`pnp_ros.networks.edges`.

    Raises:
        ValueError: naming the field and what it expects.
    """

    width: int = 320
    height: int = 240
    channels: int = 16
    sees: Sees = "colours"

    def __post_init__(self) -> None:
        for name, step, low, high in (("width", 16, 64, 4096), ("height", 16, 64, 4096), ("channels", 1, 2, 256)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value % step or not low <= value <= high:
                raise ValueError(f"{name}: expected a multiple of {step} from {low} to {high}, got {value!r}")
        check_sees(self.sees)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> DetectorConfig:
        """From the plain values of ``object.yaml``; ValueError names an unknown field."""
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"{unknown[0]}: unknown field of the detector")
        return cls(**values)

    def to_plain(self) -> dict[str, Any]:
        """Plain values for ``object.yaml``."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, eq=False)
class DetectorPrediction:
    """What the layers put out, float32.

    Args:
        heat: (B, H/8, W/8) logits of "a box centre is in this cell".
        offset: (B, 2, H/8, W/8) centre within the cell, x and y, 0 to 1 cell.
        log_size: (B, 2, H/8, W/8) natural logarithm of the box's width and height in input pixels.
    """

    heat: Tensor
    offset: Tensor
    log_size: Tensor


def _convolution(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class DetectorNetwork(nn.Module):
    """(B, 3, H, W) RGB in [0, 1] to centre, offset and size maps."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, eighth, sixteenth, thirty_second = (config.channels * factor for factor in (1, 2, 4, 6, 8))
        self.to_eighth = nn.Sequential(
            _convolution(3, half, 2), _convolution(half, quarter, 2), _convolution(quarter, eighth, 2)
        )
        self.refine_eighth = _convolution(eighth, eighth)
        self.to_sixteenth = nn.Sequential(_convolution(eighth, sixteenth, 2), _convolution(sixteenth, sixteenth))
        self.to_thirty_second = nn.Sequential(
            _convolution(sixteenth, thirty_second, 2), _convolution(thirty_second, thirty_second)
        )
        self.lateral_sixteenth = nn.Conv2d(thirty_second, sixteenth, 1)
        self.lateral_eighth = nn.Conv2d(sixteenth, eighth, 1)
        self.merge_sixteenth = _convolution(sixteenth, sixteenth)
        self.merge_eighth = _convolution(eighth, eighth)
        self.output = nn.Conv2d(eighth, 5, 1)
        nn.init.normal_(self.output.weight, std=0.01)
        # rare centres at the start; boxes of about a fifth of the image
        self.output.bias = nn.Parameter(torch.tensor([-4.0, 0.5, 0.5, 4.0, 4.0]))

    def forward(self, images: Tensor) -> DetectorPrediction:
        """(B, 3, H, W) RGB in [0, 1] to maps in float32, whatever autocast does inside."""
        eighth = self.refine_eighth(self.to_eighth(seen(images, self.config.sees)))
        sixteenth = self.to_sixteenth(eighth)
        coarse = self.lateral_sixteenth(self.to_thirty_second(sixteenth))
        sixteenth = self.merge_sixteenth(sixteenth + nn.functional.interpolate(coarse, size=sixteenth.shape[-2:]))
        coarse = self.lateral_eighth(sixteenth)
        eighth = self.merge_eighth(eighth + nn.functional.interpolate(coarse, size=eighth.shape[-2:]))
        maps = self.output(eighth).float()
        return DetectorPrediction(maps[:, 0], maps[:, 1:3], maps[:, 3:5].clamp(0.0, 8.0))
