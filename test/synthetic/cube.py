"""Random PnP problems with known poses, to test and compare solvers with."""

from __future__ import annotations

import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.types import Correspondences, Pose


def random_problems(
    batch: int,
    n: int,
    *,
    sigma: float = 2.0,
    outliers: float = 0.0,
    planar: bool = False,
    camera: Camera | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Correspondences, Camera, Pose]:
    """Points in a cube of 2 m, seen from 4 to 8 m away, with Gaussian noise and uniform outliers.

    Args:
        batch: number of problems B.
        n: points in each.
        sigma: standard deviation of the noise in pixels; also what the weights say (but at least 0.001).
        outliers: share of the points whose image point lies anywhere in the image.
        planar: points in the plane z = 0 of the object.
        camera: None is a pinhole with f = 800 px and 640x480 pixels.
        seed: of all random numbers; the same problems come in every dtype.
        dtype: of the result.

    Returns:
        Correspondences (B, N, ...), the camera, and the true poses (B, ...).
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    camera = (camera or Camera.pinhole(800.0, 800.0, 320.0, 240.0, 640, 480)).to(dtype=torch.float64)
    truth = Pose(
        so3.random_rotation(batch, generator=generator, dtype=torch.float64),
        torch.cat([1.5 * uniform(batch, 2) - 0.75, 4.0 + 4.0 * uniform(batch, 1)], dim=-1),
    )
    points = 2.0 * uniform(batch, n, 3) - 1.0
    if planar:
        points[..., 2] = 0.0
    pixels = camera.project(truth.transform(points))
    pixels = pixels + sigma * torch.randn(batch, n, 2, generator=generator, dtype=torch.float64)
    wrong = torch.argsort(uniform(batch, n), dim=-1) < round(outliers * n)
    anywhere = uniform(batch, n, 2) * torch.tensor([camera.width, camera.height], dtype=torch.float64)
    pixels = torch.where(wrong[..., None], anywhere, pixels)
    correspondences = Correspondences.from_sigma(pixels.to(dtype), points.to(dtype), sigma=max(sigma, 1e-3))
    return correspondences, camera.to(dtype=dtype), Pose(truth.rotation.to(dtype), truth.translation.to(dtype))
