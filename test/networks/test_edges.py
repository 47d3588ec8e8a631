"""Edges in place of colours: what they are invariant to, and what not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pnp_ros.detection.detector_network import DetectorConfig
from pnp_ros.networks.dense_network import DenseNetworkConfig
from pnp_ros.networks.edges import edges, seen
from pnp_ros.networks.keypoint_network import KeypointNetworkConfig

torch.set_num_threads(1)


def blobs(colour: tuple[float, float, float], other: tuple[float, float, float]) -> Tensor:
    """(1, 3, 64, 64) two smooth blobs of one colour on another."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    inside = sum(torch.sigmoid(8.0 - ((x - a) ** 2 + (1.5 * y - b) ** 2).sqrt()) for a, b in ((22, 30), (40, 60)))
    share = torch.as_tensor(inside).clamp(0.0, 1.0)[None, None]
    return torch.tensor(colour)[:, None, None] * share + torch.tensor(other)[:, None, None] * (1.0 - share)


def test_the_same_shape_in_any_colours_gives_nearly_the_same() -> None:
    known = edges(blobs((0.9, 0.9, 0.9), (0.2, 0.2, 0.2)))
    assert float(known.abs().max()) > 0.8
    for colours in (((0.1, 0.1, 0.1), (0.9, 0.9, 0.9)), ((0.8, 0.2, 0.1), (0.2, 0.3, 0.9)), ((0.6,) * 3, (0.3,) * 3)):
        off = (edges(blobs(*colours)) - known).abs()
        assert float(off.max()) < 0.35, "dark on bright, red on blue, of half the contrast"
    assert float(edges(torch.full((1, 3, 32, 32), 0.4)).abs().max()) < 0.01
    noise = 0.4 + 0.004 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert float(edges(noise)[:, 2].median()) < 0.3, "noise of one grey value is no edge"


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 135.0])
def test_the_angle_is_twice_the_gradients(angle: float) -> None:
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    along = (x - 23.5) * math.cos(math.radians(angle)) + (y - 23.5) * math.sin(math.radians(angle))
    found = edges(torch.sigmoid(along)[None, None].expand(1, 3, -1, -1))[0, :, 20:28, 20:28]
    at = int(found[2].argmax())
    cosine, sine, strength = found.flatten(1)[:, at].tolist()
    assert np.rad2deg(np.arctan2(sine, cosine)) % 360 == pytest.approx(2.0 * angle % 360, abs=2.0)
    assert math.hypot(cosine, sine) == pytest.approx(strength, rel=0.02)


def test_colours_are_as_they_were() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(seen(images, "colours"), 2.0 * images - 1.0)


def test_settings() -> None:
    for config in (
        KeypointNetworkConfig(8, sees="edges"),
        DenseNetworkConfig(sees="edges"),
        DetectorConfig(sees="edges"),
    ):
        plain = config.to_plain()
        assert type(config).from_plain(plain) == config
        with pytest.raises(ValueError, match="sees: expected one of colours, edges, got 'lines'"):
            type(config).from_plain(plain | {"sees": "lines"})
        del plain["sees"]
        assert type(config).from_plain(plain).sees == "colours", "a package that does not know of it"
