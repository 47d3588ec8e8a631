"""The renderer: OpenCV's camera convention, masks, depth, colours, lenses, and clear errors."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import trimesh

from pnp_ros.cameras.camera import Camera, camera_from_info
from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering import renderer as renderer_module
from pnp_ros.rendering.lighting import Finish, Light, Lighting
from pnp_ros.rendering.renderer import Renderer, RendererError, composite
from pnp_ros.rendering.shading_normals import edge_distances
from pnp_ros.types import Pose

WHITE_SKY = Lighting(sky=(1.0, 1.0, 1.0), ground=(1.0, 1.0, 1.0), lights=(), specular=0.0)
CAMERA = Camera.pinhole(300.0, 310.0, 71.3, 44.8, 160, 120)


@pytest.fixture(scope="module")
def renderer():
    with Renderer() as renderer:
        yield renderer


@pytest.fixture(scope="module")
def sphere(renderer) -> int:
    shape = trimesh.creation.icosphere(subdivisions=3, radius=0.05)
    return renderer.add(TriangleMesh(shape.vertices * [1.0, 0.8, 0.6], shape.faces))


def colored_square(renderer, color, size=0.2) -> int:
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * size / 2
    colors = np.broadcast_to(np.uint8(color), (4, 3))
    return renderer.add(TriangleMesh(corners, np.array([[0, 1, 2], [0, 2, 3]]), vertex_colors=colors))


def pose(x=0.0, y=0.0, z=0.4, seed=None) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    if seed is not None:
        matrix[:3, :3] = trimesh.transformations.random_rotation_matrix(np.random.default_rng(seed).random(3))[:3, :3]
    return matrix


def reprojection_error(rendering, camera, matrix, item=1) -> np.ndarray:
    """Distance in pixels between each of the item's pixels and the projection of the object point found there."""
    rows, columns = np.nonzero(rendering.mask == item)
    points = torch.from_numpy(rendering.object_coordinates[rows, columns]).double()
    rotation, translation = torch.from_numpy(matrix[:3, :3]), torch.from_numpy(matrix[:3, 3])
    pixels = camera.to(dtype=torch.float64).project(points @ rotation.T + translation)
    return np.linalg.norm(pixels.numpy() - np.stack([columns, rows], axis=1), axis=1)


@pytest.mark.parametrize("seed", range(4))
def test_object_coordinates_project_onto_their_pixels(renderer, sphere, seed):
    matrix = pose(0.02, -0.01, 0.35, seed)
    rendering = renderer.render([(sphere, matrix)], CAMERA)
    error = reprojection_error(rendering, CAMERA, matrix)
    assert len(error) > 2000
    assert error.max() < 0.02
    rows, columns = np.nonzero(rendering.mask)
    points = rendering.object_coordinates[rows, columns] @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(rendering.depth[rows, columns], points[:, 2], atol=1e-5)
    assert np.all(np.linalg.norm(rendering.object_coordinates[rows, columns] / [1, 0.8, 0.6], axis=1) < 0.0501)
    assert not rendering.object_coordinates[rendering.mask == 0].any()


def test_the_mask_and_the_colours_lie_where_the_outline_projects(renderer):
    square = colored_square(renderer, (255, 255, 255), size=0.1)
    rendering = renderer.render([(square, pose(z=0.5))], CAMERA, WHITE_SKY)
    corners = CAMERA.project(torch.tensor([[-0.05, -0.05, 0.5], [0.05, 0.05, 0.5]])).numpy()
    rows, columns = np.nonzero(rendering.mask)
    np.testing.assert_allclose([columns.min(), rows.min()], np.ceil(corners[0]))
    np.testing.assert_allclose([columns.max(), rows.max()], np.floor(corners[1]))
    area = rendering.coverage.sum() / 255.0
    assert area == pytest.approx(60.0 * 62.0, rel=0.01)
    offsets = []
    for x in np.linspace(0.0, 0.5 / 600, 9):  # half a pixel in steps: the rounding of the edges averages out
        rgb = renderer.render([(square, pose(x, x, z=0.5))], CAMERA, WHITE_SKY).rgb[..., 0]
        weight = rgb / rgb.sum()
        center = [(weight.sum(axis=0) * np.arange(160)).sum(), (weight.sum(axis=1) * np.arange(120)).sum()]
        offsets.append(center - CAMERA.project(torch.tensor([[x, x, 0.5]], dtype=torch.float32))[0].numpy())
    assert np.abs(offsets).max() < 0.3
    np.testing.assert_allclose(np.mean(offsets, axis=0), 0.0, atol=0.06)


