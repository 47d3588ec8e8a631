"""Position and angles over time: the band is that of the covariance, and nothing jumps where nothing jumped."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pnp_ros.evaluation.pose_plot import angles_of, coordinates, pose_plots
from pnp_ros.geometry import se3, so3
from pnp_ros.pipeline.result import FrameResult, ObjectState
from pnp_ros.types import Pose

COVARIANCE = torch.diag(torch.tensor([1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.03], dtype=torch.float64) ** 2)
COVARIANCE[3, 4] = COVARIANCE[4, 3] = 1e-4


def pose(roll: float, pitch: float, yaw: float) -> Pose:
    rx, ry, rz = (so3.exp(angle * torch.eye(3, dtype=torch.float64)[i]) for i, angle in enumerate((roll, pitch, yaw)))
    return Pose(rz @ ry @ rx, torch.tensor([0.1, -0.2, 0.7], dtype=torch.float64))


def record(at: Pose | None, state: ObjectState = ObjectState.VALID) -> FrameResult:
    return FrameResult(state, pose=at, covariance=None if at is None else COVARIANCE)


@pytest.mark.parametrize("angles", [(0.3, -0.5, 1.0), (2.5, 1.2, -3.0), (-1.0, 0.0, 0.0)])
def test_the_band_is_how_the_coordinates_scatter(angles: tuple[float, float, float]) -> None:
    at = pose(*angles)
    values, sigmas = coordinates(record(at))
    np.testing.assert_allclose(values, [0.1, -0.2, 0.7, *angles], atol=1e-9)
    noise = torch.distributions.MultivariateNormal(torch.zeros(6).double(), COVARIANCE)
    torch.manual_seed(0)
    drawn = np.stack([angles_of(se3.retract(at, sample)) for sample in noise.sample((1500,))])
    drawn[:, 3:] = (drawn[:, 3:] - values[3:] + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(drawn.std(axis=0), sigmas, rtol=0.12)


def test_looking_along_the_pitch_the_angles_have_no_band_to_speak_of() -> None:
    _, sigmas = coordinates(record(pose(0.3, np.pi / 2 - 0.01, 1.0)))
    assert sigmas[3] > 1.0
    assert sigmas[5] > 1.0


def test_poses_are_drawn_once_for_positions_and_once_for_angles() -> None:
    turning = [record(pose(0.2 * i, 0.1, 3.0 + 0.05 * i)) for i in range(8)]
    gaps = [record(None, ObjectState.LOST), FrameResult(ObjectState.DROPPED)]
    drawn = pose_plots([*turning, *gaps], np.arange(10.0))
    assert [title.split()[0] for title, _ in drawn] == ["Position", "Angles"]
    assert all(svg.startswith("<svg") for _, svg in drawn)
    assert pose_plots(gaps, np.arange(2.0)) == []
