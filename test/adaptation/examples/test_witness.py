"""The image tells where an object is, whatever the reference says, and whether it is there at all."""

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
import trimesh

from pnp_ros.adaptation.examples.witness import Witness
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose

CAMERA = Camera.pinhole(400.0, 400.0, 80.0, 80.0, 160, 160)


def single(pose: Pose) -> Pose:
    return Pose(pose.rotation.float(), pose.translation.float())


@pytest.mark.parametrize(
    ("index", "wrong"),
    [
        (0, [0.004, -0.003, 0.015, 0.05, 0.0, -0.04]),
        (5, [0.0, 0.004, -0.012, -0.03, 0.05, 0.02]),
        (3, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_it_says_where_the_object_really_is(
    demo: ObjectPackage, observe: Callable, index: int, wrong: list[float]
) -> None:
    seen = observe(index)
    truth = single(seen.reference)
    sight = Witness(demo.mesh).look(seen.rgb, seen.camera, se3.retract(truth, torch.tensor(wrong)))
    assert sight is not None
    off = se3.local(truth, sight.pose)
    assert float(off[:2].norm()) < 0.0015
    assert abs(float(off[2])) < 0.006
    assert float(off[3:].norm()) < math.radians(1.2)
    assert sight.overlap > 0.5


def test_nothing_is_seen_where_nothing_is(demo: ObjectPackage, observe: Callable) -> None:
    seen, witness = observe(0), Witness(demo.mesh)
    clutter = np.random.default_rng(0).integers(0, 255, seen.rgb.shape, np.uint8)
    smooth = np.asarray(cv2.GaussianBlur(clutter, (0, 0), 6.0), np.uint8)
    for image in (clutter, smooth, np.full_like(clutter, 90)):
        sight = witness.look(image, seen.camera, single(seen.reference))
        assert sight is None or sight.overlap < 0.25
    outside = Pose(seen.reference.rotation, torch.tensor([3.0, 0.0, 0.5]))
    assert witness.overlap(seen.rgb, seen.camera, outside) == 0.0


@pytest.mark.parametrize("shape", ["cylinder", "box"])
def test_an_object_of_one_colour_is_seen_by_its_outline(shape: str) -> None:
    made = {"cylinder": trimesh.creation.cylinder(0.04, 0.12), "box": trimesh.creation.box((0.1, 0.08, 0.06))}[shape]
    mesh = TriangleMesh(np.asarray(made.vertices, np.float32), np.asarray(made.faces, np.int32))
    renderer, witness = Renderer(), Witness(mesh)
    pose = Pose(so3.exp(torch.tensor([0.9, 0.3, -0.2])), torch.tensor([0.0, 0.0, 0.6]))
    item, rng = renderer.add(mesh), np.random.default_rng(5)
    clutter = cv2.resize(rng.integers(0, 90, (10, 10, 3), np.uint8), (160, 160), interpolation=cv2.INTER_CUBIC)
    image = renderer.render([(item, pose)], CAMERA, background=clutter).rgb
    there = witness.look(image, CAMERA, se3.retract(pose, torch.tensor([0.004, 0.0, 0.0, 0.0, 0.0, 0.0])))
    assert there is not None
    assert there.overlap > 0.5
    assert float((there.pose.translation - pose.translation)[:2].norm()) < 0.002
    nothing = witness.look(np.asarray(clutter, np.uint8), CAMERA, pose)
    assert nothing is None or nothing.overlap < 0.3


def test_the_coverage_is_the_objects(demo: ObjectPackage, observe: Callable) -> None:
    seen = observe(0)
    renderer = Renderer()
    drawn = renderer.render([(renderer.add(demo.mesh), single(seen.reference))], seen.camera).coverage
    found = Witness(demo.mesh).coverage(seen.camera, single(seen.reference))
    assert found.shape == drawn.shape
    assert np.abs(found.astype(float) - drawn).mean() < 0.002 * 255
