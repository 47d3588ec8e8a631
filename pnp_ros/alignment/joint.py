"""Matches, lines and what is known beforehand in one solve."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry.single_pose import difference, moved
from pnp_ros.kernels.pose_prior import PosePrior
from pnp_ros.solvers.levenberg_marquardt import LevenbergMarquardt, refine
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.types import Correspondences, Pose, PoseEstimate

_LOSS = Cauchy(3.0)  # its basin is wide, and most of what is found is right
_SOLVER = LevenbergMarquardt(max_iterations=10)  # the next round looks again


def minimise(
    correspondences: Correspondences,
    camera: Camera,
    pose: Pose,
    damping: NDArray[np.float64],
    prior: tuple[Pose, NDArray[np.float64]] | None,
) -> PoseEstimate:
    """The joint minimum from ``pose``.

    Args:
        correspondences: N matches and lines.
        camera: of their pixels.
        pose: of the last round.
        damping: (6, 6) information that holds the pose near that of the last round.
        prior: the start, and its (6, 6) information; None where it tells nothing.
    """
    information, towards = damping, pose
    if prior is not None:
        # two Gaussians about different poses are one about a pose between them
        information = damping + prior[1]
        if pose is not prior[0]:
            towards = moved(pose, np.linalg.solve(information, prior[1] @ difference(pose, prior[0])))
    return refine(correspondences, camera, pose, _LOSS, _SOLVER, prior=_held(towards, information))


def _held(pose: Pose, information: NDArray[np.float64]) -> PosePrior:
    """A prior by its (6, 6) information: along the axes of what is left of it when each unknown has its own unit."""
    deviations = 1.0 / np.sqrt(information.diagonal())
    values, axes = np.linalg.eigh(information * deviations[:, None] * deviations)
    v, s, known = (torch.from_numpy(part).float() for part in (axes, deviations, values))
    return PosePrior(pose.rotation, pose.translation, v, s, known, torch.zeros(3))
