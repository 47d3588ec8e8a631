"""Random tracks of a known structure, to test and compare reconstructions with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3
from pnp_ros.multiview.bundle_adjustment import Structure


def random_tracks(
    views: int,
    points: int,
    *,
    sigma: float = 0.5,
    outliers: float = 0.0,
    visible: float = 0.25,
    camera: Camera | None = None,
    seed: int = 0,
) -> tuple[Tensor, Camera, Structure]:
    """A camera that circles an object of 20 x 16 x 12 cm by 270 degrees, half a metre away.

    Args:
        views: V.
        points: M.
        sigma: noise in px.
        outliers: share of the image points that are up to 50 px off on each axis.
        visible: a point is seen up to this share of the way before and after its best view; 1 means always.
        camera: None is a pinhole with f = 800 px and 640x480 pixels.
        seed: of all random numbers.

    Returns:
        Tracks (V, M, 2) float64, NaN where not seen; the camera; the true structure.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    camera = (camera or Camera.pinhole(800.0, 800.0, 320.0, 240.0, 640, 480)).to(dtype=torch.float64)
    object_points = (2.0 * uniform(points, 3) - 1.0) * torch.tensor([0.1, 0.08, 0.06], dtype=torch.float64)
    angle = torch.linspace(0.0, 1.5 * math.pi, views, dtype=torch.float64)
    eye = torch.stack([angle.cos(), angle.sin(), 0.3 + 0.3 * (2.0 * angle).sin()], dim=-1)
    eye = eye * (0.5 + 0.1 * uniform(views, 1))
    poses = se3.look_at(eye, 0.02 * (2.0 * uniform(views, 3) - 1.0), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    tracks = camera.project(poses.transform(object_points))
    tracks = tracks + sigma * torch.randn(views, points, 2, generator=generator, dtype=torch.float64)
    wrong = uniform(views, points, 1) < outliers
    tracks = torch.where(wrong, tracks + 100.0 * uniform(views, points, 2) - 50.0, tracks)
    time = torch.linspace(0.0, 1.0, views, dtype=torch.float64)[:, None]
    seen = (time - uniform(points)).abs() <= visible
    return torch.where(seen[..., None], tracks, torch.nan), camera, Structure(object_points, poses)
