import numpy as np
import pytest
import torch

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.rendering.backgrounds import BackgroundSource
from pnp_ros.rendering.domain_randomisation import RandomisationConfig
from pnp_ros.rendering.lighting import Finish, Lighting
from pnp_ros.rendering.materials import Wardrobe, check_colours, likely_colours, random_material
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.rendering.sample_pool import SamplePool
from pnp_ros.rendering.unseen import unseen_material
from pnp_ros.rendering.validation_frames import validation_frames
from synthetic.printed_box import printed_box

BACKGROUNDS = BackgroundSource(None)


@pytest.fixture(scope="module")
def plain() -> TriangleMesh:
    box = printed_box()
    return TriangleMesh(box.vertices, box.faces)


def _means(mesh: TriangleMesh, colours: tuple[str, ...], count: int = 40) -> np.ndarray:
    rng = np.random.default_rng(0)
    made = [random_material(mesh, colours, BACKGROUNDS, rng).mesh.texture for _ in range(count)]
    return np.array([texture.reshape(-1, 3).mean(0) for texture in made if texture is not None])


def test_any_is_every_colour_and_a_told_one_is_that_one(plain: TriangleMesh) -> None:
    spread = _means(plain, ("any",))
    assert spread.std(axis=0).min() > 40.0
    assert (spread.max(axis=1) < 80.0).any()  # dark ones
    assert (spread.min(axis=1) > 150.0).any()  # bright ones
    told = np.median(_means(plain, ("#e0b020",)), axis=0)
    assert np.abs(told - [0xE0, 0xB0, 0x20]).max() < 25.0


def test_a_printed_mesh_is_left_alone_unless_it_is_told(plain: TriangleMesh) -> None:
    box = printed_box()
    assert likely_colours(box) == ("mesh",)
    assert likely_colours(plain) == ("any",)
    one = TriangleMesh(box.vertices, box.faces, vertex_colors=np.full(box.vertices.shape, 77, np.uint8))
    assert likely_colours(one) == ("any",)
    rng = np.random.default_rng(0)
    made = [random_material(box, ("mesh",), BACKGROUNDS, rng) for _ in range(20)]
    assert all(material.mesh is box for material in made)
    assert all(material.under(Lighting()) == Lighting() for material in made)


def test_a_printed_mesh_is_sometimes_worn_and_dusty_and_stays_as_it_is_held_out() -> None:
    pytest.importorskip("moderngl")
    box, rng = printed_box(), np.random.default_rng(0)
    with Renderer() as renderer:
        looks = Wardrobe(box, ("mesh",), renderer, BACKGROUNDS, rng)
        drawn = [looks.draw() for _ in range(100)]
        held_out = Wardrobe(box, ("mesh",), renderer, BACKGROUNDS, rng, unseen_material)
        assert all(held_out.draw()[1].finish == Finish() for _ in range(20))
    assert len({handle for handle, _ in drawn}) == 2  # its texture is not copied for each
    for name in ("wear", "dust"):
        assert 5 <= sum(getattr(material.finish, name) > 0.0 for _, material in drawn) <= 40
    new = [handle for handle, material in drawn if material.finish == Finish()]
    assert 50 <= len(new) <= 90
    assert len(set(new)) == 1


def test_metal_shines(plain: TriangleMesh) -> None:
    rng = np.random.default_rng(0)
    made = [random_material(plain, ("any",), BACKGROUNDS, rng).under(Lighting()) for _ in range(40)]
    assert 2 <= sum(lighting.specular >= 0.4 for lighting in made) <= 20


def test_some_are_coated_some_worn_some_dusty_and_metal_reflects(plain: TriangleMesh) -> None:
    rng = np.random.default_rng(0)
    made = [random_material(plain, ("any",), BACKGROUNDS, rng).finish for _ in range(80)]
    assert all(finish.mirror >= 0.3 for finish in made if finish.metal)
    coated = [finish for finish in made if not finish.metal and finish.mirror > 0.0]
    assert 10 <= len(coated) <= 50
    assert all(finish.mirror <= 0.15 for finish in coated)
    for name in ("wear", "dust"):
        assert 5 <= sum(getattr(finish, name) > 0.0 for finish in made) <= 50
    assert all(finish.wear <= 0.02 * plain.diameter for finish in made)


@pytest.mark.parametrize("colours", [(), ("red",), ("any", "#12345")])
def test_what_is_no_colour_is_named(colours: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="colour: expected mesh, any or #rrggbb"):
        check_colours(colours)
    with pytest.raises(ValueError, match="colour"):
        RandomisationConfig(colour=colours)


def _hues(mesh: TriangleMesh, colour: tuple[str, ...]) -> np.ndarray:
    """Mean colours of the object in a pool's renders, as shares of their sum."""
    pytest.importorskip("moderngl")
    config = RandomisationConfig(cache_size=48, pool=24, colour=colour)
    pool = SamplePool(mesh, mesh.vertices[:6], Symmetry(), config, 3, torch.device("cpu"))
    pool.refresh(24)
    drawn = pool.objects.draw(24, torch.Generator().manual_seed(0))["rgba"].numpy().astype(float)
    cover = drawn[:, 3:] > 200
    means = (drawn[:, :3] * cover).sum((2, 3)) / cover.sum((2, 3))
    return means / means.sum(1, keepdims=True)


def test_training_renders_are_of_many_colours(plain: TriangleMesh) -> None:
    assert _hues(plain, ("mesh",)).std(0).max() < 0.03  # the lamps' tints alone
    assert _hues(plain, ("any",)).std(0).max() > 0.05


def test_held_out_images_are_of_many_colours_and_the_same_for_a_seed(plain: TriangleMesh) -> None:
    pytest.importorskip("moderngl")
    config = RandomisationConfig(image_size=(160, 120), negatives=0.0, occlusion=0.0, colour=("any",), effects=0.0)
    first, again = (list(validation_frames(plain, config, 3, seed=5)) for _ in range(2))
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(first, again))
