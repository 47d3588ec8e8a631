"""Dispatch of the Levenberg-Marquardt solve: checks its input and chooses the implementation."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.kernels import lm_launch, solve_reference
from pnp_ros.kernels.lm_problem import SECOND, LMProblem, LMSettings
from pnp_ros.kernels.pose_prior import PosePrior
from pnp_ros.types import Alternative, Correspondences, Pose, PoseEstimate

_NO_BATCH = torch.Size()


def solve(
    correspondences: Correspondences,
    camera: Camera,
    init: Pose | None,
    settings: LMSettings,
    block: lm_launch.Block | None = None,
    prior: PosePrior | None = None,
    likelihood: Tensor | None = None,
) -> PoseEstimate:
    """Minimise the robust reprojection error of every problem of a batch of any shape.

    float32 runs as one kernel launch, on the CPU or a CUDA device that Warp supports; float64 in the torch reference.

    Args:
        correspondences: (..., N, 2) px, (..., N, 3) m, (..., N, 2) or (..., N, 2, 2) 1/px.
        camera: intrinsics (4,) for all problems or (..., 4) for each; it follows the correspondences' dtype and device.
        init: (..., 3, 3), (..., 3), or None: the best of ``settings.samples`` P3P solutions.
        settings: loss and limits.
        block: layout of the launch; None chooses by device and batch.
        likelihood: (..., N) how probably each point is an inlier, to guide the kernel's search; the reference does
            without.
        prior: on the pose, batch shape (...).

    Raises:
        ValueError: if devices, dtypes or batch shapes do not agree; the message names the field.
    """
    if init is None and settings.samples == 0:
        raise ValueError("init: expected a pose with samples = 0")
    like = correspondences.image_points
    if camera.intrinsics.dtype is not like.dtype or camera.intrinsics.device != like.device:
        if not like.is_floating_point():
            raise ValueError(f"image_points: expected float32 or float64, got {like.dtype}")
        camera = camera.to(like.device, like.dtype)
    batch, tensors = _aligned(correspondences, camera, init, prior)
    guide = None if likelihood is None else _guide(likelihood, batch, like)
    if like.dtype is not torch.float32 or not (like.is_cpu or lm_launch.supports(like.device)):
        with torch.no_grad():
            return _refer(tensors, camera, init, prior, settings, batch)
    if guide is not None:
        tensors.insert(-2, guide)
    if block is None:
        block = lm_launch.CPU if like.is_cpu else lm_launch.block_for(like.device, batch.numel())
    launch = lm_launch.launches.get(like.device, block)
    return launch(tensors, camera, batch, prior is not None, init is not None, guide is not None, settings)


def _guide(likelihood: Tensor, batch: torch.Size, like: Tensor) -> Tensor:
    """The likelihoods (..., N) as the kernel reads them."""
    n = like.shape[-2]
    if likelihood.shape[-1:] != (n,):
        raise ValueError(f"likelihood: expected shape (..., {n}), got {tuple(likelihood.shape)}")
    return likelihood.detach().to(like).expand(*batch, n).contiguous()


def _refer(
    tensors: list[Tensor],
    camera: Camera,
    init: Pose | None,
    prior: PosePrior | None,
    settings: LMSettings,
    batch: torch.Size,
) -> PoseEstimate:
    *points, intrinsics, distortion = tensors
    before = PosePrior.unpacked(_flat(points.pop(3), batch)) if prior is not None else None
    if intrinsics.ndim > 1:
        intrinsics, distortion = _flat(intrinsics, batch), _flat(distortion, batch)
    image_points, object_points, weights, *start = (_flat(tensor, batch) for tensor in points)
    if weights.ndim == 3:
        weights = torch.diag_embed(weights)
    if init is None:
        count = batch.numel()
        start = [torch.eye(3).to(image_points).expand(count, 3, 3), image_points.new_zeros(count, 3)]
    # a rotation of single precision would keep its error of 1e-7 through all steps
    start[0] = so3.matrix_from_quat_wxyz(so3.quat_wxyz_from_matrix(start[0]))
    camera = dataclasses.replace(camera, intrinsics=intrinsics, distortion=distortion)
    problem = LMProblem(image_points, object_points, weights, camera, start[0], start[1], before)
    result, second = solve_reference.solve(problem, settings, init is not None)
    return PoseEstimate(
        Pose(result.rotation.reshape(*batch, 3, 3), result.translation.reshape(*batch, 3)),
        result.covariance.reshape(*batch, 6, 6),
        result.inlier_weights.reshape(*batch, image_points.shape[-2]),
        result.cost.reshape(batch),
        result.status.reshape(batch),
        Alternative(second.reshape(*batch, SECOND)),
    )


def _flat(tensor: Tensor, batch: torch.Size) -> Tensor:
    """(B, ...) of a tensor whose leading dimensions are those of the batch."""
    return tensor.reshape(batch.numel(), *tensor.shape[len(batch) :])


def _aligned(
    correspondences: Correspondences, camera: Camera, init: Pose | None, prior: PosePrior | None
) -> tuple[torch.Size, list[Tensor]]:
    """The batch's shape, and all inputs with it, contiguous; intrinsics and distortion without, if they are shared."""
    points, weights = correspondences.image_points, correspondences.weights
    tensors = [points, correspondences.object_points, weights]
    tails = [2, 2, 3 if weights.ndim > 2 and correspondences.has_matrices else 2]
    if prior is not None:
        tensors.append(prior.packed())
        tails.append(2)
    if init is not None:
        tensors += [init.rotation, init.translation]
        tails += [2, 1]
    intrinsics, distortion = camera.intrinsics, camera.distortion
    shared = intrinsics.ndim == distortion.ndim == 1
    if not shared:
        tensors += [intrinsics, distortion]
        tails += [1, 1]
    dtype, device = points.dtype, points.device
    batch = points.shape[:-2] if points.ndim > 2 else _NO_BATCH  # to cut a shape is slow
    if dtype is not torch.float32 and dtype is not torch.float64:
        raise ValueError(f"image_points: expected float32 or float64, got {dtype}")
    dims = len(batch)
    agree, contiguous = True, intrinsics.is_contiguous() and distortion.is_contiguous()
    for tensor, tail in zip(tensors, tails):
        if tensor.dtype is not dtype or tensor.device != device:
            name = next(name for name, each in zip(_names(init, prior), tensors) if each is tensor)
            raise ValueError(f"{name}: expected {dtype} on {device}, got {tensor.dtype} on {tensor.device}")
        if tensor.ndim != dims + tail or (dims > 0 and tensor.shape[:dims] != batch):
            agree = False
        contiguous = contiguous and tensor.is_contiguous()
    if not agree:
        try:
            batch = torch.Size(np.broadcast_shapes(*(tensor.shape[:-tail] for tensor, tail in zip(tensors, tails))))
        except ValueError as error:
            named = zip(_names(init, prior), tensors)
            shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in named)
            raise ValueError(f"batch dimensions do not agree: {shapes}") from error
        tensors = [tensor.expand(*batch, *tensor.shape[-tail:]) for tensor, tail in zip(tensors, tails)]
    if shared:
        tensors += [intrinsics, distortion]
    return batch, tensors if agree and contiguous else [tensor.contiguous() for tensor in tensors]


def _names(init: Pose | None, prior: PosePrior | None) -> list[str]:
    """Of the tensors of :func:`_aligned`."""
    start = ["init.rotation", "init.translation"] if init is not None else []
    before = ["prior"] if prior is not None else []
    points = ["image_points", "object_points", "weights"]
    return [*points, *before, *start, "camera.intrinsics", "camera.distortion"]
