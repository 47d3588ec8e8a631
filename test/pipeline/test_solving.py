"""What the solvers make of matches by chance, and of cells whose weights count together."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from pnp_ros import Camera, Correspondences, Pose
from pnp_ros.detection.box import Box
from pnp_ros.geometry import so3
from pnp_ros.kernels.search_reference import samples_needed
from pnp_ros.pipeline import solving
from pnp_ros.pipeline.config import SOLVERS
from pnp_ros.pipeline.solving import solve
from pnp_ros.solvers.levenberg_marquardt import LevenbergMarquardt
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.sources.source import Sighting
from pnp_ros.types import PoseEstimate

CAMERA = Camera.pinhole(500.0, 500.0, 160.0, 120.0, 320, 240)
TRUTH = Pose(so3.exp(torch.tensor([0.4, -0.7, 0.2])), torch.tensor([0.02, -0.03, 0.9]))


def _cells(sigma: float) -> Sighting:
    """200 cells of 80 pixels, each off by about one and with what is claimed of it: ``sigma`` pixels."""
    generator = torch.Generator().manual_seed(0)
    objects = 0.14 * (torch.rand(200, 3, generator=generator) - 0.5)
    pixels = CAMERA.project(TRUTH.transform(objects)) + torch.randn(200, 2, generator=generator)
    weights = torch.full((200, 2), 1.0 / sigma)
    return Sighting(Correspondences(pixels, objects, weights), 1.0, Box(110.0, 60.0, 100.0, 100.0), dense=True)


def test_few_matches_that_agree_are_found_among_many_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten of 130; a search that would find three takes many times as long."""
    searches = []

    def noted(*arguments: Any, solver: LevenbergMarquardt, **more: Any) -> PoseEstimate:
        searches.append(solver.samples)
        return solve_pnp(*arguments, solver=solver, **more)

    monkeypatch.setattr(solving, "solve_pnp", noted)
    found = 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        objects = 0.14 * (torch.rand(130, 3, generator=generator) - 0.5)
        pixels = CAMERA.project(TRUTH.transform(objects)) + 0.5 * torch.randn(130, 2, generator=generator)
        pixels[10:] = torch.rand(120, 2, generator=generator) * torch.tensor([320.0, 240.0])
        points = Correspondences.from_sigma(pixels, objects, 1.0)
        sighting = Sighting(points, 1.0, Box(0.0, 0.0, 320.0, 240.0), matched=True)
        pose = solve("robust", sighting, CAMERA, None, 2.0, min_matches=8).pose
        found += float(so3.angle_between(pose.rotation, TRUTH.rotation)) < 0.1
    assert found >= 18
    assert set(searches) == {math.ceil(samples_needed(8, 130))}
    assert searches[0] < LevenbergMarquardt.samples / 2


@pytest.mark.parametrize("start", [None, TRUTH])
@pytest.mark.parametrize("solver", SOLVERS)
def test_cells_that_claim_less_than_chance_give_a_pose_and_are_as_sure_as_all_claim(
    solver: str, start: Pose | None
) -> None:
    covariances = []
    for sigma in (40.0, 80.0):
        found = solve(solver, _cells(sigma), CAMERA, start, 2.0)
        assert bool(found.usable)
        assert float(so3.angle_between(found.pose.rotation, TRUTH.rotation)) < 0.05
        assert float((found.pose.translation - TRUTH.translation).norm()) < 0.02
        covariances.append(found.covariance)
    torch.testing.assert_close(covariances[1], 4.0 * covariances[0], rtol=0.05, atol=0.0)
    # of 400 residuals of 40 pixels, a position across the line of sight, at 500 pixels a radian
    across = 0.9 / 500.0 * 40.0 / 200**0.5
    assert 0.8 * across < float(covariances[0][0, 0].sqrt()) < 1.5 * across
