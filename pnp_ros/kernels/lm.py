"""Dispatch of the Levenberg-Marquardt solve: checks its input and chooses the implementation."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels import lm_launch, lm_reference
from pnp_ros.kernels.lm_problem import LMProblem, LMSettings
from pnp_ros.types import Correspondences, Pose, PoseEstimate


def solve(
    correspondences: Correspondences,
    camera: Camera,
    init: Pose | None,
    settings: LMSettings,
    block: tuple[int, int] | None = None,
) -> PoseEstimate:
    """Minimise the robust reprojection error of every problem of a batch of any shape.

    float32 runs as one kernel launch, on the CPU or a CUDA device that Warp supports; float64 in the torch reference.

    Args:
        correspondences: (..., N, 2) px, (..., N, 3) m, (..., N, 2) 1/px.
        camera: intrinsics (4,) for all problems or (..., 4) for each.
        init: (..., 3, 3), (..., 3), or None: the best of ``settings.samples`` P3P solutions.
        settings: loss and limits.
        block: points a chunk and threads a problem of the kernel, for tests; None chooses by device.

    Raises:
        ValueError: if devices, dtypes or batch shapes do not agree; the message names the field.
    """
    if (init is None) != (settings.samples > 0):
        raise ValueError(f"init: expected {'a pose' if init is None else 'None'} with samples = {settings.samples}")
    points = correspondences.image_points
    batch = _check(correspondences, camera, init)
    if points.dtype == torch.float32 and lm_launch.supports(points.device):
        return _launch(correspondences, camera, init, settings, batch, block)
    if init is None:
        init = _single_precision_pose(correspondences, camera, settings)
        settings = dataclasses.replace(settings, samples=0)
    result = lm_reference.solve(_flatten(correspondences, camera, init, batch), settings)
    return PoseEstimate(
        Pose(result.rotation.reshape(*batch, 3, 3), result.translation.reshape(*batch, 3)),
        result.covariance.reshape(*batch, 6, 6),
        result.inlier_weights.reshape(*batch, points.shape[-2]),
        result.cost.reshape(batch),
        result.status.reshape(batch),
    )


def _launch(
    correspondences: Correspondences,
    camera: Camera,
    init: Pose | None,
    settings: LMSettings,
    batch: torch.Size,
    block: tuple[int, int] | None,
) -> PoseEstimate:
    points = correspondences.image_points
    n, count, device = points.shape[-2], math.prod(batch), points.device

    def full(tensor: Tensor, tail: int) -> Tensor:
        shape = tensor.shape
        if shape[: len(shape) - tail] != batch:
            tensor = tensor.expand(*batch, *shape[len(shape) - tail :])
        return tensor.contiguous()

    per_problem = camera.intrinsics.ndim > 1 or camera.distortion.ndim > 1
    rotation = torch.empty(*batch, 3, 3, device=device)
    translation = torch.empty(*batch, 3, device=device)
    estimate = PoseEstimate(
        Pose(rotation, translation),
        torch.empty(*batch, 6, 6, device=device),
        torch.empty(*batch, n, device=device),
        torch.empty(batch, device=device),
        torch.empty(batch, dtype=torch.int8, device=device),
    )
    if count == 0:
        return estimate
    tensors = (
        full(points, 2),
        full(correspondences.object_points, 2),
        full(correspondences.weights, 2),
        rotation if init is None else full(init.rotation, 2),
        translation if init is None else full(init.translation, 1),
        full(camera.intrinsics, 1) if per_problem else camera.intrinsics.contiguous(),
        full(camera.distortion, 1) if per_problem else camera.distortion.contiguous(),
        rotation,
        translation,
        estimate.covariance,
        estimate.inlier_weights,
        estimate.cost,
        estimate.status,
    )
    coefficients = camera.distortion.shape[-1]
    launch = lm_launch.launches.get(device, count, n, camera.model, per_problem, coefficients, block)
    launch(tensors, settings, camera.width * camera.height)
    return estimate


def _single_precision_pose(correspondences: Correspondences, camera: Camera, settings: LMSettings) -> Pose:
    """The kernel's solution on the CPU, as an initial pose of what the kernel cannot solve itself."""
    like = correspondences.image_points
    fields = (like, correspondences.object_points, correspondences.weights)
    single = Correspondences(*(field.to("cpu", torch.float32) for field in fields))
    pose = solve(single, camera.to("cpu", torch.float32), None, settings).pose
    return Pose(pose.rotation.to(like), pose.translation.to(like))


def _check(correspondences: Correspondences, camera: Camera, init: Pose | None) -> torch.Size:
    """The batch's shape, if all fields agree."""
    points = correspondences.image_points
    fields = [
        ("image_points", points, 2),
        ("object_points", correspondences.object_points, 2),
        ("weights", correspondences.weights, 2),
        ("camera.intrinsics", camera.intrinsics, 1),
        ("camera.distortion", camera.distortion, 1),
    ]
    if init is not None:
        fields += [("init.rotation", init.rotation, 2), ("init.translation", init.translation, 1)]
    dtype, device = points.dtype, points.device
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"image_points: expected float32 or float64, got {dtype}")
    batch = points.shape[:-2]
    agree = True
    for name, tensor, tail in fields:
        if tensor.dtype != dtype or tensor.device != device:
            raise ValueError(
                f"{name}: expected {dtype} on {device} like image_points, got {tensor.dtype} on {tensor.device}"
            )
        agree = agree and (tensor.ndim == tail or tensor.shape[:-tail] == batch)
    if agree and all(len(batch) == 0 or tensor.ndim > tail for _, tensor, tail in fields[:3] + fields[5:]):
        return batch
    try:
        return torch.broadcast_shapes(*(tensor.shape[:-tail] for _, tensor, tail in fields))
    except RuntimeError as error:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor, _ in fields)
        raise ValueError(f"batch dimensions do not agree: {shapes}") from error


def _flatten(correspondences: Correspondences, camera: Camera, init: Pose, batch: torch.Size) -> LMProblem:
    def flat(tensor: Tensor, tail: int) -> Tensor:
        shape = tensor.shape[-tail:]
        return tensor.expand(*batch, *shape).reshape(math.prod(batch), *shape)

    if camera.intrinsics.ndim > 1 or camera.distortion.ndim > 1:
        camera = dataclasses.replace(
            camera, intrinsics=flat(camera.intrinsics, 1), distortion=flat(camera.distortion, 1)
        )
    return LMProblem(
        flat(correspondences.image_points, 2),
        flat(correspondences.object_points, 2),
        flat(correspondences.weights, 2),
        camera,
        flat(init.rotation, 2),
        flat(init.translation, 1),
    )
