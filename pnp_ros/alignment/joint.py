"""Matches, lines and what is known beforehand in one solve: :func:`pnp_ros.solvers.pnp.solve_pnp` with a prior."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3
from pnp_ros.solvers.levenberg_marquardt import LevenbergMarquardt
from pnp_ros.solvers.pnp import solve_pnp
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
    information, pull = damping, np.zeros(6)
    if prior is not None:
        # two Gaussians about different poses are one about a pose between them
        information = damping + prior[1]
        if pose is not prior[0]:
            pull = np.linalg.solve(information, prior[1] @ se3.local(pose, prior[0]).double().numpy())
    towards = se3.retract(pose, torch.from_numpy(pull).float()) if pull.any() else pose
    held = PoseEstimate.of(towards, np.linalg.inv(information))
    return solve_pnp(correspondences, camera, solver=_SOLVER, init=pose, prior=held, loss=_LOSS)
