"""What is proposed as a symmetry is one, and what tells views apart is seen."""

import numpy as np
import pytest
import trimesh

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.training.likeness import symmetries_to_declare

CYLINDER = trimesh.creation.cylinder(radius=0.03, height=0.1, sections=64)
HANDLE = trimesh.creation.box((0.02, 0.008, 0.05)).apply_translation((0.04, 0, 0))
PRISM = trimesh.creation.cylinder(radius=0.05, height=0.1, sections=6)
WEDGE = trimesh.convex.convex_hull(np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.06, 0], [0, 0, 0.03]]))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (CYLINDER, "z,x2,y2"),
        (PRISM, "x2,y2,z6"),
        (trimesh.creation.box((0.1, 0.1, 0.05)), "x2,y2,z4"),
        (trimesh.creation.box((0.1, 0.07, 0.05)), "x2,y2,z2"),
        (trimesh.creation.box((0.1, 0.1, 0.1)), "x4,y4,z4"),
        (trimesh.creation.icosphere(subdivisions=4, radius=0.05), "x,y,z"),
        (trimesh.creation.cone(radius=0.04, height=0.1, sections=64), "z"),
        (trimesh.util.concatenate([CYLINDER, HANDLE]), "x2"),  # a mug without a floor
        (WEDGE, None),
        (trimesh.creation.box((0.1, 0.07, 0.05)).apply_translation((0.02, 0.01, 0.03)), None),  # not about the origin
    ],
)
def test_what_looks_alike_is_named(shape: trimesh.Trimesh, expected: str | None) -> None:
    assert symmetries_to_declare(TriangleMesh(shape.vertices, shape.faces)) == expected


def test_colours_tell_views_apart() -> None:
    box = trimesh.creation.box((0.1, 0.07, 0.05)).subdivide().subdivide().subdivide()
    colors = np.full((len(box.vertices), 3), 200, np.uint8)
    assert symmetries_to_declare(TriangleMesh(box.vertices, box.faces, vertex_colors=colors)) == "x2,y2,z2"
    colors[box.vertices[:, 2] > 0] = (200, 30, 30)  # another top
    assert symmetries_to_declare(TriangleMesh(box.vertices, box.faces, vertex_colors=colors)) == "z2"
    colors[box.vertices[:, 0] > 0] = (30, 30, 200)
    assert symmetries_to_declare(TriangleMesh(box.vertices, box.faces, vertex_colors=colors)) is None


def test_a_texture_tells_views_apart() -> None:
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    vertices, uv = np.column_stack([0.1 * corners, np.zeros(4)]), corners + 0.5
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    texture = np.full((64, 64, 3), 255, np.uint8)
    assert symmetries_to_declare(TriangleMesh(vertices, faces, uv, texture)) == "x2,y2,z4"
    texture[:, :32] = 0
    assert symmetries_to_declare(TriangleMesh(vertices, faces, uv, texture.copy())) == "x2"
    texture[:32, :32] = 128
    assert symmetries_to_declare(TriangleMesh(vertices, faces, uv, texture.copy())) is None
