"""What an outline says of two poses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pnp_ros.alignment.aligner import Alignment
from pnp_ros.alignment.evidence import nothing
from pnp_ros.alignment.rival import log_odds
from pnp_ros.cameras.camera import Camera
from pnp_ros.types import Correspondences, Pose, PoseEstimate

CAMERA = Camera.pinhole(600.0, 600.0, 319.5, 239.5, 640, 480)


def outlined(found: int) -> Alignment:
    """A pose at which so many of a hundred lines are found, and nothing else is to be seen."""
    none = Correspondences(torch.zeros(0, 2), torch.zeros(0, 3), torch.zeros(0, 2, 2))
    estimate = PoseEstimate.of(Pose.identity(), np.eye(6))
    evidence = replace(nothing(""), lines=found, sought=100)
    return Alignment(estimate, none, torch.zeros(0, dtype=torch.int8), evidence, torch.zeros(6, 0))


@pytest.mark.parametrize(("other", "one", "low", "high"), [(85, 40, 10.0, 20.0), (38, 19, 0.0, 0.5), (33, 5, 0.0, 0.0)])
def test_an_outline_of_which_neither_pose_finds_much_tells_little(
    other: int, one: int, low: float, high: float
) -> None:
    odds = log_odds(outlined(other), outlined(one), CAMERA)
    assert low <= odds <= high
    assert log_odds(outlined(one), outlined(other), CAMERA) == pytest.approx(-odds)
