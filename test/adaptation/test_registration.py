"""The rendered object is found where the image shows it, at the size it has there."""

import numpy as np
import pytest

from pnp_ros.adaptation.registration import seek


def scene(shift: tuple[int, int] = (0, 0), size: float = 1.0, gain: float = 1.0) -> tuple[np.ndarray, ...]:
    """A window, a rendering and its mask: a smooth coloured square, shifted and scaled in the window."""
    rng = np.random.default_rng(0)

    def surface(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        waves = [np.sin(0.2 * u + k) * np.cos(0.15 * v + 2 * k) for k in range(3)]
        return 128 + 100 * np.stack(waves, -1)

    v, u = np.mgrid[0:160, 0:160].astype(float)
    mask = (abs(u - 79.5) <= 40) & (abs(v - 79.5) <= 30)
    rendering = np.where(mask[..., None], surface(u, v), 0).astype(np.uint8)
    x, y = (u - 79.5 - shift[0]) / size + 79.5, (v - 79.5 - shift[1]) / size + 79.5
    inside = (abs(x - 79.5) <= 40) & (abs(y - 79.5) <= 30)
    clutter = rng.integers(0, 255, (160, 160, 3))
    window = np.where(inside[..., None], gain * surface(x, y), clutter).clip(0, 255).astype(np.uint8)
    return window, rendering, mask


def test_at_its_place() -> None:
    found = seek(*scene())
    assert found.overlap > 0.99
    assert found.offset == 0.0
    assert found.size == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("shift", [(12, 0), (0, -20), (-15, 10)])
def test_beside_it(shift: tuple[int, int]) -> None:
    found = seek(*scene(shift))
    assert found.best > 0.98
    assert found.offset == pytest.approx(np.hypot(*shift) / 81, abs=0.02)


@pytest.mark.parametrize("shift", [(12, 0), (0, -10), (-8, 6)])
def test_its_size_is_told_a_little_beside_it(shift: tuple[int, int]) -> None:
    assert seek(*scene(shift)).size == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("size", [0.92, 0.96, 0.985, 1.015, 1.045, 1.09, 1.18])
def test_of_another_size(size: float) -> None:
    assert seek(*scene(size=size)).size == pytest.approx(size, abs=0.01)


def test_brightness_does_not_matter() -> None:
    assert seek(*scene(gain=0.4)).best > 0.98


def test_nothing_there() -> None:
    _, rendering, mask = scene()
    noise = np.random.default_rng(1).integers(0, 255, (160, 160, 3), np.uint8)
    assert seek(noise, rendering, mask).best < 0.2
    assert seek(np.full_like(noise, 100), rendering, mask).best == 0.0
    assert seek(noise, rendering, np.zeros_like(mask)).best == 0.0
