"""The losses of the fine-tuning, in pixels and metres of real images: correspondences, BPnP, EPro-PnP.

BPnP's loss alone lets a network diverge, since very different keypoints share one pose (arXiv 1909.06043, section 5.1):
the correspondence term always stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pnp_ros.adaptation.config import Objective
from pnp_ros.adaptation.examples.example import Example
from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.pose_error import add
from pnp_ros.networks.keypoint_network import RawPrediction, decode
from pnp_ros.rendering.camera_effects import uniform
from pnp_ros.rendering.compositing import placement, transform_points, warp
from pnp_ros.solvers.bpnp import implicit_pose, reprojection_loss
from pnp_ros.solvers.epropnp import sample_posterior
from pnp_ros.solvers.epropnp_losses import MonteCarloPoseLoss
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.types import Correspondences, Pose

_SCALE, _SHIFT = (0.85, 1.2), 0.1  # of the crops that are cut from a window: factor, share
_ROBUST = Cauchy(2.0)
_NEAR = 0.05  # of the object's size: distances beyond it, and beyond a crop pixel, count as their logarithms
_BPNP_WEIGHT, _EPROPNP_WEIGHT = 0.3, 0.05
_SAMPLES = 128


@dataclass(frozen=True, eq=False)
class RealCrops:
    """Crops cut from windows of real images.

    Args:
        images: (B, 3, S, S) RGB in [0, 1].
        coverage: (B, 1, S, S) share of each pixel that the object covers.
        keypoints: (B, K, 2) crop pixels.
        placed: (B, 2, 3) maps of window pixels to crop pixels.
        camera: B cameras that project to window pixels.
        pose: (B,) true poses.
        object_points: (K, 3) metres.
    """

    images: Tensor
    coverage: Tensor
    keypoints: Tensor
    placed: Tensor
    camera: Camera
    pose: Pose
    object_points: Tensor


def real_crops(
    examples: list[Example],
    object_points: Tensor,
    size: int,
    margin: float,
    window_margin: float,
    turn: float,
    generator: torch.Generator,
) -> RealCrops:
    """Crops as a detector or the last pose would cut them: shifted, scaled and turned.

    Args:
        examples: B of one camera model.
        object_points: (K, 3) metres.
        size: of the crops in pixels.
        margin: of the crop around the object's box.
        window_margin: of the windows around it.
        turn: largest, radians.
        generator: on the device of ``object_points``.
    """
    device, count = object_points.device, len(examples)
    windows = images_of([np.dstack([example.window, example.coverage]) for example in examples], device)
    side = windows.shape[-1]
    like = windows[0, 0, 0]
    factor = torch.exp(uniform(like, generator, count, low=float(np.log(_SCALE[0])), high=float(np.log(_SCALE[1]))))
    scale = size * window_margin / (margin * side * factor)
    angle = uniform(like, generator, count, low=-turn, high=turn)
    centre = (size - 1) / 2 + _SHIFT * size * uniform(like, generator, count, 2, low=-1.0, high=1.0)
    placed = placement(centre, scale, angle, like.new_full((count, 2), (side - 1) / 2))
    crops = warp(windows, placed, size, size, outside="border")
    keypoints = torch.stack([example.keypoints for example in examples]).to(device)
    return RealCrops(
        crops[:, :3],
        crops[:, 3:],
        transform_points(placed, keypoints),
        placed,
        _cameras(examples).to(device),
        Pose(
            torch.stack([example.pose.rotation for example in examples]).to(device),
            torch.stack([example.pose.translation for example in examples]).to(device),
        ),
        object_points,
    )


def images_of(crops: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """Images (H, W, C) of one size as (B, C, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack(crops)).to(device).permute(0, 3, 1, 2).float() / 255.0


def _cameras(examples: list[Example]) -> Camera:
    """One camera with a batch of intrinsics and distortions."""
    cameras = [example.camera for example in examples]
    return replace(
        cameras[0],
        intrinsics=torch.stack([camera.intrinsics for camera in cameras]),
        distortion=torch.stack([camera.distortion for camera in cameras]),
    )


def correspondences_of(raw: RawPrediction, crops: RealCrops) -> tuple[Correspondences, Tensor]:
    """The predicted correspondences in window pixels, differentiable, and (B,) crop pixels for each window pixel."""
    prediction = decode(raw)
    linear = crops.placed[..., :2]
    scale = torch.linalg.det(linear).sqrt()
    inverse = torch.linalg.inv(linear)
    points = (prediction.image_points - crops.placed[..., None, :, 2]) @ inverse.mT
    weights = scale[:, None, None] / prediction.sigma
    objects = crops.object_points.expand(len(points), -1, -1)
    return Correspondences(points, objects, weights), scale


def bpnp_loss(raw: RawPrediction, crops: RealCrops) -> Tensor:
    """How far the keypoints in the pose that was found are from where they are, through exact gradients.

    In the image, as the authors measure it, and in space, where a wrong depth weighs as much as in the recall that is
    wanted. The authors' regularisation has no place here: the correspondence term does its work, and hidden points
    would outweigh all others. Poses that the solver cannot find, and the worst ones, count little: their gradients lead
    nowhere.
    """
    predicted, scale = correspondences_of(raw, crops)
    found = solve_pnp(_detached(predicted), crops.camera, init=crops.pose, loss=_ROBUST)
    pose = implicit_pose(predicted, crops.camera, found, _ROBUST)
    pixels = reprojection_loss(pose, predicted, crops.camera, crops.pose, regularisation=0.0) * scale.square()
    distances = add(pose, crops.pose, crops.object_points) / (_NEAR * torch.pdist(crops.object_points).max())
    usable = found.usable & torch.isfinite(pixels) & torch.isfinite(distances)
    measured = torch.stack([pixels, distances.square()])
    return torch.log1p(torch.where(usable, measured, torch.zeros_like(measured))).sum() / usable.sum().clamp_min(1)


class EProPnPLoss(nn.Module):
    """EPro-PnP's KL loss of the same correspondences, to compare with."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._loss = MonteCarloPoseLoss()
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, raw: RawPrediction, crops: RealCrops) -> Tensor:
        """Scalar loss."""
        predicted, _ = correspondences_of(raw, crops)
        posterior = sample_posterior(
            predicted, crops.camera, num_samples=_SAMPLES, loss=_ROBUST, generator=self._generator
        )
        return self._loss(posterior.log_evidence, predicted, crops.camera, crops.pose, loss=_ROBUST)


def pose_term(objective: Objective, epropnp: EProPnPLoss, raw: RawPrediction, crops: RealCrops) -> Tensor:
    """The weighted pose loss beside the correspondence term; 0 for the correspondence term alone."""
    if objective == "bpnp":
        return _BPNP_WEIGHT * bpnp_loss(raw, crops)
    if objective == "epropnp":
        return _EPROPNP_WEIGHT * epropnp(raw, crops)
    return raw.heat.new_zeros(())


def _detached(points: Correspondences) -> Correspondences:
    return Correspondences(points.image_points.detach(), points.object_points, points.weights.detach())
