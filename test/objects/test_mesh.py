"""Meshes: units, textures, merging, what is refused, and that what is saved comes back."""

import gc
import logging
import weakref
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from pnp_ros.objects.mesh import MeshError, TriangleMesh, once_a_mesh
from pnp_ros.objects.mesh_files import load_mesh, save_mesh

CUBE = Path(__file__).parents[3] / "shared/data/cube/cube.obj"


def box(size=(0.1, 0.2, 0.05), **visual) -> trimesh.Trimesh:
    return trimesh.creation.box(extents=size, **visual)


def textured_quad(color, offset=0.0, repeat=1.0) -> trimesh.Trimesh:
    """A 10 cm square in the plane z = offset whose texture is ``color`` in its upper half and black in its lower."""
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4] = color
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(image))
    visual = trimesh.visual.TextureVisuals(uv=corners * repeat, material=material)
    vertices = np.column_stack([0.1 * corners, np.full(4, offset)])
    return trimesh.Trimesh(vertices, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False)


def texel(mesh: TriangleMesh, point) -> np.ndarray:
    """The texture's colour at the vertex-interpolated uv of a surface point of a mesh of squares."""
    for a, b, c in mesh.faces:
        corners = mesh.vertices[[a, b, c]].astype(float)
        weights, *_ = np.linalg.lstsq(np.vstack([corners.T, np.ones(3)]), np.append(point, 1.0), rcond=None)
        if weights.min() > -1e-6 and np.allclose(weights @ corners, point, atol=1e-6):
            u, v = (weights @ mesh.uv[[a, b, c]]) % 1.0
            height, width = mesh.texture.shape[:2]
            return mesh.texture[int((1 - v) * height), int(u * width)]
    raise AssertionError(f"{point} lies on no face")


@pytest.mark.parametrize("suffix", ["obj", "ply", "glb", "stl"])
def test_a_box_is_read_from_every_format(tmp_path, suffix):
    box().export(tmp_path / f"box.{suffix}")
    mesh = load_mesh(tmp_path / f"box.{suffix}")
    assert len(mesh.faces) == 12
    np.testing.assert_allclose(mesh.bounds, [[-0.05, -0.1, -0.025], [0.05, 0.1, 0.025]], atol=1e-7)
    assert mesh.diameter == pytest.approx(np.sqrt(0.1**2 + 0.2**2 + 0.05**2), rel=1e-6)


@pytest.mark.parametrize(("units", "metres"), [("mm", 0.001), ("cm", 0.01), ("in", 0.0254), ("m", 1.0), ("auto", 1.0)])
def test_units_are_converted_and_said(tmp_path, caplog, units, metres):
    box(np.array([0.06, 0.06, 0.06]) / metres).export(tmp_path / "mug.ply")
    with caplog.at_level(logging.INFO, logger="pnp_ros"):
        mesh = load_mesh(tmp_path / "mug.ply", units=units)
    np.testing.assert_allclose(mesh.bounds[1], 0.03, rtol=1e-6)
    assert "0.06 x 0.06 x 0.06 m, diameter 0.104 m" in caplog.text


def test_a_60_metre_mug_is_refused_with_a_hint(tmp_path):
    box((60, 60, 80)).export(tmp_path / "mug.ply")
    with pytest.raises(MeshError, match=r"mug.ply: 117 m across.*units mm \(0\.117 m\)"):
        load_mesh(tmp_path / "mug.ply")


def test_metres_that_no_file_names_are_doubted(tmp_path, caplog):
    box((3, 2, 1)).export(tmp_path / "clip.stl")
    mesh = load_mesh(tmp_path / "clip.stl")
    assert (
        "clip.stl: 3.74 m across, as the file names no unit and metres are assumed; if they are not right:"
        " --units mm (0.00374 m) or --units cm (0.0374 m) or --units in (0.095 m)" in caplog.text
    )
    caplog.clear()
    load_mesh(tmp_path / "clip.stl", units="m")
    save_mesh(mesh, tmp_path / "mesh.ply")  # says that it is in metres
    load_mesh(tmp_path / "mesh.ply")
    box((0.6, 0.6, 0.5)).export(tmp_path / "chest.stl")
    load_mesh(tmp_path / "chest.stl")
    assert not caplog.records


def test_a_mesh_made_too_small_is_refused_with_a_hint(tmp_path):
    box((0.06, 0.06, 0.08)).export(tmp_path / "mug.ply")
    with pytest.raises(MeshError, match=r"units m \(0\.117 m\)"):
        load_mesh(tmp_path / "mug.ply", units="mm")


