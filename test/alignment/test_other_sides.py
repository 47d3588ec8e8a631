"""Beside an outline another side may be seen, or nearly: how far off the outline may then be."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from pnp_ros.alignment import other_sides
from pnp_ros.alignment.aligner import Aligner, Alignment
from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.alignment.contours import Lines, lines
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import covariance, se3, so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.types import Pose, PoseEstimate
from synthetic.mugs import mug, random_shape
from synthetic.printed_box import printed_box
from synthetic.scenes import EXACT, facing, scenes

CAMERA = Camera.pinhole(1200.0, 1200.0, 99.5, 99.5, 200, 200)
WIDTH, DEPTH = 0.12, 0.06  # of the box, along x and z
AWAY = 1.2  # metres to the middle of the box
KNOWN = AlignmentConfig(focal_sigma=0.0, centre_sigma=0.0, size_sigma=0.0, shape_sigma=0.0)


def pose(*turn: float) -> Pose:
    """Before the camera, turned by so many degrees about its x and y."""
    return Pose(so3.exp(torch.tensor([*np.radians(turn), 0.0])).float(), torch.tensor([0.0, 0.0, AWAY]))


def drawn(mesh: TriangleMesh, turn: tuple[float, float], extent: bool) -> Lines:
    """Of a mesh so turned."""
    seen, at = RayMesh(mesh), pose(*turn)
    view = seen.view(at, CAMERA)
    return lines(seen, at, CAMERA, view, np.ones_like(view.face, bool), 2, mesh.extreme_points if extent else None)


def on(found: Lines, side: float) -> np.ndarray:
    """Doubts of the lines to the right, or to the left where side is -1."""
    there = side * found.normals[:, 0] > 0.98
    assert there.sum() > 10
    return found.doubt[there]


def rounded() -> TriangleMesh:
    """Of a surface that is smooth nearly everywhere."""
    return mug(random_shape(np.random.default_rng(0)))


def beyond(turn: float, side: float) -> float:
    """Pixels by which the far edge of a side along x is seen beyond its near one, about y turned by so many degrees."""
    z = torch.tensor([-DEPTH, DEPTH]) / 2.0
    edges = torch.stack([torch.full((2,), side * WIDTH / 2.0), torch.zeros(2), z], -1)
    near, far = (side * CAMERA.project(pose(0.0, turn).transform(edges))[:, 0]).tolist()
    return far - near


@pytest.mark.parametrize("turn", [-6.0, 6.0])
def test_a_strip_beside_an_outline_is_as_wide_as_it_is_seen(turn: float) -> None:
    found = drawn(printed_box(0), (0.0, turn), extent=False)
    side = 1.0 if beyond(turn, 1.0) > 0.0 else -1.0
    width = beyond(turn, side)
    assert 2.0 < width < 4.0
    assert on(found, side) == pytest.approx(width, abs=1.2)
    assert not on(found, -side).any()
    assert not on(drawn(printed_box(0), (0.0, 6.0 * turn), extent=False), side).any()  # no strip: a side


def test_a_smooth_surface_has_no_strips() -> None:
    doubts = drawn(rounded(), (100.0, 30.0), extent=False).doubt
    assert len(doubts) > 50
    assert np.mean(doubts > 0.0) < 0.25  # but at its handle and rim


def test_a_side_that_five_degrees_more_would_show_is_doubted_by_what_it_would_show() -> None:
    found = drawn(printed_box(0), (0.0, 0.0), extent=True)
    grown = max(beyond(5.0, 1.0), beyond(-5.0, 1.0))
    assert 1.5 < grown < 4.0
    assert np.median(on(found, 1.0)) == pytest.approx(grown, abs=0.3)
    assert np.median(drawn(printed_box(0), (25.0, 35.0), extent=True).doubt) < 1.0
    assert np.median(drawn(rounded(), (100.0, 30.0), extent=True).doubt) < 1.0


def test_an_outline_within_the_hull_is_left_alone() -> None:
    points = np.float32([[0.0, 0.0, -DEPTH / 2]])
    corners = printed_box(0).extreme_points
    assert other_sides.nearly_seen(points, corners, pose(0.0, 0.0), CAMERA).item() == 0.0


def test_a_side_seen_head_on_is_no_surer_than_it_is() -> None:
    mesh, rng = printed_box(5), np.random.default_rng(3)
    found, truths = list[Alignment](), list[Pose]()
    for k, scene in enumerate(scenes(mesh, 16, 4, dataclasses.replace(EXACT, noise=3.0), partial(facing, rng=rng))):
        delta = np.random.default_rng(k).normal(0.0, [0.002, 0.002, 0.004, 0.01, 0.01, 0.01])
        start = se3.retract(scene.pose, torch.from_numpy(delta).float())
        spread = np.diag(np.square([0.02, 0.02, 0.04, 0.1, 0.1, 0.1]))
        found.append(Aligner(mesh, KNOWN).align(scene.image, scene.camera, PoseEstimate.of(start, spread)))
        truths.append(scene.pose)
    assert all(alignment.evidence.supported for alignment in found)
    nees = [
        float(covariance.nees(se3.local(truth, a.estimate.pose).double(), a.estimate.covariance.double()))
        for a, truth in zip(found, truths)
    ]
    assert np.mean(nees) < 6.0
    assert max(nees) < 20.0
