"""Correlation of image and rendering: what it must and must not depend on."""

import numpy as np
import pytest

from pnp_ros.evaluation.overlap import normalised_cross_correlation

RNG = np.random.default_rng(0)
TEXTURE = np.kron(RNG.integers(60, 180, (12, 16, 3)), np.ones((5, 5, 1))).astype(np.uint8)
MASK = np.zeros(TEXTURE.shape[:2], np.uint8)
MASK[10:50, 20:70] = 2


@pytest.mark.parametrize("per_channel", [False, True])
def test_brightness_contrast_and_surroundings_do_not_matter(per_channel: bool) -> None:
    image = RNG.integers(0, 255, TEXTURE.shape).astype(np.uint8)
    image[MASK > 0] = (0.7 * TEXTURE[MASK > 0] + 40).astype(np.uint8)
    assert normalised_cross_correlation(image, TEXTURE, MASK, item=1, per_channel=per_channel) > 0.99
    assert normalised_cross_correlation(255 - image, TEXTURE, MASK, per_channel=per_channel) < -0.99


def test_equals_the_correlation_coefficient_of_the_luminance() -> None:
    noisy = np.clip(TEXTURE + RNG.normal(0, 40, TEXTURE.shape), 0, 255).astype(np.uint8)
    luminance = [(p[MASK > 0] @ np.array([0.299, 0.587, 0.114])) for p in (noisy, TEXTURE)]
    found = normalised_cross_correlation(noisy, TEXTURE, MASK, per_channel=False)
    assert found == pytest.approx(np.corrcoef(*luminance)[0, 1])
    assert 0.3 < found < 0.95


def test_a_shifted_texture_does_not_match() -> None:
    assert abs(normalised_cross_correlation(np.roll(TEXTURE, 10, axis=1), TEXTURE, MASK)) < 0.3


def test_nothing_to_compare_explains_nothing() -> None:
    assert normalised_cross_correlation(TEXTURE, TEXTURE, np.zeros_like(MASK)) == 0.0
    assert normalised_cross_correlation(TEXTURE, TEXTURE, MASK, item=0) == 0.0
    assert normalised_cross_correlation(np.full_like(TEXTURE, 9), TEXTURE, MASK) == 0.0
    with pytest.raises(ValueError, match="image, rendering, mask"):
        normalised_cross_correlation(TEXTURE[:-1], TEXTURE, MASK)
