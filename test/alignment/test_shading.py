"""The light of an image is found on the object itself."""

from dataclasses import replace

import numpy as np
import torch

from pnp_ros.alignment.shading import Shading
from pnp_ros.cameras.camera import Camera
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.types import Pose

MESH, SIDE = demo_mesh(), 120
POSE = Pose(torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, -0.866], [-0.866, 0.0, -0.5]]), torch.tensor([0.0, 0.0, 0.3]))
EYE = -(POSE.translation @ POSE.rotation).numpy()
VIEW = RayMesh(MESH).view(POSE, Camera.pinhole(250.0, 250.0, 60.0, 60.0, SIDE, SIDE))
INSIDE = np.ones((SIDE, SIDE), np.bool_)


def lit() -> np.ndarray:
    """Plain, under a bright sky and a lamp at one side."""
    corners = MESH.vertices[MESH.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    grey = 90.0 + 40.0 * normals[:, 2] + 60.0 * np.maximum(normals @ [0.6, 0.8, 0.0], 0.0)
    return np.where(VIEW.face >= 0, grey[VIEW.face], 20.0).astype(np.float32)


def test_shades_are_found_again_though_a_part_is_hidden() -> None:
    image, seen = lit(), VIEW.face >= 0
    hidden = image.copy()
    left = int(np.median(np.nonzero(seen)[1]) - 15)
    hidden[:, :left] = 250.0
    for shown in (image, hidden):
        grey = Shading(MESH).grey(VIEW, shown, INSIDE, EYE)
        bare = seen & (shown == image)
        assert np.median(np.abs(grey - image)[bare]) < 4.0
        assert np.quantile(np.abs(grey - image)[bare], 0.9) < 15.0
        assert not grey[~seen].any()


def test_what_is_not_in_the_image_does_not_count() -> None:
    image = lit()
    half = INSIDE.copy()
    half[:, : SIDE // 2] = False
    shown = np.where(half, image, np.nan).astype(np.float32)
    assert np.isfinite(Shading(MESH).grey(VIEW, shown, half, EYE)).all()
    assert not Shading(MESH).grey(VIEW, shown, np.zeros_like(INSIDE), EYE).any()


def test_a_print_is_drawn_as_dark_as_it_is_seen() -> None:
    rng, seen = np.random.default_rng(0), VIEW.face >= 0
    own = np.where(seen, rng.uniform(60.0, 250.0, seen.shape), 0.0).astype(np.float32)
    painted = replace(VIEW, grey=own)
    shown = np.where(seen, own * lit() / 255.0, 20.0).astype(np.uint8)
    drawn = Shading(MESH).lit(painted, shown, INSIDE, EYE)
    flat = own * (shown[seen].mean() / own[seen].mean())
    misses = [np.abs(each / max(each[seen].mean(), 1.0) - shown / shown[seen].mean())[seen] for each in (flat, drawn)]
    assert np.median(misses[1]) < 0.5 * np.median(misses[0])
    assert not drawn[~seen].any()
    np.testing.assert_array_equal(Shading(MESH).lit(painted, np.zeros_like(shown), INSIDE, EYE), own)  # in the dark
    np.testing.assert_array_equal(Shading(MESH).lit(painted, shown, ~INSIDE, EYE), own)


def test_it_does_not_matter_which_way_faces_are_turned() -> None:
    seen, rng = VIEW.face >= 0, np.random.default_rng(1)
    outwards = MESH.faces.copy()
    corners = MESH.vertices[outwards].astype(np.float64)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    away = (across * (EYE - corners[:, 0])).sum(1) < 0.0
    outwards[away] = outwards[away][:, ::-1]  # the demo's lifebuoy is inside out, too
    turned = outwards.copy()
    some = rng.permutation(len(turned))[: len(turned) // 2]
    turned[some] = turned[some][:, ::-1]
    lamp = across * np.where(away, -1.0, 1.0)[:, None] @ [0.3, 0.5, 0.8] / np.linalg.norm(across, axis=1)
    shown = np.where(seen, (120.0 + 100.0 * lamp)[VIEW.face], 20.0).astype(np.float32)
    for faces in (outwards, turned):
        grey = Shading(replace(MESH, faces=faces)).grey(VIEW, shown, INSIDE, EYE)
        assert np.quantile(np.abs(grey - shown)[seen], 0.9) < 8.0
