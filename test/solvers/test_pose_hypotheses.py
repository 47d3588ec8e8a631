"""The modes of a flat object's posterior: both are told, with the probability that they have."""

import math

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.pose_hypotheses import angle_to_reversal, mirrored, plane_of, pose_hypotheses, reversal
from pnp_ros.solvers.robust_loss import Gaussian
from pnp_ros.types import Correspondences, Pose

CAMERA = Camera.pinhole(600.0, 600.0, 320.0, 240.0, 640, 480)


def flat_problem(generator: torch.Generator) -> tuple[Correspondences, Pose]:
    """A tilted card of 10 cm, so far away that only noise tells it from its reversal."""
    angle, tilt, depth = torch.rand(3, generator=generator).tolist()
    axis = torch.tensor([math.cos(6.28 * angle), math.sin(6.28 * angle), 0.0])
    truth = Pose(so3.exp((0.2 + 0.5 * tilt) * axis), torch.tensor([0.1, 0.05, 1.0 + depth]))
    points = (torch.rand(30, 3, generator=generator) - 0.5) * torch.tensor([0.1, 0.07, 0.0])
    pixels = CAMERA.project(truth.transform(points))
    pixels = pixels + 0.5 * torch.randn(pixels.shape, generator=generator)
    return Correspondences.from_sigma(pixels, points, 0.5), truth


def test_the_true_pose_has_its_probability() -> None:
    generator = torch.Generator().manual_seed(0)
    said: list[float] = []
    right: list[bool] = []
    for _ in range(60):
        data, truth = flat_problem(generator)
        start = solve_pnp(data, CAMERA, loss=Gaussian()).pose
        starts = Pose.stack([start, reversal(data.object_points, start)])
        found = pose_hypotheses(data, CAMERA, starts, Gaussian(), generator)
        off = so3.angle_between(found.pose.rotation, truth.rotation)
        assert math.isclose(float(found.probability.sum()), 1.0, rel_tol=1e-5)
        assert float(off.min()) < 0.3
        said += found.probability.tolist()
        right += (off == off.min()).tolist()
    said_, right_ = np.array(said), np.array(right)
    likely = said_ > 0.5
    assert (~right_[likely]).sum() >= 3  # the likelier one is not always right,
    assert abs(said_[likely].mean() - right_[likely].mean()) < 0.12  # but as often as it says: 60 x (1 - 0.85) +- 3


def test_where_one_pose_fits_it_is_the_only_one() -> None:
    points = torch.tensor([(x, y, z) for x in (0, 0.2) for y in (0, 0.1) for z in (0, 0.05)])
    pose = Pose(so3.exp(torch.tensor([0.5, 0.4, -0.2])), torch.tensor([0.0, 0.0, 0.6]))
    data = Correspondences.from_sigma(CAMERA.project(pose.transform(points)), points, 0.5)
    found = pose_hypotheses(data, CAMERA, None, Gaussian(), torch.Generator().manual_seed(1))
    assert len(found) == 1
    assert float(found.probability[0]) == 1.0
    torch.testing.assert_close(found.pose.translation[0], pose.translation, atol=1e-3, rtol=0.0)


def test_the_reversal_looks_the_same_from_afar() -> None:
    data, truth = flat_problem(torch.Generator().manual_seed(2))
    far = Pose(truth.rotation, 100.0 * truth.translation)
    other = reversal(data.object_points, far)
    assert float(so3.angle_between(far.rotation, other.rotation)) > 0.4
    away = CAMERA.project(far.transform(data.object_points)) - CAMERA.project(other.transform(data.object_points))
    assert float(away.abs().max()) < 1e-3 * 600.0 * 0.1 / 100.0


def test_the_angle_to_the_reversal_is_that_of_the_reversal() -> None:
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(20, 3, generator=generator) * torch.tensor([0.05, 0.04, 0.002])
    plane = plane_of(points)
    for rotation in so3.random_rotation(20, generator=generator).float():
        pose = Pose(rotation, torch.tensor([0.1, -0.05, 0.6]))
        other = reversal(points, pose)
        expected = float(so3.angle_between(pose.rotation.double(), other.rotation.double()))
        assert angle_to_reversal(plane, pose) == pytest.approx(expected, abs=2e-3)
        torch.testing.assert_close(mirrored(plane, pose).rotation, other.rotation)


def test_the_camera_may_be_of_double_precision() -> None:
    correspondences, _ = flat_problem(torch.Generator().manual_seed(0))
    found = [
        pose_hypotheses(correspondences, camera, None, Gaussian(), torch.Generator().manual_seed(0))
        for camera in (CAMERA, CAMERA.to(dtype=torch.float64))
    ]
    torch.testing.assert_close(found[0].probability, found[1].probability)
