"""Random correspondences with outliers of many kinds, to train PnP-Net on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import so3
from pnp_ros.types import Correspondences, Pose

_MIN_INLIERS = 5
_SIZE = (640, 480)


@dataclass(frozen=True, eq=False)
class SyntheticProblems:
    """A batch of problems: correspondences, camera, true pose and ``inlier`` (B, N) bool."""

    correspondences: Correspondences
    camera: Camera
    pose: Pose
    inlier: Tensor


def _uniform(low: float, high: float, *shape: int, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator)


def _object_points(batch: int, points: int, generator: torch.Generator) -> Tensor:
    """Boxes, balls and shells (B, N, 3), a third of them flat or long, with unit rms radius about the origin."""
    box = _uniform(-1.0, 1.0, batch, points, 3, generator=generator)
    shell = nn.functional.normalize(torch.randn(batch, points, 3, generator=generator), dim=-1)
    ball = shell * torch.rand(batch, points, 1, generator=generator).pow(1 / 3)
    kind = torch.randint(0, 3, (batch, 1, 1), generator=generator)
    shape = torch.where(kind == 0, box, torch.where(kind == 1, ball, shell))
    stretch = _uniform(0.3, 1.0, batch, 1, 3, generator=generator)
    form = torch.rand(batch, generator=generator)
    stretch[form < 0.25, :, 2] = 0.0
    stretch[(form > 0.25) & (form < 0.33), :, 1:] = 0.03
    shape = shape * stretch
    shape = shape - shape.mean(-2, keepdim=True)
    return shape / shape.square().sum(-1).mean(-1).sqrt()[:, None, None]


def _cameras(batch: int, generator: torch.Generator) -> Camera:
    """Pinholes; every third batch has barrel distortion."""
    focal = _SIZE[0] * torch.exp(_uniform(math.log(0.5), math.log(2.5), batch, generator=generator))
    centre = (torch.tensor(_SIZE) / 2).expand(batch, 2)
    intrinsics = torch.cat([focal[:, None], focal[:, None], centre], dim=-1)
    if torch.rand((), generator=generator) > 0.33:
        return Camera(CameraModel.PINHOLE, intrinsics, torch.zeros(batch, 0), *_SIZE)
    distortion = torch.zeros(batch, 14)
    distortion[:, 0] = _uniform(-0.35, 0.05, batch, generator=generator)
    distortion[:, 1] = 0.35 * distortion[:, 0].square()  # 1 + 3 k1 r^2 + 5 k2 r^4 stays positive: no lens folds
    distortion[:, 1] += 0.1 * distortion[:, 0].abs()
    return Camera(CameraModel.BROWN_CONRADY, intrinsics, distortion, *_SIZE)


def synthetic_problems(
    batch: int, points: int, generator: torch.Generator, *, outliers: float | None = None
) -> SyntheticProblems:
    """Random objects before random cameras, with noise and outliers.

    Args:
        batch: B problems.
        points: N correspondences in each.
        generator: the source of randomness.
        outliers: share of outliers; None draws it for each problem: half of them from 0 to 95 %, half from 70 to 95 %.
    """
    size = torch.tensor(_SIZE, dtype=torch.float32)
    camera = _cameras(batch, generator)
    focal = camera.intrinsics[:, 0]
    radius = torch.exp(_uniform(math.log(15.0), math.log(150.0), batch, generator=generator))  # rms, in pixels
    object_points = _object_points(batch, points, generator)
    pose = _poses(radius, focal, generator)
    exact = camera.project(pose.transform(object_points))

    sigma = torch.exp(_uniform(math.log(0.3), math.log(4.0), batch, 1, 1, generator=generator))
    sigma = sigma * torch.exp(0.3 * torch.randn(batch, points, 1, generator=generator))
    noisy = exact + sigma * torch.randn(batch, points, 2, generator=generator)

    if outliers is None:
        rate = torch.where(
            torch.rand(batch, 1, generator=generator) < 0.5,
            _uniform(0.0, 0.95, batch, 1, generator=generator),
            _uniform(0.7, 0.95, batch, 1, generator=generator),
        )
    else:
        rate = torch.full((batch, 1), outliers)
    # Each problem has outliers of one kind, or half of them anywhere in the image.
    kind = torch.randint(0, 9, (batch, 1), generator=generator).expand(batch, points)
    if outliers is None:  # a second instance with more points would be the first
        rate = torch.where(kind[:, :1] == 6, 0.5 * rate, rate)
    mixed = torch.rand(batch, 1, generator=generator) < 0.3
    kind = torch.where(mixed & (torch.rand(batch, points, generator=generator) < 0.5), 0, kind)
    count = (rate * points).round().clamp(max=max(points - _MIN_INLIERS, 0))
    inlier = torch.arange(points) >= count

    spot = torch.rand(batch, 1, 2, generator=generator) * size
    spread = _uniform(10.0, 60.0, batch, 1, 1, generator=generator)
    clustered = spot + spread * torch.randn(batch, points, 2, generator=generator)
    middle = exact.mean(-2, keepdim=True)
    about = middle + radius[:, None, None] * 1.2 * torch.randn(batch, points, 2, generator=generator)
    direction = nn.functional.normalize(torch.randn(batch, points, 2, generator=generator), dim=-1)
    near = noisy + sigma * _uniform(6.0, 40.0, batch, points, 1, generator=generator) * direction
    again = camera.project(_poses(radius, focal, generator).transform(object_points))
    again = again + sigma * torch.randn(batch, points, 2, generator=generator)
    anywhere = torch.rand(batch, points, 2, generator=generator) * size
    wrong = anywhere  # kinds 0 to 2
    for number, points_of_kind in enumerate((clustered, near, about, again, noisy.roll(1, dims=1), clustered), start=3):
        wrong = torch.where((kind == number)[..., None], points_of_kind, wrong)
    image_points = torch.where(inlier[..., None], noisy, wrong)
    weights = (1.0 / sigma).expand(-1, -1, 2)
    return SyntheticProblems(Correspondences(image_points, object_points, weights), camera, pose, inlier)


def _poses(radius: Tensor, focal: Tensor, generator: torch.Generator) -> Pose:
    """Anywhere in the image, as far away as the radius (B) in pixels says."""
    batch = len(radius)
    depth = (focal / radius).clamp_min(2.2)
    size = torch.tensor(_SIZE, dtype=torch.float32)
    centre = _uniform(0.1, 0.9, batch, 2, generator=generator) * size
    offset = (centre - size / 2) / focal[:, None] * depth[:, None]
    return Pose(so3.random_rotation(batch, generator=generator), torch.cat([offset, depth[:, None]], dim=-1))
