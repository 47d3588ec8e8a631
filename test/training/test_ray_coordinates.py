"""Object points that a pose alone gives for the cells of a crop."""

from __future__ import annotations

import pytest
import torch

from pnp_ros import Camera, Correspondences, Pose, solve_pnp
from pnp_ros.geometry import so3
from pnp_ros.training.ray_coordinates import ray_coordinates

CAMERA = Camera.pinhole(300.0, 300.0, 63.5, 63.5, 128, 128)
PIXELS = torch.cartesian_prod(torch.arange(1.5, 128.0, 4.0), torch.arange(1.5, 128.0, 4.0)).expand(4, -1, -1)
POSE = Pose(
    so3.random_rotation(4, generator=torch.Generator().manual_seed(1)),
    torch.tensor([[0.0, 0.0, 0.6], [0.02, -0.03, 0.8], [-0.05, 0.0, 0.5], [0.0, 0.04, 1.0]]),
)


@pytest.mark.parametrize("box", [[[-0.1, -0.05, 0.0], [0.0, 0.05, 0.04]], [[-0.1, -0.1, 0.0], [0.1, 0.1, 0.0]]])
def test_they_lie_in_the_box_on_their_rays_towards_the_camera_and_give_the_pose(box: list[list[float]]) -> None:
    bounds = torch.tensor(box)
    points = ray_coordinates(CAMERA, POSE, PIXELS, bounds)
    hit = points.isfinite().all(-1)
    assert hit.any(-1).all()
    for k in range(4):
        found, pixels = points[k][hit[k]], PIXELS[k][hit[k]]
        assert (CAMERA.project(POSE[k].transform(found)) - pixels).abs().max() < 0.05
        assert ((found >= bounds[0] - 2e-3) & (found <= bounds[1] + 2e-3)).all()
        axes = (0.5 * (bounds[1] - bounds[0])).clamp_min(0.001)
        normal = (found - bounds.mean(0)) / axes.square()
        assert ((normal * (CAMERA.unproject(pixels) @ POSE[k].rotation)).sum(-1) <= 0.0).all()  # of the near side
        solved = solve_pnp(Correspondences.from_sigma(pixels, found, sigma=0.5), CAMERA)
        assert so3.log(solved.pose.rotation.mT @ POSE[k].rotation).norm() < 0.02
        assert (solved.pose.translation - POSE[k].translation).norm() < 0.005


def test_a_ray_beside_the_object_has_none() -> None:
    points = ray_coordinates(CAMERA, POSE, PIXELS, torch.tensor([[-0.01] * 3, [0.01] * 3]))
    shown = (CAMERA.project(POSE.translation[:, None])[:, 0:1] - PIXELS).norm(dim=-1)
    assert points[shown > 10.0].isnan().all()
    assert points[shown < 2.0].isfinite().all()
