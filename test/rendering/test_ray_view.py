"""Rays see what the rasteriser draws, outlines are exact, and a lens bends the rays."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import so3
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.rendering.raster_view import pixel_plane, pixel_rays
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose

POSE = Pose(so3.exp(torch.tensor([0.7, -0.4, 1.1])), torch.tensor([0.01, -0.02, 0.4]))
PINHOLE = Camera.pinhole(300.0, 300.0, 63.5, 63.5, 128, 128)
WIDE = Camera(
    CameraModel.KANNALA_BRANDT,
    torch.tensor([300.0, 300.0, 63.5, 63.5]),
    torch.tensor([0.1, -0.05, 0.02, 0.0]),
    128,
    128,
)


def test_the_same_as_a_rasteriser() -> None:
    mesh = demo_mesh()
    view = RayMesh(mesh).view(POSE, PINHOLE, with_grey=True)
    with Renderer() as renderer:
        drawn = renderer.render([(renderer.add(mesh), POSE)], PINHOLE)
    assert (view.mask != (drawn.mask > 0)).mean() < 1e-3
    both = (view.mask > 0) & (drawn.mask > 0)
    assert np.quantile(np.abs(view.depth - drawn.depth)[both], 0.999) < 1e-5
    assert np.quantile(np.abs(view.points - drawn.object_coordinates)[both], 0.999) < 1e-5
    assert view.grey is not None
    lit = drawn.rgb[both].astype(float) @ [0.299, 0.587, 0.114]
    assert np.corrcoef(view.grey[both], lit)[0, 1] > 0.85


def test_instances_share_what_does_not_change_and_draw_by_themselves() -> None:
    """The texture and the tree of triangles of an object are held once, however many of it there are."""
    mesh = demo_mesh()
    one, other = RayMesh(mesh), RayMesh(mesh)
    assert one._mesh is other._mesh
    assert one._drawing._surface is other._drawing._surface
    rays, nearer = pixel_rays(PINHOLE, np.array([[63.5, 63.5]])), Pose(POSE.rotation, 0.5 * POSE.translation)
    seen, depth = one.view(POSE, PINHOLE, with_grey=True), one.look(POSE, rays)[1]
    assert other.view(nearer, PINHOLE).mask.sum() > seen.mask.sum()
    assert other.look(nearer, rays)[1] < depth
    again = one.view(POSE, PINHOLE, with_grey=True)
    assert all(np.array_equal(getattr(seen, name), getattr(again, name)) for name in ("points", "face", "grey"))
    assert RayMesh(replace(mesh, texture=255 - mesh.texture)).view(POSE, PINHOLE, True).grey.sum() != seen.grey.sum()


def test_a_mesh_without_texture_is_grey() -> None:
    mesh = replace(demo_mesh(), uv=None, texture=None)
    view = RayMesh(mesh).view(POSE, PINHOLE, with_grey=True)
    assert view.grey is not None
    assert np.allclose(view.grey[view.mask > 0], 190.0, atol=1e-3)


@pytest.mark.parametrize("camera", [PINHOLE, WIDE])
def test_surface_points_project_to_their_pixels(camera: Camera) -> None:
    view = RayMesh(demo_mesh()).view(POSE, camera)
    rows, columns = np.nonzero(view.mask)
    pixels = camera.project(POSE.transform(torch.from_numpy(view.points[rows, columns]))).numpy()
    assert np.abs(pixels - np.stack([columns, rows], -1)).max() < 0.02


@pytest.mark.parametrize("camera", [PINHOLE, WIDE])
def test_rays_of_an_image_are_those_of_its_pixels(camera: Camera) -> None:
    plane, scale, offset, bend = pixel_plane(camera)
    pixels = np.array([[0.0, 0.0], [127.0, 0.0], [50.0, 90.0]])
    places = pixels if plane is None else np.array([plane[int(y), int(x)] for x, y in pixels])
    assert np.allclose((places - offset) / scale, pixel_rays(camera, pixels)[:, :2], atol=1e-4)
    assert np.abs(places - pixels).max() <= bend


def test_the_outline_lies_between_a_hit_and_a_miss() -> None:
    mesh = RayMesh(demo_mesh())
    view = mesh.view(POSE, PINHOLE)
    row = int(np.argmax(view.mask.sum(1)))
    first = int(np.argmax(view.mask[row]))
    inner, outer = pixel_rays(PINHOLE, [[first, row]]), pixel_rays(PINHOLE, [[first - 1.0, row]])
    points, found = mesh.outline(POSE, np.concatenate([inner, outer]), np.concatenate([outer, outer]))
    assert found.tolist() == [True, False]
    pixel = PINHOLE.project(POSE.transform(torch.from_numpy(points[:1])))[0]
    assert first - 1 <= float(pixel[0]) <= first
    hit, depth = mesh.look(POSE, pixel_rays(PINHOLE, [[float(pixel[0]) - 0.03, row], [float(pixel[0]) + 0.03, row]]))
    assert depth[0] == 0.0
    assert depth[1] > 0.0
    assert np.isfinite(hit).all()