def test_bad_files_are_refused_by_name(tmp_path):
    with pytest.raises(MeshError, match=r"nowhere.obj: no such file"):
        load_mesh(tmp_path / "nowhere.obj")
    (tmp_path / "empty.obj").write_text("# nothing\n")
    with pytest.raises(MeshError, match=r"empty.obj"):
        load_mesh(tmp_path / "empty.obj")
    (tmp_path / "noise.ply").write_bytes(b"\x00\x01noise")
    with pytest.raises(MeshError, match=r"noise.ply: cannot be read"):
        load_mesh(tmp_path / "noise.ply")
    (tmp_path / "nan.obj").write_text("v 0 0 0\nv nan 0 0\nv 0 0.1 0\nf 1 2 3\n")
    with pytest.raises(MeshError, match=r"nan.obj"):
        load_mesh(tmp_path / "nan.obj")
    box().export(tmp_path / "box.ply")
    with pytest.raises(MeshError, match="units"):
        load_mesh(tmp_path / "box.ply", units="feet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": np.zeros((0, 3))}, "vertices"),
        ({"vertices": np.full((3, 3), np.nan)}, "vertices: not finite"),
        ({"faces": np.array([[0, 1, 3]])}, "faces"),
        ({"faces": np.array([[0, 1, 1]])}, "area"),
        ({"uv": np.zeros((3, 2))}, "uv and texture"),
        ({"uv": np.zeros((2, 2)), "texture": np.zeros((4, 4, 3), np.uint8)}, "uv"),
        ({"uv": np.zeros((3, 2)), "texture": np.zeros((4, 4), np.uint8)}, "texture"),
        ({"vertex_colors": np.zeros((3, 4), np.uint8)}, "vertex_colors"),
    ],
)
def test_inconsistent_arrays_are_refused(change, message):
    good = {"vertices": np.eye(3), "faces": np.array([[0, 1, 2]])}
    TriangleMesh(**good)
    with pytest.raises(MeshError, match=message):
        TriangleMesh(**{**good, **change})


def test_a_flat_mesh_has_a_diameter():
    mesh = TriangleMesh(
        np.array([[0, 0, 1], [0.3, 0, 1], [0.3, 0.4, 1], [0, 0.4, 1]]), np.array([[0, 1, 2], [0, 2, 3]])
    )
    assert mesh.diameter == pytest.approx(0.5)


def test_the_diameter_is_exact_and_ignores_unused_vertices():
    points = np.random.default_rng(0).normal(size=(200, 3))
    faces = np.random.default_rng(1).integers(0, 150, size=(400, 3))
    points[150:] *= 10.0
    used = points[np.unique(faces)]
    expected = np.linalg.norm(used[:, None] - used, axis=-1).max()
    assert TriangleMesh(points, faces).diameter == pytest.approx(expected, rel=1e-6)


def test_the_extreme_points_reach_as_far_as_the_mesh_whatever_the_direction():
    rng = np.random.default_rng(0)
    points, directions = rng.normal(size=(5000, 3)), rng.normal(size=(300, 3))
    points[4900:] *= 10.0  # of no face
    faces = rng.permutation(4899).reshape(-1, 3)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    extreme = TriangleMesh(points, faces).extreme_points
    assert len(extreme) <= 512
    reach, whole = ((p @ directions.T).max(axis=0) for p in (extreme, points[np.unique(faces)]))
    assert (reach <= whole + 1e-5).all()
    assert (reach >= 0.98 * whole).all()


@pytest.mark.parametrize("flat", [False, True])
def test_the_diameter_of_many_points_far_out_is_exact_and_quick(flat):
    t = np.linspace(0, 1, 1000)[:, None]
    a, b, c = np.array([[0, 0, 0], [1, 0, 0], [0.5, np.sqrt(0.75), 0]])
    outline = np.concatenate([a + t * (b - a), b + t * (c - b), c + t * (a - c)])  # half of it is a candidate
    points = np.concatenate([outline + np.array([0, 0, 0 if flat else z]) for z in np.linspace(0, 0.3, 5)])
    faces = np.arange(len(points)).reshape(-1, 3)
    faces[:, 1] = (faces[:, 1] + 700) % len(points)
    assert TriangleMesh(points, faces).diameter == pytest.approx(1.0 if flat else np.sqrt(1.09), rel=1e-6)


def test_what_is_made_of_a_mesh_is_made_once_and_goes_with_it():
    made = []

    @once_a_mesh
    def corners(mesh):
        made.append(len(mesh.vertices))
        return np.array(mesh.vertices)

    one, other = (TriangleMesh(0.1 * k * np.eye(3), [[0, 1, 2]]) for k in (1, 2))
    assert corners(one) is corners(one)
    assert corners(other)[0, 0] == np.float32(0.2)
    assert len(made) == 2
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None


