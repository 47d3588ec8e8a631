"""Camera effects: each does what it says, none leaves [0, 1] or moves the image."""

import pytest
import torch

from pnp_ros.rendering import camera_effects
from pnp_ros.rendering.camera_effects import apply_camera_effects


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def checks(count=16, size=64, cell=8):
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    pattern = ((rows // cell + columns // cell) % 2).float() * 0.5 + 0.25
    return pattern.expand(count, 3, size, size).clone()


def edges(images):
    return images.diff(dim=-1).abs().mean(dim=(1, 2, 3))


def test_all_together_stay_in_range_vary_and_repeat(generator):
    images = torch.rand(32, 3, 40, 56, generator=generator)
    result = apply_camera_effects(images.clone(), generator)
    assert result.shape == images.shape
    assert torch.isfinite(result).all()
    assert float(result.min()) >= 0.0
    assert float(result.max()) <= 1.0
    means = result.mean(dim=(1, 2, 3))
    assert means.std() > 0.05
    first, second = (apply_camera_effects(images.clone(), torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_strength_zero_changes_nothing(generator):
    images = torch.rand(4, 3, 16, 16, generator=generator)
    assert torch.equal(apply_camera_effects(images, generator, 0.0), images)


def test_colours_change_but_order_of_brightness_stays(generator):
    ramp = torch.linspace(0, 1, 50).expand(200, 3, 4, 50).clone()
    result = camera_effects.color_response(ramp, generator, 1.0)
    assert (result.diff(dim=-1) >= -1e-5).all()
    assert (result[..., -1] > 0.999).all(dim=1).any()  # some over-exposed
    assert (result[..., -1] < 0.6).all(dim=1).any()  # some dark
    assert (result[..., 0] > 0.1).all(dim=1).any()  # some washed out
    assert ((result[:, 0] - result[:, 2]).abs().amax(dim=(1, 2)) > 0.05).float().mean() > 0.3  # white balance


def test_blur_softens_and_does_not_shift(generator):
    images = torch.zeros(200, 3, 21, 21)
    images[..., 10, 10] = 1.0
    result = camera_effects.blur(images, generator, 1.0)
    torch.testing.assert_close(result.sum(dim=(2, 3)), torch.ones(200, 3), atol=1e-4, rtol=0)
    steps = torch.arange(21.0)
    torch.testing.assert_close((result.sum(dim=2) * steps).sum(-1), torch.full((200, 3), 10.0), atol=1e-3, rtol=0)
    spread_x = (result[:, 0].sum(1) * (steps - 10) ** 2).sum(-1)
    spread_y = (result[:, 0].sum(2) * (steps - 10) ** 2).sum(-1)
    assert (spread_x + spread_y).max() > 3.0
    assert (spread_x / spread_y).max() > 3.0  # motion to the side
    assert (spread_y / spread_x).max() > 3.0  # and up and down


def test_low_resolution_does_not_shift():
    images = torch.zeros(1, 1, 64, 64)
    images[..., 20:40, 30:44] = 1.0
    for seed in range(10):
        result = camera_effects.low_resolution(images, torch.Generator().manual_seed(seed), 1.0)[0, 0]
        weight = result / result.sum()
        assert float((weight.sum(0) * torch.arange(64)).sum()) == pytest.approx(36.5, abs=0.03)
        assert float((weight.sum(1) * torch.arange(64)).sum()) == pytest.approx(29.5, abs=0.03)


def test_noise_has_no_bias_and_differs_between_images(generator):
    images = torch.full((64, 3, 48, 48), 0.5)
    noise = camera_effects.sensor_noise(images, generator, 1.0) - images
    deviation = noise.std(dim=(1, 2, 3))
    assert deviation.min() < 0.01 < 0.03 < deviation.max() < 0.08
    assert (noise.mean(dim=(1, 2, 3)).abs() < 0.15 * deviation + 1e-3).all()
    normalised = (noise / deviation[:, None, None, None]).flatten(1)
    correlation = normalised @ normalised.T / normalised.shape[1]
    assert (correlation - torch.eye(64)).abs().median() < 0.05


def test_compression_keeps_what_is_flat_and_spoils_detail(generator):
    flat = torch.rand(8, 3, 1, 1, generator=generator).expand(8, 3, 37, 50).clone()
    assert (camera_effects.compression(flat, generator, 1.0) - flat).abs().max() < 0.06
    fine = torch.rand(32, 3, 64, 64, generator=generator)
    spoiled = camera_effects.compression(fine, generator, 1.0)
    error = (spoiled - fine).abs().mean(dim=(1, 2, 3))
    assert error.min() > 0.01
    assert error.max() > 2 * error.min()


def test_uneven_light_is_smooth_and_positive(generator):
    images = checks()
    ratio = camera_effects.uneven_light(images, generator, 1.0) / images
    assert ratio.min() > 0.2
    assert ratio.std(dim=(1, 2, 3)).max() > 0.05
    assert edges(ratio).max() < 0.02
