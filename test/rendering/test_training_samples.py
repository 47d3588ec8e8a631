"""Training samples: labels fit the pixels, shares are as asked for, the same seed gives the same samples."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import trimesh

from pnp_ros.cameras.camera import Camera
from pnp_ros.objects.keypoints import select_keypoints
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.symmetry import Symmetry, symmetry_from_bop
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.rendering.domain_randomisation import RandomisationConfig
from pnp_ros.rendering.object_coordinates import object_coordinates
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.rendering.training_samples import TrainingSampler
from pnp_ros.types import Pose

PLAIN = {"effects": 0.0, "negatives": 0.0, "pool": 64}


def sampler(mesh=None, keypoints=None, seed=0, symmetry=None, **config) -> TrainingSampler:
    mesh = demo_mesh() if mesh is None else mesh
    keypoints = select_keypoints(mesh, 8) if keypoints is None else keypoints
    return TrainingSampler(mesh, keypoints, symmetry, RandomisationConfig(**config), seed=seed)


def balls(centers, radius=0.006) -> TriangleMesh:
    parts = [trimesh.creation.icosphere(subdivisions=2, radius=radius).apply_translation(c) for c in centers]
    vertices = np.concatenate([part.vertices for part in parts])
    faces = np.concatenate([part.faces + i * len(parts[0].vertices) for i, part in enumerate(parts)])
    return TriangleMesh(vertices, faces)


def test_keypoints_lie_on_the_pixels_of_their_object():
    centers = np.array([[0.05, 0, 0], [0, 0.05, 0], [0, 0, 0.05], [-0.04, -0.04, 0]], np.float32)
    source = sampler(balls(centers), centers, occlusion=0.0, **PLAIN)
    source.refresh(48)
    errors = []
    batch = source.crops(48)
    for mask, keypoints in zip(batch.mask, batch.keypoints):
        count, labels = components(mask)
        for i in range(count):
            pixels = (labels == i + 1).nonzero().float()
            touches_edge = bool((pixels == 0).any() or (pixels == 127).any())
            middle = pixels.mean(0).flip(0)
            distance = (keypoints - middle).norm(dim=1)
            if not touches_edge and count == 4:
                errors.append(float(distance.min()))
    assert len(errors) > 60
    assert np.median(errors) < 0.2
    assert np.quantile(errors, 0.95) < 0.7  # perspective moves a ball's middle a little


def test_the_camera_of_a_crop_projects_the_object_onto_it():
    mesh = demo_mesh()
    points = select_keypoints(mesh, 8)
    half_turn = symmetry_from_bop({"symmetries_discrete": [np.diag([-1.0, -1, 1, 1]).ravel().tolist()]})
    for symmetry in (Symmetry(), half_turn):
        batch = sampler(mesh, points, symmetry=symmetry, **PLAIN).crops(16)
        camera = dataclasses.replace(Camera.pinhole(1, 1, 0, 0, 128, 128), intrinsics=batch.intrinsics)
        pose = Pose(batch.pose[..., :3], batch.pose[..., 3])
        projected = camera.project(pose.transform(torch.from_numpy(points)))
        torch.testing.assert_close(projected, batch.keypoints, atol=5e-3, rtol=0)
        assert bool((torch.linalg.det(pose.rotation) > 0.999).all())


def components(mask):
    import cv2

    count, labels = cv2.connectedComponents(mask.numpy().astype(np.uint8))
    return count - 1, torch.from_numpy(labels)


def test_crops_have_their_shapes_and_shares():
    source = sampler(negatives=0.3, occlusion=0.8, min_visible=0.4, pool=64)
    source.refresh(64)
    batches = [source.crops(64) for _ in range(3)]
    batch = batches[0]
    assert batch.images.shape == (64, 3, 128, 128)
    assert batch.keypoints.shape == (64, 8, 2)
    assert batch.mask.shape == (64, 128, 128)
    assert batch.images.dtype == torch.float32
    assert torch.isfinite(batch.keypoints).all()
    present = torch.cat([b.present for b in batches])
    visible = torch.cat([b.visible for b in batches])
    mask = torch.cat([b.mask for b in batches])
    assert 0.2 < (~present).float().mean() < 0.4
    assert not visible[~present].any()
    assert not mask[~present].any()
    assert visible[present].min() >= 0.399
    assert 0.3 < (visible[present] < 0.98).float().mean() < 0.9
    assert mask[present].flatten(1).sum(1).min() > 20


def test_crops_have_margin_scale_and_shift():
    source = sampler(occlusion=0.0, crop_scale=(1.0, 1.0), crop_shift=0.0, crop_margin=1.5, **PLAIN)
    mask = source.crops(32).mask
    rows, columns = mask.any(2).float(), mask.any(1).float()
    longer = torch.maximum(rows.sum(1), columns.sum(1))
    torch.testing.assert_close(longer, torch.full((32,), 128 / 1.5), atol=2.5, rtol=0)
    middle = (rows * torch.arange(128)).sum(1) / rows.sum(1)
    assert (middle - 63.5).abs().max() < 1.5
    moved = sampler(occlusion=0.0, crop_shift=0.2, **PLAIN).crops(32).mask.any(2).float()
    middle = (moved * torch.arange(128)).sum(1) / moved.sum(1)
    assert (middle - 63.5).std() > 5


def test_boxes_fit_the_object_in_frames():
    source = sampler(occlusion=0.0, frame_object_size=(40.0, 80.0), **PLAIN)
    bare = sampler(occlusion=0.0, frame_object_size=(40.0, 80.0), **{**PLAIN, "negatives": 1.0})
    frames, empty = source.frames(24), bare.frames(24)
    assert frames.images.shape == (24, 3, 240, 320)
    assert not empty.present.any()
    assert not empty.boxes.any()
    filled = []
    # the same seed composes the same image, once with and once without the object
    for image, without, (x, y, width, height) in zip(frames.images, empty.images, frames.boxes.tolist()):
        assert max(width, height) == pytest.approx(60.0, abs=21.0)
        assert -0.5 <= x + width / 2 <= 319.5
        assert -0.5 <= y + height / 2 <= 239.5
        rows, columns = np.nonzero(((image - without).abs().amax(0) > 0.3).numpy())
        if len(rows) == 0 or x < 0 or y < 0 or x + width > 319 or y + height > 239:
            continue
        assert columns.min() > x - 2
        assert rows.min() > y - 2
        assert columns.max() < x + width + 2
        assert rows.max() < y + height + 2
        filled += [np.ptp(columns) / width, np.ptp(rows) / height]
    assert len(filled) > 12
    assert np.median(filled) > 0.9


def test_the_same_seed_gives_the_same_samples():
    def samples(seed):
        source = sampler(seed=seed, pool=32)
        source.refresh(20)
        crops, frames = source.crops(8), source.frames(4)
        return [crops.images, crops.keypoints, crops.visible, frames.images, frames.boxes]

    first, again, other = samples(3), samples(3), samples(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not torch.equal(first[0], other[0])


def test_symmetric_objects_have_one_set_of_keypoints_per_look():
    shape = trimesh.creation.box(extents=(0.1, 0.04, 0.04))
    mesh = TriangleMesh(shape.vertices, shape.faces)
    half_turn = np.diag([-1.0, -1.0, 1.0, 1.0]).reshape(-1).tolist()
    symmetry = symmetry_from_bop({"symmetries_discrete": [half_turn]})
    ends = np.array([[0.05, 0, 0], [-0.05, 0, 0], [0, 0.02, 0], [0, 0, 0.02]], np.float32)
    upright = {"elevation": (0.3, 0.8), "roll": (-0.01, 0.01), "occlusion": 0.0, **PLAIN}
    canonical = sampler(mesh, ends, symmetry=symmetry, **upright).crops(64).keypoints
    turned = canonical[:, 0] - canonical[:, 1]
    angle = torch.atan2(turned[:, 1], turned[:, 0])
    free = sampler(mesh, ends, symmetry=Symmetry(), **upright).crops(64).keypoints
    spread = torch.atan2((free[:, 0] - free[:, 1])[:, 1], (free[:, 0] - free[:, 1])[:, 0])
    assert float(angle.max() - angle.min()) < math.pi + 0.6  # one half of the circle
    assert float(spread.max() - spread.min()) > 1.7 * math.pi


def test_an_object_cut_out_of_a_image_gets_other_surroundings():
    source = sampler(occlusion=0.0, **PLAIN)
    source.refresh(16)
    batch = source.crops(16)
    coverage = batch.mask[:, None].float()
    layer = torch.cat([coverage * batch.images, coverage], dim=1)
    made = source.surround(layer, batch.keypoints.mean(1), source.backgrounds(16))
    inside = batch.mask[:, None].expand_as(made)
    torch.testing.assert_close(made[inside], batch.images[inside])
    assert float((made[~inside] - batch.images[~inside]).abs().mean()) > 0.1


def test_things_in_front_of_an_object_leave_enough_of_it():
    source = sampler(occlusion=1.0, min_visible=0.35, **PLAIN)
    layer = torch.zeros(64, 4, 128, 128)
    layer[:, 3:, 40:90, 40:90] = 1.0  # black, as nothing else is
    made = source.surround(layer, torch.full((64, 2), 64.5), torch.ones(64, 3, 128, 128))
    shown = (made[:, :, 40:90, 40:90] < 1e-3).all(1).float().mean((1, 2))
    assert float(shown.min()) > 0.3
    assert 0.2 < float((shown < 0.95).float().mean()) < 1.0


def test_coordinates_of_cells_project_onto_them():
    mesh = demo_mesh()
    batch = sampler(mesh, **PLAIN).crops(6)
    found = object_coordinates(RayMesh(mesh), batch.intrinsics, batch.pose, 32, 4)
    camera = dataclasses.replace(Camera.pinhole(1, 1, 0, 0, 128, 128), intrinsics=batch.intrinsics)
    projected = camera.project(Pose(batch.pose[..., :3], batch.pose[..., 3]).transform(found.flatten(2).mT))
    centres = torch.arange(32) * 4 + 1.5
    expected = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1).flatten(0, 1)
    seen = torch.isfinite(found).all(1)
    shown = seen.flatten(1)
    torch.testing.assert_close(projected[shown], expected.expand(6, -1, -1)[shown], atol=0.05, rtol=0)
    assert float(seen[batch.mask[:, 1::4, 1::4]].float().mean()) > 0.97  # what is drawn has coordinates
