"""Every guess at three matches, in plain torch: the truth that :mod:`pnp_ros.kernels.blind_warp` is tested against.

The kernel draws guesses and gives up early; here all are made, and all object points are looked at. It grows with the
cube of both sets, so it is for few points.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels.blind import FLATNESS, SEPARATION
from pnp_ros.kernels.search_reference import p3p
from pnp_ros.types import Pose


def every_pose(pixels: Tensor, points: Tensor, camera: Camera, allowed: Tensor, radius: float) -> Pose:
    """All poses (K) that put three object points (N, 3) on three image points (M, 2) that they may match, (M, N).

    Without those that noise throws far off: of image points too near for the ``radius`` in px, or points on a line.
    """
    chosen = torch.combinations(torch.arange(len(points)), 3)
    seen = torch.cartesian_prod(*3 * [torch.arange(len(pixels))])
    seen = seen[(seen[:, 0] != seen[:, 1]) & (seen[:, 1] != seen[:, 2]) & (seen[:, 0] != seen[:, 2])]
    of_seen = seen.repeat(len(chosen), 1)
    of_chosen = chosen.repeat_interleave(len(seen), 0)
    may = allowed[of_seen, of_chosen].all(-1)
    bearings, corners = camera.unproject(pixels)[of_seen[may]], points[of_chosen[may]]
    least = (bearings - bearings.roll(1, -2)).norm(dim=-1).amin(-1)
    sides = corners - corners.roll(1, -2)
    area = 0.5 * torch.linalg.cross(sides[:, 0], sides[:, 1]).norm(dim=-1)
    well = least > SEPARATION * radius / camera.intrinsics[:2].mean()
    well &= area > FLATNESS * sides.norm(dim=-1).sum(-1).square()
    rotation, translation, exists = p3p(bearings[well], corners[well])
    exists &= rotation.isfinite().all((-2, -1)) & translation.isfinite().all(-1)
    return Pose(rotation[exists], translation[exists])


def landed(poses: Pose, pixels: Tensor, points: Tensor, camera: Camera, radius: float) -> Tensor:
    """(K) how many object points land within ``radius`` px of an image point, the lens's bending undone.

    Distances are those on the plane behind the lens, times the mean focal length: of a fisheye the equidistant plane.
    """
    flat = replace(
        camera,
        distortion=torch.zeros_like(camera.distortion),
        intrinsics=camera.intrinsics.new_tensor([1.0, 1.0, 0.0, 0.0]),
    )
    there = flat.project(poses.transform(points))
    distance = (there[:, :, None] - flat.project(camera.unproject(pixels))).norm(dim=-1)
    return (distance.amin(-1) <= radius / camera.intrinsics[:2].mean()).sum(-1)
