"""Random blind PnP problems with known poses and matches, to test and measure with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.types import Pose


@dataclass(frozen=True)
class BlindProblem:
    """Image points (N, 2) px, object points (N, 3) m, camera, true pose, and each image point's object point (N).

    ``partner`` is -1 for clutter.
    """

    image_points: Tensor
    object_points: Tensor
    camera: Camera
    pose: Pose
    partner: Tensor


def random_blind_problem(
    n: int, share: float, *, sigma: float = 1.0, camera: Camera | None = None, seed: int = 0
) -> BlindProblem:
    """``n`` object points in a cube of 2 m, seen from 4 to 8 m away, and as many image points, in random order.

    Args:
        n: number of object points and of image points.
        share: of the object points that have an image point; the other image points lie anywhere in the image.
        sigma: noise of the image points in px.
        camera: None is a pinhole with f = 800 px and 640x480 pixels.
        seed: of all random numbers.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    camera = camera or Camera.pinhole(800.0, 800.0, 320.0, 240.0, 640, 480)
    size = torch.tensor([camera.width, camera.height])
    points = 2.0 * uniform(n, 3) - 1.0
    translation = torch.cat([1.5 * uniform(2) - 0.75, 4.0 + 4.0 * uniform(1)])
    pose = Pose(so3.random_rotation(generator=generator), translation)
    pixels = camera.project(pose.transform(points))
    inside = torch.nonzero(((pixels >= 0) & (pixels < size)).all(-1)).flatten()
    matched = inside[torch.randperm(len(inside), generator=generator)][: round(share * n)]
    seen = pixels[matched] + sigma * torch.randn(len(matched), 2, generator=generator)
    clutter = uniform(n - len(matched), 2) * size
    partner = torch.cat([matched, torch.full((len(clutter),), -1)])
    order = torch.randperm(n, generator=generator)
    return BlindProblem(torch.cat([seen, clutter])[order], points, camera, pose, partner[order])
