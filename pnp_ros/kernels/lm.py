"""Dispatch of the Levenberg-Marquardt solve: checks its input, flattens batches, chooses the implementation."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels import lm_reference
from pnp_ros.kernels.lm_problem import LMProblem, LMSettings
from pnp_ros.types import Correspondences, Pose, PoseEstimate


def solve(correspondences: Correspondences, camera: Camera, init: Pose, settings: LMSettings) -> PoseEstimate:
    """Refine ``init`` on every problem of a batch of any shape.

    Args:
        correspondences: (..., N, 2) px, (..., N, 3) m, (..., N, 2) 1/px.
        camera: intrinsics (4,) for all problems or (..., 4) for each.
        init: (..., 3, 3), (..., 3).
        settings: loss and limits.

    Raises:
        ValueError: if devices, dtypes or batch shapes do not agree; the message names the field.
    """
    problem, batch = flatten(correspondences, camera, init)
    result = lm_reference.solve(problem, settings)
    n = correspondences.image_points.shape[-2]
    return PoseEstimate(
        Pose(result.rotation.reshape(*batch, 3, 3), result.translation.reshape(*batch, 3)),
        result.covariance.reshape(*batch, 6, 6),
        result.inlier_weights.reshape(*batch, n),
        result.cost.reshape(batch),
        result.status.reshape(batch),
    )


def flatten(correspondences: Correspondences, camera: Camera, init: Pose) -> tuple[LMProblem, torch.Size]:
    """The flat batch of problems, and the batch's shape."""
    points = correspondences.image_points
    fields = {
        "object_points": (correspondences.object_points, 2),
        "weights": (correspondences.weights, 2),
        "init.rotation": (init.rotation, 2),
        "init.translation": (init.translation, 1),
        "camera.intrinsics": (camera.intrinsics, 1),
        "camera.distortion": (camera.distortion, 1),
    }
    if points.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"image_points: expected float32 or float64, got {points.dtype}")
    shapes = [points.shape[:-2]]
    for name, (tensor, tail) in fields.items():
        if tensor.device != points.device or tensor.dtype != points.dtype:
            expected = f"{points.dtype} on {points.device} like image_points"
            raise ValueError(f"{name}: expected {expected}, got {tensor.dtype} on {tensor.device}")
        shapes.append(tensor.shape[:-tail])
    try:
        batch = torch.broadcast_shapes(*shapes)
    except RuntimeError as error:
        names = ", ".join(f"{name} {tuple(t.shape)}" for name, (t, _) in fields.items())
        raise ValueError(f"batch dimensions do not agree: image_points {tuple(points.shape)}, {names}") from error

    def flat(tensor: Tensor, tail: int) -> Tensor:
        shape = tensor.shape[-tail:]
        return tensor.expand(*batch, *shape).reshape(math.prod(batch), *shape)

    if camera.intrinsics.ndim > 1 or camera.distortion.ndim > 1:
        camera = dataclasses.replace(
            camera, intrinsics=flat(camera.intrinsics, 1), distortion=flat(camera.distortion, 1)
        )
    problem = LMProblem(
        flat(points, 2),
        flat(correspondences.object_points, 2),
        flat(correspondences.weights, 2),
        camera,
        flat(init.rotation, 2),
        flat(init.translation, 1),
    )
    return problem, batch
