"""Placing images on images: points and pixels go to the same place, at every scale and turn."""

import math

import pytest
import torch

from pnp_ros.rendering.compositing import cast_shadow, over, placement, transform_points, warp


def blob(height, width, x, y, radius=3.0):
    """(1, 1, height, width) a soft disc around (x, y)."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2))[None, None].float()


def centroid(image):
    weight = image / image.sum()
    columns, rows = torch.arange(image.shape[1]), torch.arange(image.shape[0])
    return torch.stack([(weight.sum(0) * columns).sum(), (weight.sum(1) * rows).sum()])


@pytest.mark.parametrize("scale", [0.11, 0.3, 0.7, 1.0, 2.5])
@pytest.mark.parametrize("angle", [0.0, 0.7, -2.5])
def test_pixels_follow_points(scale, angle):
    image = blob(96, 64, 40.3, 30.8, radius=6.0)
    target = torch.tensor([[111.4, 122.2]])
    placed = placement(target, torch.tensor([scale]), torch.tensor([angle]), torch.tensor([[31.0, 47.0]]))
    expected = transform_points(placed, torch.tensor([[[40.3, 30.8], [31.0, 47.0]]]))[0]
    torch.testing.assert_close(expected[1], target[0], atol=1e-4, rtol=0)
    assert (expected[0] - expected[1]).norm() == pytest.approx(scale * math.hypot(9.3, 16.2), rel=1e-4)
    warped = warp(image, placed, 250, 240)[0, 0]
    torch.testing.assert_close(centroid(warped), expected[0], atol=0.06, rtol=0)
    assert warped.sum() == pytest.approx(float(image.sum()) * scale**2, rel=0.03)


def test_the_identity_changes_nothing_and_the_outside_is_empty():
    image = torch.rand(2, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    zero, one = torch.zeros(2), torch.ones(2)
    same = warp(image, placement(torch.zeros(2, 2), one, zero, torch.zeros(2, 2)), 16, 24)
    torch.testing.assert_close(same, image, atol=1e-5, rtol=0)
    away = warp(image, placement(torch.full((2, 2), 100.0), one, zero, torch.zeros(2, 2)), 16, 24)
    assert not away.any()


def test_layers_of_colour_times_coverage():
    below = torch.full((1, 3, 2, 2), 0.5)
    layer = torch.zeros(1, 4, 2, 2)
    layer[0, :, 0, 0] = torch.tensor([1.0, 0.0, 0.0, 1.0])
    layer[0, :, 0, 1] = torch.tensor([0.5, 0.0, 0.0, 0.5])
    image = over(below, layer)[0]
    assert image[:, 0, 0].tolist() == [1.0, 0.0, 0.0]
    assert image[:, 0, 1].tolist() == [0.75, 0.25, 0.25]
    assert image[:, 1, 1].tolist() == [0.5, 0.5, 0.5]


def test_shadows_fall_where_they_are_cast():
    below, coverage = torch.ones(1, 3, 96, 96), torch.zeros(1, 1, 96, 96)
    coverage[..., 36:60, 36:60] = 1.0
    shaded = cast_shadow(below, coverage, torch.tensor([[0.2, 0.0]]), torch.tensor([0.5]))[0, 0]
    darkest = (shaded == shaded.min()).nonzero().float().mean(0)
    torch.testing.assert_close(darkest, torch.tensor([47.5, 47.5 + 0.2 * 96]), atol=3.0, rtol=0)
    assert 0.45 < float(shaded.min()) < 0.65
    assert shaded[5, 5] == 1.0
    assert torch.equal(cast_shadow(below, coverage, torch.zeros(1, 2), torch.zeros(1)), below)
