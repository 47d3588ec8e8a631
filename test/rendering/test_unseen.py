"""Held-out looks: of other generators than the training's, in the colours that are asked for."""

import numpy as np
import pytest

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.backgrounds import BackgroundSource, random_background
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.rendering.domain_randomisation import RandomisationConfig
from pnp_ros.rendering.unseen import PAINTS, dead_leaves, painted, unseen_lighting, unseen_material
from pnp_ros.rendering.validation_frames import validation_frames
from synthetic.printed_box import printed_box

CONFIG = RandomisationConfig(image_size=(160, 120), negatives=0.0, occlusion=0.0, effects=0.0, distance=(2.0, 3.0))


@pytest.fixture(scope="module")
def plain() -> TriangleMesh:
    box = printed_box()
    return TriangleMesh(box.vertices, box.faces)


def test_leaves_cover_an_image_in_all_sizes() -> None:
    """Edges are about as often when the image is made four times smaller; of white noise they are not."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        image = dead_leaves(320, 240, rng)
        assert image.shape == (240, 320, 3)
        assert image.dtype == np.uint8
        grey = image.astype(float).mean(-1)
        coarse = grey.reshape(60, 4, 80, 4).mean((1, 3))
        fine, far = np.abs(np.diff(grey)).mean(), np.abs(np.diff(coarse)).mean()
        assert 1.0 < far / fine < 6.0  # a half of noise


def test_any_is_every_colour_and_a_told_one_is_that_one(plain: TriangleMesh) -> None:
    rng, source = np.random.default_rng(0), BackgroundSource(None, dead_leaves)

    def means(colours: tuple[str, ...]) -> np.ndarray:
        made = [unseen_material(plain, colours, source, rng).mesh.texture for _ in range(60)]
        return np.array([np.median(texture.reshape(-1, 3), axis=0) for texture in made if texture is not None])

    assert means(("any",)).std(axis=0).min() > 40.0
    assert np.abs(np.median(means(("#e0b020",)), axis=0) - [0xE0, 0xB0, 0x20]).max() < 25.0
    assert unseen_material(plain, ("mesh",), source, rng).mesh is plain


@pytest.mark.parametrize("paint", PAINTS)
def test_a_paint_is_of_its_colour(plain: TriangleMesh, paint: str) -> None:
    texture = painted(plain, paint, np.array([200.0, 40.0, 30.0]), np.random.default_rng(0)).texture
    assert texture is not None
    red, green, blue = np.median(texture.reshape(-1, 3), axis=0)
    assert red > green + 40.0 > blue
    assert (texture.std(axis=(0, 1)).max() > 5.0) == (paint != "matt")


@pytest.mark.parametrize("paint", sorted(set(PAINTS) - {"matt"}))
def test_a_paint_is_seen_in_every_colour(plain: TriangleMesh, paint: str) -> None:
    """Benchmarks compare colours by them: grey's complement is grey."""
    for level in (30.0, 77.0, 120.0, 128.0, 235.0):
        texture = painted(plain, paint, np.full(3, level), np.random.default_rng(0)).texture
        assert texture is not None
        dark, bright = np.quantile(texture, [0.02, 0.98])
        assert bright - dark > min(50.0, 0.5 * level)


def test_light_comes_from_two_lamps_of_two_colours() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        lighting = unseen_lighting(rng)
        assert lighting.sky == lighting.ground
        key, fill = (np.array(light.color) for light in lighting.lights)
        assert key.sum() > fill.sum()
        assert (key[0] > key[2]) != (fill[0] > fill[2])  # warm and cold


def test_held_out_images_are_other_ones_of_the_same_object(plain: TriangleMesh) -> None:
    pytest.importorskip("moderngl")
    usual = list(validation_frames(demo_mesh(), CONFIG, 4, seed=5))
    unseen, again = (list(validation_frames(demo_mesh(), CONFIG, 4, seed=5, unseen=True)) for _ in range(2))
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(unseen, again))
    assert not any(np.array_equal(a.rgb, b.rgb) for a, b in zip(usual, unseen))
    assert all(frame.T_camera_object is not None for frame in unseen)


def test_scenes_of_one_seed_differ_by_the_object_alone(plain: TriangleMesh) -> None:
    """Benchmarks compare colours in the same scenes."""
    pytest.importorskip("moderngl")
    colours = (np.array([200.0, 40.0, 30.0]), np.array([40.0, 80.0, 180.0]))
    meshes = [painted(plain, "matt", colour, np.random.default_rng(0)) for colour in colours]
    red, blue = (list(validation_frames(mesh, CONFIG, 3, seed=7, unseen=True)) for mesh in meshes)
    for a, b in zip(red, blue):
        np.testing.assert_array_equal(a.T_camera_object, b.T_camera_object)
        same = (a.rgb == b.rgb).all(-1)
        assert 0.2 < same.mean() < 1.0


def test_backgrounds_come_from_the_painter_that_is_told() -> None:
    source = BackgroundSource(None, dead_leaves)
    one = source.image(64, 48, np.random.default_rng(3))
    np.testing.assert_array_equal(one, dead_leaves(64, 48, np.random.default_rng(3)))
    usual = BackgroundSource(None).image(64, 48, np.random.default_rng(3))
    np.testing.assert_array_equal(usual, random_background(64, 48, np.random.default_rng(3)))
