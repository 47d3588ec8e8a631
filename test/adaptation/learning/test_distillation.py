"""Distillation is zero with no gradient where nothing has changed, and grows with what has."""

import pytest
import torch

from pnp_ros.adaptation.learning.distillation import detector_distillation, keypoint_distillation
from pnp_ros.detection.detector_network import DetectorPrediction
from pnp_ros.networks.keypoint_network import RawPrediction


def keypoints(change: float = 0.0) -> RawPrediction:
    generator = torch.Generator().manual_seed(0)
    heat, factor, presence = (torch.randn(size, generator=generator) for size in ((2, 3, 8, 8), (2, 3, 2, 8, 8), (2,)))
    shift = change * torch.randn(heat.shape, generator=generator)
    return RawPrediction((5.0 * heat + shift).requires_grad_(), factor + change, presence + change)


def centres(change: float = 0.0) -> DetectorPrediction:
    generator = torch.Generator().manual_seed(0)
    heat, offset, size = (torch.randn(shape, generator=generator) for shape in ((2, 6, 8), (2, 2, 6, 8), (2, 2, 6, 8)))
    return DetectorPrediction((heat + change).requires_grad_(), offset + change, size + change)


@pytest.mark.parametrize(
    ("loss", "made"),
    [(keypoint_distillation, keypoints), (detector_distillation, centres)],
    ids=["keypoints", "detector"],
)
def test_least_where_nothing_has_changed(loss, made) -> None:
    same = made()
    value = loss(same, made())
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-6)
    (slope,) = torch.autograd.grad(value, same.heat)
    assert float(slope.abs().max()) < 1e-6
    values = [float(loss(made(change), made()).detach()) for change in (0.1, 0.5, 2.0)]
    assert values == sorted(values)
    assert values[0] > 1e-4