def test_the_nearer_item_hides_the_other(renderer):
    red, green = colored_square(renderer, (255, 0, 0)), colored_square(renderer, (0, 255, 0), size=0.05)
    rendering = renderer.render([(red, pose(z=0.5)), (green, pose(z=0.4))], CAMERA, WHITE_SKY)
    assert rendering.mask[45, 71] == 2
    np.testing.assert_array_equal(rendering.rgb[45, 71], (0, 255, 0))
    assert rendering.mask[10, 71] == 1
    np.testing.assert_array_equal(rendering.rgb[10, 71], (255, 0, 0))
    behind = renderer.render([(red, pose(z=0.3)), (green, pose(z=0.4))], CAMERA, WHITE_SKY)
    assert set(np.unique(behind.mask)) == {0, 1} or set(np.unique(behind.mask)) == {1}


def test_texture_is_the_right_way_up(renderer):
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:32, :32], texture[:32, 32:], texture[32:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    corners = np.array([[-0.1, 0.1, 0], [0.1, 0.1, 0], [0.1, -0.1, 0], [-0.1, -0.1, 0]])  # y down: the first is low
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    square = renderer.add(TriangleMesh(corners, np.array([[0, 1, 2], [0, 2, 3]]), uv, texture))
    camera = Camera.pinhole(200.0, 200.0, 50.0, 50.0, 101, 101)
    rgb = renderer.render([(square, pose(z=0.5))], camera, WHITE_SKY).rgb
    for row, column, color in [
        (25, 25, (255, 0, 0)),
        (25, 75, (0, 255, 0)),
        (75, 25, (0, 0, 255)),
        (75, 75, (0, 0, 0)),
    ]:
        np.testing.assert_allclose(rgb[row, column], color, atol=2)


def test_light_comes_from_where_it_is(renderer, sphere):
    dark = {"sky": (0.05,) * 3, "ground": (0.05,) * 3, "specular": 0.0}
    camera = Camera.pinhole(300.0, 300.0, 60.0, 60.0, 121, 121)

    def brightness(lighting):
        rgb = renderer.render([(sphere, pose())], camera, lighting).rgb.astype(float).mean(axis=-1)
        return rgb[:, :60].sum(), rgb[:, 61:].sum(), rgb[:60].sum(), rgb[61:].sum()

    left, right, top, bottom = brightness(Lighting(**dark, lights=(Light((-1.0, 0.0, -0.3)),)))
    assert left > 1.5 * right
    assert top == pytest.approx(bottom, rel=0.05)
    left, right, top, bottom = brightness(Lighting(**dark, lights=(Light((0.0, -0.5, 0.4), point=True),)))
    assert top > 1.5 * bottom
    assert left == pytest.approx(right, rel=0.05)
    exposed = renderer.render([(sphere, pose())], camera, Lighting(exposure=8.0)).rgb
    assert (exposed == 255).mean() > 0.1
    shiny = Lighting(**{**dark, "specular": 1.0}, lights=(Light((0.0, 0.0, -1.0), (0.5,) * 3),))
    matt = Lighting(**dark, lights=shiny.lights)
    assert brightness(shiny)[0] > brightness(matt)[0] * 1.02


def test_a_finish_reflects_wears_and_gathers_dust(renderer):
    """A cube seen from above one of its edges: an upper and a lower face, in light from everywhere."""
    box = trimesh.creation.box((0.1, 0.1, 0.1))
    mesh = TriangleMesh(box.vertices, box.faces, vertex_colors=np.full((8, 3), 128, np.uint8))
    plain = renderer.add(mesh)
    camera = Camera.pinhole(400.0, 400.0, 60.0, 60.0, 121, 121)
    turned = Pose(so3.exp(torch.tensor([math.pi / 4, 0.0, 0.0])), torch.tensor([0.0, 0.0, 0.5]))

    def rows(**finish):
        rgb = renderer.render([(renderer.add(mesh, Finish(**finish), like=plain), turned)], camera, WHITE_SKY).rgb
        return rgb[:, 60].astype(float).mean(-1)

    usual = renderer.render([(plain, turned)], camera, WHITE_SKY).rgb[:, 60].astype(float).mean(-1)
    np.testing.assert_allclose(rows(), usual)
    worn = rows(wear=0.01, bare=(1.0, 1.0, 1.0))
    assert worn[60] > 200 > usual[60]  # the edge in the middle
    assert worn[40] == worn[80] == usual[40]
    dusty = rows(dust=1.0)
    assert dusty[40] != usual[40]
    assert dusty[80] == usual[80]
    shiny = rows(mirror=0.5)
    assert shiny[40] > usual[40] + 20  # half of it is the white sky
    waves = renderer.render([(renderer.add(mesh, Finish(mirror=1.0, room=(30.0, 10.0, 0.0)), plain), turned)], camera)
    assert waves.rgb[40, 40:80].astype(float).std() > 5.0 > usual[35:55].std()

    used = renderer.add(mesh, Finish(wear=0.001), like=plain)
    for finish in (Finish(wear=0.01, bare=(1.0, 1.0, 1.0)), Finish(dust=1.0), Finish()):
        renderer.refinish(used, finish)
        again = renderer.render([(used, turned)], camera, WHITE_SKY).rgb[:, 60].astype(float).mean(-1)
        np.testing.assert_allclose(again, rows(**vars(finish)))
    with pytest.raises(ValueError, match="added without worn edges"):
        renderer.refinish(plain, Finish(wear=0.01))
    assert (renderer.render([(plain, turned)], camera, WHITE_SKY).rgb[:, 60].mean(-1) == usual).all()


def test_sharp_edges_are_looked_for_once_and_only_where_they_are_worn(renderer, monkeypatch):
    asked = []
    monkeypatch.setattr(renderer_module, "edge_distances", lambda mesh: asked.append(mesh) or edge_distances(mesh))
    box = trimesh.creation.box((0.1, 0.1, 0.1))
    mesh = TriangleMesh(box.vertices, box.faces)
    plain = renderer.add(mesh)
    renderer.add(mesh, Finish(dust=0.5), like=plain)
    assert not asked
    worn = renderer.add(mesh, Finish(wear=0.01), like=plain)
    renderer.add(mesh, Finish(wear=0.02), like=worn)
    assert len(asked) == 1


def test_background_and_coverage(renderer, sphere):
    background = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    rendering = renderer.render([(sphere, pose())], CAMERA, background=background)
    free = rendering.coverage == 0
    np.testing.assert_array_equal(rendering.rgb[free], background[free])
    plain = renderer.render([(sphere, pose())], CAMERA)
    full = rendering.coverage == 255
    np.testing.assert_array_equal(rendering.rgb[full], plain.rgb[full])
    rgba = renderer.render_rgba([(sphere, pose())], CAMERA)
    np.testing.assert_array_equal(composite(rgba, background), rendering.rgb)
    empty = renderer.render([], CAMERA, background=(10, 20, 30))
    assert (empty.rgb == (10, 20, 30)).all()
    assert not empty.mask.any()


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [("plumb_bob", [-0.35, 0.15, 0.001, -0.002, 0.0]), ("equidistant", [-0.02, 0.01, 0.0, 0.0])],
)
def test_distorted_cameras(renderer, sphere, model, coefficients):
    camera = camera_from_info(160, 120, model, coefficients, [120, 0, 80, 0, 121, 60, 0, 0, 1])
    matrix = pose(0.09, 0.05, 0.25, seed=1)
    rendering = renderer.render([(sphere, matrix)], camera, background=(1, 2, 3))
    error = reprojection_error(rendering, camera, matrix)
    assert len(error) > 300
    assert np.median(error) < 0.6  # nearest pinhole pixel
    assert error.max() < 1.2
    undistorted = Camera.pinhole(120.0, 121.0, 80.0, 60.0, 160, 120)
    assert np.median(reprojection_error(rendering, undistorted, matrix)) > 2.0
    assert rendering.rgb.shape == (120, 160, 3)


