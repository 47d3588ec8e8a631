"""Which point of an object each cell of a crop shows: the labels of a network that predicts them densely."""

from __future__ import annotations

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.types import Pose


def object_coordinates(mesh: RayMesh, intrinsics: Tensor, pose: Tensor, cells: int, stride: int) -> Tensor:
    """(B, 3, cells, cells) metres, object frame, at the middle of each cell; NaN where the object is not.

    What hides the object is not looked at.

    Args:
        mesh: of the object.
        intrinsics: (B, 4) fx, fy, cx, cy of the pinhole cameras of the crops, pixels.
        pose: (B, 3, 4) ``T_camera_object``.
        cells: per side of a crop.
        stride: crop pixels per cell.
    """
    found = torch.full((len(pose), cells, cells, 3), torch.nan)
    for index, ((fx, fy, cx, cy), matrix) in enumerate(zip(intrinsics.tolist(), pose.cpu(), strict=True)):
        centre = (cx + 0.5) / stride - 0.5, (cy + 0.5) / stride - 0.5
        camera = Camera.pinhole(fx / stride, fy / stride, *centre, cells, cells)
        view = mesh.view(Pose(matrix[:, :3], matrix[:, 3]), camera)
        hit = torch.from_numpy(view.mask).bool()
        found[index][hit] = torch.from_numpy(view.points)[hit]
    return found.permute(0, 3, 1, 2)
