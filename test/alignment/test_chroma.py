"""Colours of a mesh at its points, whatever it keeps them in."""

import numpy as np
import pytest

from pnp_ros.alignment.chroma import Chroma
from pnp_ros.objects.mesh import TriangleMesh

CORNERS = np.float32([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]])
FACES = np.int32([[0, 1, 2], [0, 3, 1]])
RED, BLUE = np.uint8([220, 30, 20]), np.uint8([20, 40, 230])


@pytest.mark.parametrize("kind", ["palette", "corners"])
def test_a_palette_of_two_texels_is_a_texture_as_colours_at_corners_are(kind: str) -> None:
    corners, faces = CORNERS[FACES].reshape(-1, 3), np.arange(6, dtype=np.int32).reshape(2, 3)
    if kind == "palette":  # all corners of a face lie on one texel
        uv = np.float32([[0.25, 0.5]] * 3 + [[0.75, 0.5]] * 3)
        mesh = TriangleMesh(corners, faces, uv, np.stack([RED, BLUE])[None])
    else:
        mesh = TriangleMesh(corners, faces, vertex_colors=np.repeat(np.stack([RED, BLUE]), 3, 0))
    middles = mesh.vertices[mesh.faces].mean(1)
    for per_metre in (100.0, 10_000.0):
        found = Chroma(mesh)._colours(np.array([0, 1]), middles, per_metre)
        np.testing.assert_allclose(found, np.stack([RED, BLUE]), atol=1.0)


def test_a_mesh_without_colours_has_none() -> None:
    with pytest.raises(ValueError, match="expected a texture, or colours at its corners"):
        Chroma(TriangleMesh(CORNERS, FACES))
