"""Shading normals: flat on a cube, smooth on a sphere, also across texture seams."""

import numpy as np
import trimesh

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.shading_normals import corner_normals


def test_a_cube_stays_sharp():
    box = trimesh.creation.box()
    normals = corner_normals(TriangleMesh(box.vertices, box.faces))
    np.testing.assert_allclose(normals, np.repeat(box.face_normals[:, None], 3, axis=1), atol=1e-6)


def test_a_sphere_is_smooth_even_where_vertices_are_split():
    sphere = trimesh.creation.icosphere(subdivisions=3)
    faces = sphere.faces
    split = TriangleMesh(sphere.vertices[faces].reshape(-1, 3), np.arange(faces.size).reshape(-1, 3))
    for mesh in (TriangleMesh(sphere.vertices, faces), split):
        cosine = (corner_normals(mesh) * mesh.vertices[mesh.faces]).sum(axis=-1)
        assert cosine.min() > 0.999


def test_degenerate_triangles_give_unit_normals():
    mesh = TriangleMesh(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]]), np.array([[0, 1, 2], [3, 3, 3]]))
    np.testing.assert_allclose(np.linalg.norm(corner_normals(mesh), axis=-1), 1.0)
