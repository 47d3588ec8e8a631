"""Matches, lines and priors in one robust Gauss-Newton solve."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3
from pnp_ros.types import Correspondences, Pose

_STEPS = 5
_SCALE = 3.0  # standard deviations at which a correspondence counts half


def minimise(
    correspondences: Correspondences, camera: Camera, start: Pose, priors: list[tuple[Pose, NDArray]]
) -> tuple[Pose, NDArray[np.float64]]:
    """The pose, and the inlier weights (N,) there."""
    points, observed = correspondences.object_points.numpy().astype(float), correspondences.image_points.numpy()
    roots = correspondences.weights.numpy().astype(float)
    rotation, translation = start.rotation.numpy().astype(float), start.translation.numpy().astype(float)
    offsets = [(se3.local(pose, start).numpy().astype(float), information) for pose, information in priors]
    moved = np.zeros(6)
    weight = np.ones(len(points))
    for _ in range(_STEPS):
        turned = points @ rotation.T
        seen = torch.from_numpy((turned + translation).astype(np.float32))
        pixels, slope = camera.project_with_jacobian(seen)
        residual = (roots @ (pixels.numpy() - observed)[..., None])[..., 0]
        white = roots @ slope.numpy()
        design = np.concatenate([white, np.cross(turned[:, None], white)], -1)
        weight = 1.0 / (1.0 + (residual**2).sum(1) / _SCALE**2)
        weighted = design * weight[:, None, None]
        hessian = np.tensordot(weighted, design, ([0, 1], [0, 1]))
        gradient = np.tensordot(weighted, residual, ([0, 1], [0, 1]))
        for offset, information in offsets:
            hessian = hessian + information
            gradient = gradient + information @ (offset + moved)
        step = -np.linalg.solve(hessian, gradient)
        moved = moved + step
        rotation, translation = cv2.Rodrigues(step[3:])[0] @ rotation, translation + step[:3]
    return Pose(torch.from_numpy(rotation.astype(np.float32)), torch.from_numpy(translation.astype(np.float32))), weight