def test_poses_of_every_kind_are_taken(renderer, sphere):
    matrix = pose(seed=3)
    expected = renderer.render([(sphere, matrix)], CAMERA).rgb
    np.testing.assert_array_equal(renderer.render([(sphere, torch.from_numpy(matrix))], CAMERA).rgb, expected)
    as_pose = Pose.from_matrix(torch.from_numpy(matrix))
    np.testing.assert_array_equal(renderer.render([(sphere, as_pose)], CAMERA).rgb, expected)


def test_two_renderers_and_freed_meshes_do_not_disturb_each_other(renderer, sphere):
    expected = renderer.render([(sphere, pose())], CAMERA).rgb
    with Renderer(supersampling=1) as other:
        box = other.add(
            TriangleMesh(**{k: getattr(trimesh.creation.box((0.1,) * 3), k) for k in ("vertices", "faces")})
        )
        first = other.render([(box, pose(seed=2))], CAMERA).rgb
        np.testing.assert_array_equal(renderer.render([(sphere, pose())], CAMERA).rgb, expected)
        np.testing.assert_array_equal(other.render([(box, pose(seed=2))], CAMERA).rgb, first)
        other.remove(box)
        with pytest.raises(ValueError, match="items: 0 is no handle"):
            other.render([(box, pose())], CAMERA)
    np.testing.assert_array_equal(renderer.render([(sphere, pose())], CAMERA).rgb, expected)


