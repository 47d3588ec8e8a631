"""Pose errors against brute force, one pair of points and one symmetry at a time."""

import math

import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation import pose_error
from pnp_ros.geometry import se3, so3
from pnp_ros.types import Pose

POINTS = 0.05 * torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
CAMERA = Camera.pinhole(600, 600, 320, 240, 640, 480)
QUARTERS = torch.eye(4, dtype=torch.float64).repeat(4, 1, 1)
QUARTERS[:, :3, :3] = so3.exp(torch.arange(4)[:, None] * torch.tensor([0.0, 0.0, math.pi / 2], dtype=torch.float64))
QUARTERS[2, :3, 3] = torch.tensor([0.0, 0.0, 0.01])  # a symmetry may move the origin


def pair() -> tuple[Pose, Pose]:
    """A batch of 3 true poses and estimates near some of their symmetric ones."""
    generator = torch.Generator().manual_seed(1)
    truth = Pose(
        so3.random_rotation(3, generator=generator, dtype=torch.float64),
        torch.tensor([0.0, 0.0, 0.8]) + 0.1 * torch.randn(3, 3, generator=generator, dtype=torch.float64),
    )
    noise = torch.randn(3, 6, generator=generator, dtype=torch.float64) * torch.tensor([0.01] * 3 + [0.1] * 3)
    return se3.retract(se3.compose(truth, Pose.from_matrix(QUARTERS[[0, 1, 2]])), noise), truth


def place(pose: Pose, i: int, symmetry: torch.Tensor | None = None) -> list[torch.Tensor]:
    matrix = pose.matrix()[i] if symmetry is None else pose.matrix()[i] @ symmetry
    return [(matrix @ torch.cat([point, torch.ones(1, dtype=torch.float64)]))[:3] for point in POINTS]


def pixel(point: torch.Tensor) -> torch.Tensor:
    return 600 * point[:2] / point[2] + torch.tensor([320.0, 240.0], dtype=torch.float64)


def test_add_is_the_mean_distance() -> None:
    estimate, truth = pair()
    found = pose_error.add(estimate, truth, POINTS)
    for i in range(3):
        distances = [(a - b).norm().item() for a, b in zip(place(estimate, i), place(truth, i))]
        assert found[i].item() == pytest.approx(sum(distances) / len(distances))


def test_adds_is_the_mean_distance_to_the_nearest() -> None:
    estimate, truth = pair()
    found = pose_error.adds(estimate, truth, POINTS)
    for i in range(3):
        placed = place(estimate, i)
        distances = [min((a - b).norm().item() for b in placed) for a in place(truth, i)]
        assert found[i].item() == pytest.approx(sum(distances) / len(distances))
    assert (found <= pose_error.add(estimate, truth, POINTS)).all()


def test_mssd_and_mspd_take_the_best_symmetry() -> None:
    estimate, truth = pair()
    surface = pose_error.mssd(estimate, truth, POINTS, QUARTERS)
    projection = pose_error.mspd(estimate, truth, POINTS, CAMERA, QUARTERS)
    for i in range(3):
        placed = place(estimate, i)
        metres, pixels = [], []
        for symmetry in QUARTERS:
            true = place(truth, i, symmetry)
            metres.append(max((a - b).norm().item() for a, b in zip(placed, true)))
            pixels.append(max((pixel(a) - pixel(b)).norm().item() for a, b in zip(placed, true)))
        assert surface[i].item() == pytest.approx(min(metres))
        assert projection[i].item() == pytest.approx(min(pixels))
    alone = pose_error.mssd(estimate, truth, POINTS)
    assert alone[0] == surface[0]
    assert (alone[1:] > surface[1:]).all()


def test_rotation_and_translation_errors() -> None:
    _, truth = pair()
    delta = torch.tensor([0.03, 0.0, -0.04, 0.0, 0.2, 0.0], dtype=torch.float64)
    estimate = se3.retract(truth, delta)
    torch.testing.assert_close(pose_error.rotation_error(estimate, truth), torch.full((3,), 0.2).double())
    torch.testing.assert_close(pose_error.translation_error(estimate, truth), torch.full((3,), 0.05).double())
    turned = se3.compose(estimate, Pose.from_matrix(QUARTERS[1]))
    assert (pose_error.rotation_error(turned, truth) > 1.0).all()
    torch.testing.assert_close(pose_error.rotation_error(turned, truth, QUARTERS), torch.full((3,), 0.2).double())


@pytest.mark.parametrize(
    ("metres", "degrees", "good"), [(0.04, 4.0, True), (0.06, 4.0, False), (0.04, 6.0, False), (0.0, 0.0, True)]
)
def test_within_5cm_5deg(metres: float, degrees: float, good: bool) -> None:
    _, truth = pair()
    estimate = se3.retract(truth, torch.tensor([0.0, metres, 0.0, math.radians(degrees), 0.0, 0.0]).double())
    assert pose_error.within_5cm_5deg(estimate, truth).tolist() == [good] * 3


def test_both_errors_are_of_the_same_symmetry() -> None:
    far_half_turn = QUARTERS[[0, 2]].clone()
    far_half_turn[1, :3, 3] = torch.tensor([0.1, 0.0, 0.0])
    truth = Pose(torch.eye(3, dtype=torch.float64), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    estimate = Pose(far_half_turn[1, :3, :3], truth.translation)  # turned, but not moved
    assert pose_error.rotation_error(estimate, truth, far_half_turn) < 1e-6
    assert pose_error.translation_error(estimate, truth, far_half_turn) == 0
    assert not pose_error.within_5cm_5deg(estimate, truth, far_half_turn)


def test_auc_is_the_area_under_the_recall_curve() -> None:
    errors = torch.tensor([0.0, 0.02, 0.05, 0.099, 0.3, torch.inf, torch.nan])
    thresholds = torch.linspace(0.0, 0.1, 20001)
    curve = (torch.nan_to_num(errors, nan=torch.inf)[None] <= thresholds[:, None]).double().mean(1)
    assert pose_error.auc(errors) == pytest.approx(curve.mean().item(), abs=1e-4)
    assert pose_error.auc(torch.zeros(3)) == 1.0
    assert pose_error.auc(torch.zeros(0)) == 0.0
