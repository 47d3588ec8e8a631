"""Shading normals: flat on a cube, smooth on a sphere, also across texture seams; and where edges are sharp."""

import numpy as np
import trimesh

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.shading_normals import FAR, corner_normals, edge_distances


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


def test_a_cube_is_worn_along_its_edges_and_not_along_its_diagonals():
    box = trimesh.creation.box()
    mesh = TriangleMesh(box.vertices, box.faces)
    distances = edge_distances(mesh)
    sharp = (distances < FAR).any(axis=1)  # by edge, opposite a corner
    np.testing.assert_array_equal(sharp.sum(axis=1), 2)
    corners = mesh.vertices[mesh.faces]
    lengths = np.linalg.norm(np.roll(corners, -1, axis=1) - np.roll(corners, -2, axis=1), axis=-1)
    np.testing.assert_array_equal(sharp, lengths < 1.2)
    for face, edge in np.argwhere(
        sharp
    ):  # a side of a half square: its own corner is one side away, its ends are on it
        np.testing.assert_allclose(distances[face, :, edge], np.eye(3)[edge], atol=1e-6)


def test_hollows_and_gentle_bends_are_not_worn():
    box, sphere = trimesh.creation.box(), trimesh.creation.icosphere(subdivisions=3)
    assert (edge_distances(TriangleMesh(box.vertices, box.faces[:, ::-1])) == FAR).all()  # seen from within
    assert (edge_distances(TriangleMesh(sphere.vertices, sphere.faces)) == FAR).all()


def test_open_and_degenerate_faces_have_finite_distances():
    mesh = TriangleMesh(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]]), np.array([[0, 1, 2], [3, 3, 3]]))
    assert (edge_distances(mesh)[0] == FAR).all()
    assert np.isfinite(edge_distances(mesh)).all()