def test_many_image_sizes_and_lenses_in_turn(renderer, sphere):
    expected = renderer.render([(sphere, pose())], CAMERA)
    for size in range(20, 40):
        camera = Camera.pinhole(size * 2.0, size * 2.0, size / 2, size / 2, size, size)
        rendering = renderer.render([(sphere, pose())], camera)
        assert rendering.rgb.shape == (size, size, 3)
        assert (rendering.mask == 1).mean() == pytest.approx(0.2, abs=0.05)
    again = renderer.render([(sphere, pose())], CAMERA)
    np.testing.assert_array_equal(again.rgb, expected.rgb)
    np.testing.assert_array_equal(again.object_coordinates, expected.object_coordinates)


def test_wrong_arguments_are_named(renderer, sphere):
    with pytest.raises(ValueError, match="items: expected a finite 4x4"):
        renderer.render([(sphere, np.eye(3))], CAMERA)
    with pytest.raises(ValueError, match="items: expected a finite 4x4"):
        renderer.render([(sphere, np.full((4, 4), np.nan))], CAMERA)
    with pytest.raises(ValueError, match="items: expected at most 255"):
        renderer.render([(sphere, pose())] * 256, CAMERA)
    with pytest.raises(ValueError, match="background"):
        renderer.render([], CAMERA, background=np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(ValueError, match="lights"):
        Lighting(lights=(Light((0, 0, 1)),) * 5)


def test_without_opengl_the_error_names_the_packages(monkeypatch):
    import moderngl

    def no_egl(**settings):
        raise Exception("libEGL.so not loaded")

    monkeypatch.setattr(moderngl, "create_context", no_egl)
    with pytest.raises(RendererError, match="apt install libegl1 libegl-mesa0 libgl1-mesa-dri"):
        renderer_module.Renderer()


def test_a_process_that_has_rendered_can_train():
    """Optimisers of torch import Triton, whose LLVM and Mesa's crash each other in one order."""
    pytest.importorskip("triton")
    code = """
import numpy, torch, trimesh
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.renderer import Renderer
box = trimesh.creation.box((0.1, 0.1, 0.1))
pose = numpy.eye(4)
pose[2, 3] = 0.5
with Renderer() as renderer:
    mesh = renderer.add(TriangleMesh(box.vertices, box.faces))
    renderer.render([(mesh, pose)], Camera.pinhole(60.0, 60.0, 32.0, 32.0, 64, 64))
torch.optim.Adam([torch.zeros(1, requires_grad=True)])
"""
    subprocess.run([sys.executable, "-c", code], check=True)
