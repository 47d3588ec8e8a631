"""Guesses of the blind kernel against all that can be made, in float64 and without it."""

from __future__ import annotations

import pytest
import torch

from pnp_ros.kernels import blind_reference
from pnp_ros.kernels.blind import Guesser
from pnp_ros.types import Pose
from synthetic.problems import Case, draw

RADIUS = 3.0  # px
SLACK = 0.25  # of it: the kernel looks at a grid of quarters


@pytest.mark.parametrize("lens", ["ip", "tilted_14", "fisheye"])
@pytest.mark.parametrize(("shape", "clutter"), [("volume", 1), ("flat", 0)])
def test_best_guesses_of_the_kernel_are_those_of_all_that_can_be_made(lens: str, shape: str, clutter: int) -> None:
    n = 6
    problems = draw(Case(n=n, lens=lens, shape=shape, sigma=0.2, extent=0.3), 1)  # type: ignore[arg-type]
    camera = problems.lens.camera(torch.float64)
    order = torch.tensor([3, 0, 5, 1, 4, 2])  # point order[i] is seen as image point i
    pixels, points = torch.from_numpy(problems.image_points[0])[order], torch.from_numpy(problems.object_points[0])
    pixels[:clutter] += torch.tensor([37.0, -23.0]).double()
    allowed = torch.ones(n, n, dtype=torch.bool)
    allowed[5, 0] = False
    guesser = Guesser(pixels.float(), points.float(), problems.lens.camera(), RADIUS, allowed, 0.5)
    found, hits, _ = guesser.round(0, 8)
    poses = Pose(found.rotation.double(), found.translation.double())
    least, most = (blind_reference.landed(poses, pixels, points, camera, (1.0 + s) * RADIUS) for s in (-SLACK, SLACK))
    assert (least <= hits).all()
    assert (hits <= most).all()
    every = blind_reference.every_pose(pixels, points, camera, allowed, RADIUS)
    best = blind_reference.landed(every, pixels, points, camera, (1.0 - SLACK) * RADIUS).max()
    assert int(hits[0]) >= int(best) >= n - clutter
