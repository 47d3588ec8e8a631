"""The network that finds an object's keypoints in a crop, with a standard deviation for each.

Heat maps at a quarter of the resolution give the places. The standard deviation is the heat map's spread times a learnt
factor read at the peak, trained as the scale of a Laplace distribution of the remaining error (Kendall and Gal, 2017),
so that 1 / sigma is the weight PnP wants. A presence logit from the coarsest level says whether the object is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pnp_ros.networks.backbone import FeaturePyramid, conv_block
from pnp_ros.networks.crop_settings import check_crop, check_integer, plain_values, values_from_plain
from pnp_ros.networks.decode import heat_map_peaks, local_soft_argmax, read_at, spread
from pnp_ros.networks.edges import Sees, check_sees, seen

STRIDE = 4  # input pixels per heat map cell
DECODE_RADIUS = 2  # cells; a 5x5 window
BLOCKS = (1, 2, 2, 1)  # residual blocks at 1/4, 1/8, 1/16 and 1/32
_LOG_FACTOR_LIMIT = 4.0  # keeps sigma finite whatever the weights are


@dataclass(frozen=True)
class KeypointNetworkConfig:
    """What is needed to build the network again and to use it; stored in ``object.yaml`` under ``network``.

    Args:
        num_keypoints: K, at least 4.
        crop_size: side of the square input in pixels, a multiple of 32.
        width: channels at 1/2 of the input; 2, 3, 4 and 5 times that at 1/4, 1/8, 1/16 and 1/32.
        crop_margin: side of the crop's window as a multiple of the longer side of the object's box.
        sees: ``colours`` of the image, or its ``edges``, see :mod:`pnp_ros.networks.edges`.

    Raises:
        ValueError: naming the field and what it expects.
    """

    kind: ClassVar[str] = "keypoints"

    num_keypoints: int
    crop_size: int = 128
    width: int = 32
    crop_margin: float = 1.25
    sees: Sees = "colours"

    def __post_init__(self) -> None:
        check_integer("num_keypoints", self.num_keypoints, 4, 256)
        check_crop(self.crop_size, self.width, self.crop_margin)
        check_sees(self.sees)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> KeypointNetworkConfig:
        """From the plain values of ``object.yaml``; ValueError names an unknown or missing field."""
        known = values_from_plain(cls, values)
        if "num_keypoints" not in values:
            raise ValueError("num_keypoints: missing")
        return cls(**known)

    def to_plain(self) -> dict[str, Any]:
        """Plain values for ``object.yaml``."""
        return plain_values(self)


@dataclass(frozen=True, eq=False)
class RawPrediction:
    """What the layers put out, float32: ``heat`` (B, K, H, W) logits, ``log_factor`` (B, K, 2, H, W), ``presence`` (B,)
    logit."""

    heat: Tensor
    log_factor: Tensor
    presence: Tensor


@dataclass(frozen=True, eq=False)
class KeypointPrediction:
    """Decoded keypoints of a batch of crops.

    Args:
        image_points: (B, K, 2) crop pixels.
        sigma: (B, K, 2) standard deviation per axis in crop pixels.
        score: (B, K) probability mass of the heat map in the decode window, 0 to 1.
        presence: (B,) probability that the object is in the crop.
    """

    image_points: Tensor
    sigma: Tensor
    score: Tensor
    presence: Tensor


class KeypointNetwork(nn.Module):
    """(B, 3, S, S) RGB in [0, 1] to keypoints; see the module's docstring."""

    def __init__(self, config: KeypointNetworkConfig) -> None:
        super().__init__()
        self.config = config
        channels = tuple(config.width * factor for factor in (1, 2, 3, 4, 5))
        self.pyramid = FeaturePyramid(channels, BLOCKS)
        width = channels[1]
        self.head = conv_block(width, width)
        self.output = nn.Conv2d(width, 3 * config.num_keypoints, 1)
        self.presence = nn.Linear(channels[-1], 1)
        nn.init.normal_(self.output.weight, std=0.01)
        self.output.bias = nn.Parameter(torch.zeros(3 * config.num_keypoints))

    def forward(self, images: Tensor) -> RawPrediction:
        """(B, 3, S, S) RGB in [0, 1] to raw maps in float32, whatever autocast does inside."""
        return self.read(*self.pyramid(seen(images, self.config.sees)))

    def read(self, fine: Tensor, coarse: Tensor) -> RawPrediction:
        """The finest and the coarsest level of the pyramid to raw maps."""
        maps = self.output(self.head(fine)).float()
        k = self.config.num_keypoints
        log_factor = maps[:, k:].unflatten(1, (k, 2)).clamp(-_LOG_FACTOR_LIMIT, _LOG_FACTOR_LIMIT)
        presence = self.presence(coarse.mean((-2, -1)).float())[:, 0]
        return RawPrediction(maps[:, :k], log_factor, presence.float())

    def window_presence(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), multiples of 32, to the presence logits (B, h, w) of all crops, 32 pixels apart."""
        return self.pyramid.window_presence(self.presence, seen(images, self.config.sees), self.config.crop_size)

    @torch.inference_mode()
    def predict(self, images: Tensor) -> KeypointPrediction:
        """(B, 3, S, S) RGB in [0, 1] to decoded keypoints. Call in ``eval()`` mode."""
        return decode(self(images))


def decode(raw: RawPrediction) -> KeypointPrediction:
    """Raw maps to keypoints: local soft-argmax, sigma, score and presence."""
    peak = heat_map_peaks(raw.heat)
    points = local_soft_argmax(raw.heat, peak, DECODE_RADIUS, STRIDE)
    return KeypointPrediction(
        image_points=points,
        sigma=sigma_at(raw, points, peak),
        score=window_mass(raw.heat, peak),
        presence=raw.presence.sigmoid(),
    )


def sigma_at(raw: RawPrediction, points: Tensor, peak: Tensor) -> Tensor:
    """(B, K, 2) standard deviation in crop pixels of the decoded ``points`` (B, K, 2) at the cells ``peak``.

    The gradient reaches the learnt factor only: the heat maps are trained for the place, not for the spread.
    """
    with torch.no_grad():
        base = spread(raw.heat, points, STRIDE)
    return base * read_at(raw.log_factor, peak).exp()


def window_mass(heat: Tensor, peak: Tensor) -> Tensor:
    """(B, K) share of the softmax of ``heat`` (B, K, H, W) that lies in the decode window around ``peak``."""
    height, width = heat.shape[-2:]
    in_columns = (torch.arange(width, device=heat.device) - peak[..., 0:1]).abs() <= DECODE_RADIUS
    in_rows = (torch.arange(height, device=heat.device) - peak[..., 1:2]).abs() <= DECODE_RADIUS
    mass = heat.flatten(-2).softmax(-1).unflatten(-1, (height, width))
    return (mass * (in_rows[..., :, None] & in_columns[..., None, :])).sum((-2, -1))
