"""The demo's mesh: its size, its looks from every side, and that it is the same every time."""

import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry.so3 import random_rotation
from pnp_ros.objects.mesh_files import load_mesh, save_mesh
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose


def test_size_and_determinism(tmp_path):
    mesh, again = demo_mesh(), demo_mesh()
    np.testing.assert_allclose(mesh.bounds[0], -mesh.bounds[1], atol=1e-6)
    np.testing.assert_allclose(mesh.bounds[1] - mesh.bounds[0], [0.12, 0.052, 0.078], atol=1e-3)
    np.testing.assert_array_equal(mesh.vertices, again.vertices)
    np.testing.assert_array_equal(mesh.texture, again.texture)
    save_mesh(mesh, tmp_path / "boat.ply")
    assert load_mesh(tmp_path / "boat.ply").diameter == mesh.diameter


def test_every_side_shows_contrast_and_no_two_sides_look_alike():
    mesh = demo_mesh()
    camera = Camera.pinhole(80.0, 80.0, 15.5, 15.5, 32, 32)
    with Renderer() as renderer:
        handle = renderer.add(mesh)
        rotations = random_rotation(60, generator=torch.Generator().manual_seed(0))
        images = []
        for rotation in rotations:
            view = renderer.render([(handle, Pose(rotation, torch.tensor([0.0, 0.0, 0.35])))], camera)
            pixels = view.rgb[view.mask > 0].astype(float)
            assert pixels.std(axis=0).min() > 25
            images.append(view.rgb.astype(float).reshape(-1))
    distance = np.linalg.norm(np.array(images)[:, None] - images, axis=-1)
    turned = (torch.einsum("aij,bij->ab", rotations, rotations) < 1.0).numpy()  # by more than 90 degrees
    assert distance[turned].min() > 1000
