"""Backgrounds: varied, repeatable, of the size asked for, with the user's images among them."""

import cv2
import numpy as np
import pytest

from pnp_ros.rendering.backgrounds import BackgroundError, BackgroundSource, random_background


def test_procedural_backgrounds_vary_and_repeat():
    rng, again = np.random.default_rng(4), np.random.default_rng(4)
    images = [random_background(97, 61, rng) for _ in range(40)]
    assert all(image.shape == (61, 97, 3) and image.dtype == np.uint8 for image in images)
    np.testing.assert_array_equal(images[0], random_background(97, 61, again))
    means = np.array([image.mean(axis=(0, 1)) for image in images])
    assert np.all(means.std(axis=0) > 25)  # of all colours
    contrast = np.array([image.std() for image in images])
    assert contrast.min() < 25 < 45 < contrast.max()  # plain and cluttered ones


def test_a_folder_of_images_is_mixed_in(tmp_path):
    (tmp_path / "below").mkdir()
    for name, blue in (("a.png", 200), ("below/b.JPG", 100)):
        cv2.imwrite(str(tmp_path / name), np.full((50, 300, 3), (blue, 3, 1), np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    source, rng = BackgroundSource(tmp_path), np.random.default_rng(0)
    images = [source.image(80, 60, rng) for _ in range(60)]
    found = [tuple(np.round(p.mean(axis=(0, 1)), -1).astype(int)) for p in images if p.std(axis=(0, 1)).max() < 4]
    assert found.count((0, 0, 200)) > 5
    assert found.count((0, 0, 100)) > 5
    assert len(found) < 45
    assert all(image.shape == (60, 80, 3) for image in images)


def test_folders_that_cannot_serve_are_named(tmp_path):
    with pytest.raises(BackgroundError, match="expected a folder with images"):
        BackgroundSource(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"not an image")
    source, rng = BackgroundSource(tmp_path), np.random.default_rng(0)
    with pytest.raises(BackgroundError, match=r"broken\.png"):
        [source.image(20, 20, rng) for _ in range(20)]