def test_scene_transforms_and_materials_are_merged(tmp_path):
    scene = trimesh.Scene()
    scene.add_geometry(textured_quad((255, 0, 0)), transform=trimesh.transformations.translation_matrix([1, 0, 0]))
    scene.add_geometry(textured_quad((0, 255, 0), offset=0.5, repeat=2.0))
    scene.add_geometry(box((0.1, 0.1, 0.1), visual=None))
    scene.export(tmp_path / "scene.glb")
    mesh = load_mesh(tmp_path / "scene.glb")
    assert len(mesh.faces) == 2 + 2 + 12
    assert tuple(texel(mesh, [1.05, 0.08, 0.0])) == (255, 0, 0)
    assert tuple(texel(mesh, [1.05, 0.02, 0.0])) == (0, 0, 0)
    for y, color in [(0.015, (0, 0, 0)), (0.035, (0, 255, 0)), (0.065, (0, 0, 0)), (0.085, (0, 255, 0))]:
        np.testing.assert_allclose(texel(mesh, [0.055, y, 0.5]), color, atol=40)
    assert texel(mesh, [0.05, 0.01, 0.02]).std() < 5  # the plain box became a plain patch of the atlas


def test_materials_of_an_obj_file(tmp_path):
    Image.fromarray(np.full((4, 4, 3), (10, 200, 30), np.uint8)).save(tmp_path / "green.png")
    (tmp_path / "two.mtl").write_text("newmtl a\nmap_Kd green.png\nnewmtl b\nKd 1 0 0\n")
    (tmp_path / "two.obj").write_text(
        "mtllib two.mtl\nv 0 0 0\nv .1 0 0\nv 0 .1 0\nv 0 0 .2\nv .1 0 .2\nv 0 .1 .2\nvt 0 0\nvt 1 0\nvt 0 1\n"
        "usemtl a\nf 1/1 2/2 3/3\nusemtl b\nf 4/1 5/2 6/3\n"
    )
    mesh = load_mesh(tmp_path / "two.obj")
    np.testing.assert_allclose(texel(mesh, [0.03, 0.03, 0.0]), (10, 200, 30), atol=2)
    np.testing.assert_allclose(texel(mesh, [0.03, 0.03, 0.2]), (255, 0, 0), atol=8)


def test_vertex_and_face_colours(tmp_path):
    colored = box()
    colored.visual.vertex_colors = np.arange(8)[:, None] * np.array([[30, 20, 10, 0]]) + [[0, 0, 0, 255]]
    colored.export(tmp_path / "vertex.ply")
    mesh = load_mesh(tmp_path / "vertex.ply")
    np.testing.assert_array_equal(mesh.vertex_colors, colored.visual.vertex_colors[:, :3])
    colored = box()
    colored.visual.face_colors = np.arange(12)[:, None] * np.array([[20, 10, 5, 0]]) + [[0, 0, 0, 255]]
    colored.export(tmp_path / "face.ply")
    mesh = load_mesh(tmp_path / "face.ply")
    np.testing.assert_array_equal(mesh.vertex_colors[mesh.faces][:, 0], colored.visual.face_colors[:, :3])
    assert "plain grey" in TriangleMesh(np.eye(3), np.array([[0, 1, 2]])).describe()


def test_large_textures_are_scaled_down(tmp_path):
    quad = textured_quad((9, 9, 9))
    material = quad.visual.material
    material.baseColorTexture = material.baseColorTexture.resize((300, 100))
    quad.export(tmp_path / "quad.glb")
    assert load_mesh(tmp_path / "quad.glb", max_texture_size=60).texture.shape == (20, 60, 3)


@pytest.mark.parametrize("kind", ["texture", "colors", "plain"])
def test_save_and_load_agree(tmp_path, kind):
    rng = np.random.default_rng(3)
    vertices, faces = rng.uniform(-0.1, 0.1, (50, 3)), rng.integers(0, 50, (80, 3))
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])]
    look = {
        "texture": {"uv": rng.random((50, 2)), "texture": rng.integers(0, 256, (16, 24, 3), np.uint8)},
        "colors": {"vertex_colors": rng.integers(0, 256, (50, 3), np.uint8)},
        "plain": {},
    }[kind]
    mesh = TriangleMesh(vertices, faces, **look)
    assert [path.name for path in save_mesh(mesh, tmp_path / "m.ply")] == ["texture.png"] * (kind == "texture") + [
        "m.ply"
    ]
    again = load_mesh(tmp_path / "m.ply")
    np.testing.assert_array_equal(again.vertices[again.faces], mesh.vertices[mesh.faces])
    if kind == "texture":
        np.testing.assert_allclose(again.uv[again.faces], mesh.uv[mesh.faces], atol=1e-7)
        np.testing.assert_array_equal(again.texture, mesh.texture)
    if kind == "colors":
        np.testing.assert_array_equal(again.vertex_colors[again.faces], mesh.vertex_colors[mesh.faces])


@pytest.mark.skipif(not CUBE.is_file(), reason="the real cube's mesh is not on this machine")
def test_the_real_cube():
    mesh = load_mesh(CUBE)
    assert mesh.diameter == pytest.approx(0.0845 * np.sqrt(3), rel=1e-4)
    assert mesh.texture is not None
    assert max(mesh.texture.shape) == 2048
