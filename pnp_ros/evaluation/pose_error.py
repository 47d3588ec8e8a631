"""Errors of a pose against the truth, as the LineMOD and BOP benchmarks define them.

Poses have batch dimensions (...); model points are (V, 3) in metres, object frame; ``symmetries`` are (S, 4, 4) rigid
motions of the object that leave it looking the same, the identity among them (see ``Symmetry.transforms``).

ADD and ADD-S: Hinterstoisser et al., "Model Based Training, Detection and Pose Estimation of Texture-Less 3D Objects in
Heavily Cluttered Scenes" (2012), section 4; MSSD and MSPD: Hodan et al., "BOP Challenge 2020", equations 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.types import Pose


def add(estimate: Pose, truth: Pose, points: Tensor) -> Tensor:
    """Average distance (...) in metres between the model's points in both poses."""
    points = points.to(estimate.translation)
    return (estimate.transform(points) - truth.transform(points)).norm(dim=-1).mean(dim=-1)


def adds(estimate: Pose, truth: Pose, points: Tensor) -> Tensor:
    """Average distance (...) in metres from the points in the true pose to the nearest one in the estimated pose."""
    # seen from the estimate's object frame the model stands still: one search tree serves all poses
    moved = se3.compose(se3.inverse(estimate), truth).transform(points.to(estimate.translation))
    tree = cKDTree(points.detach().cpu().double().numpy())
    distances, _ = tree.query(moved.detach().cpu().double().numpy())
    return torch.from_numpy(np.asarray(distances.mean(axis=-1))).to(estimate.translation)


def mssd(estimate: Pose, truth: Pose, points: Tensor, symmetries: Tensor | None = None) -> Tensor:
    """Maximum symmetry-aware surface distance (...) in metres: largest distance of a point, for the best symmetry."""
    points = points.to(estimate.translation)
    return _largest_distance(estimate, truth, symmetries, lambda pose: pose.transform(points))


def mspd(estimate: Pose, truth: Pose, points: Tensor, camera: Camera, symmetries: Tensor | None = None) -> Tensor:
    """Maximum symmetry-aware projection distance (...) in pixels, as :func:`mssd` in the image."""
    points = points.to(estimate.translation)
    camera = camera.to(points.device, points.dtype)
    return _largest_distance(estimate, truth, symmetries, lambda pose: camera.project(pose.transform(points)))


def reprojection(
    estimate: Pose, truth: Pose, points: Tensor, camera: Camera, symmetries: Tensor | None = None
) -> Tensor:
    """Mean distance (...) in pixels between the projected points of both poses, for the best symmetry.

    Brachmann et al., "Uncertainty-Driven 6D Pose Estimation of Objects and Scenes from a Single RGB Image" (2016),
    section 5: a pose is right below 5 px.
    """
    points = points.to(estimate.translation)
    camera = camera.to(points.device, points.dtype)
    seen = camera.project(estimate.transform(points))
    errors = [
        (seen - camera.project(true.transform(points))).norm(dim=-1).mean(dim=-1) for true in _alike(truth, symmetries)
    ]
    return torch.stack(errors).amin(0)


def rotation_error(estimate: Pose, truth: Pose, symmetries: Tensor | None = None) -> Tensor:
    """Angle (...) in radians between the rotations, for the best symmetry."""
    return torch.stack(
        [so3.angle_between(estimate.rotation, true.rotation) for true in _alike(truth, symmetries)]
    ).amin(0)


def translation_error(estimate: Pose, truth: Pose, symmetries: Tensor | None = None) -> Tensor:
    """Distance (...) in metres between the object's origins, for the best symmetry."""
    return torch.stack([_distance(estimate, true) for true in _alike(truth, symmetries)]).amin(0)


def within_5cm_5deg(estimate: Pose, truth: Pose, symmetries: Tensor | None = None) -> Tensor:
    """(...) bool: both errors below 5 cm and 5 degrees, for one and the same symmetry."""
    near = [
        (so3.angle_between(estimate.rotation, true.rotation) < np.deg2rad(5.0)) & (_distance(estimate, true) < 0.05)
        for true in _alike(truth, symmetries)
    ]
    return torch.stack(near).any(0)


def auc(errors: Tensor, max_error: float = 0.1) -> float:
    """Area under the curve of recall over the error threshold, from 0 to ``max_error``; 1 is perfect.

    Args:
        errors: (N) of any unit; a missed object is infinite or NaN and counts as 0. None at all gives 0.
        max_error: in the same unit; 0.1 m is customary for ADD(-S).
    """
    # each error adds the part of the axis above it: the curve is a step function, its area exact
    reward = (1.0 - torch.nan_to_num(errors.double(), nan=torch.inf) / max_error).clamp(min=0.0)
    return float(reward.sum()) / max(1, errors.numel())


def average_recall(errors: Tensor, thresholds: Tensor) -> float:
    """Mean over ``thresholds`` (T) of the share of ``errors`` (N) below each: BOP's AR of one error function.

    A missed object is infinite or NaN. BOP takes 0.05, 0.10, ... 0.50 diameters for MSSD, and 5, 10, ... 50 px for
    MSPD in an image 640 px wide (Hodan et al. 2020, section 2.3).
    """
    values = torch.nan_to_num(errors.double(), nan=torch.inf)
    if values.numel() == 0:
        return 0.0
    return float((values[:, None] < thresholds.to(values)).double().mean())


def _alike(truth: Pose, symmetries: Tensor | None) -> list[Pose]:
    """The poses that look like the true one."""
    if symmetries is None:
        return [truth]
    return [se3.compose(truth, Pose.from_matrix(motion)) for motion in symmetries.to(truth.translation)]


def _distance(a: Pose, b: Pose) -> Tensor:
    return (a.translation - b.translation).norm(dim=-1)


def _largest_distance(
    estimate: Pose, truth: Pose, symmetries: Tensor | None, place: Callable[[Pose], Tensor]
) -> Tensor:
    placed = place(estimate)
    largest = [(placed - place(true)).norm(dim=-1).amax(dim=-1) for true in _alike(truth, symmetries)]
    return torch.stack(largest).amin(0)
