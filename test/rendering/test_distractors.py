"""Other things: solids of the size asked for, recoloured copies of the same shape, sprites that cover a part."""

import numpy as np
import pytest

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.backgrounds import BackgroundSource
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.rendering.distractors import painted_sprite, random_solid, recolored


def test_solids_have_the_size_and_differ():
    rng = np.random.default_rng(0)
    solids = [random_solid(0.1, BackgroundSource(), rng) for _ in range(30)]
    assert all(0.05 < solid.diameter < 0.11 for solid in solids)
    assert len({len(solid.faces) for solid in solids}) > 4
    assert all(solid.texture is not None for solid in solids)


def test_recoloured_copies_keep_the_shape_alone():
    rng, mesh = np.random.default_rng(1), demo_mesh()
    plain = 0
    for _ in range(12):
        copy = recolored(mesh, BackgroundSource(), rng)
        np.testing.assert_array_equal(copy.vertices, mesh.vertices)
        plain += copy.texture is None
        if copy.texture is not None and copy.texture.shape == (512, 512, 3):
            assert np.abs(copy.texture.astype(float).mean(axis=(0, 1)) - mesh.texture.mean(axis=(0, 1))).max() > 3
    assert 0 < plain < 12
    uncoloured = TriangleMesh(mesh.vertices, mesh.faces)
    assert recolored(uncoloured, BackgroundSource(), rng).vertex_colors is not None


@pytest.mark.parametrize("size", [32, 112])
def test_sprites_carry_colour_times_coverage(size):
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(30):
        sprite = painted_sprite(size, BackgroundSource(), rng)
        assert sprite.shape == (size, size, 4)
        assert np.all(sprite[..., :3] <= sprite[..., 3:])
        covered.append((sprite[..., 3] > 127).mean())
    assert min(covered) < 0.15 < 0.3 < max(covered)
