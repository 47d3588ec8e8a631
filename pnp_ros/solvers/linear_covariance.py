"""The linear-covariance loss: the pose error that the residuals at the true pose would make, one by one.

After Liu, Hu, Salzmann, "Linear-Covariance Loss for End-to-End Learning of 6D Pose Estimation" (ICCV 2023, arXiv
2303.11516). The solver is linearised about the *true* pose. With whitened Jacobian ``J_i`` (2, 6) and residual ``r_i``
of each correspondence there, a small change of the residuals moves the pose by ``sum_i A_i r_i``,
``A_i = H^-1 J_i^T``, ``H = sum_i J_i^T J_i``. If the residuals are taken for independent with the size they have, the
pose's covariance is

    Sigma = sum_i A_i diag(r_i^2) A_i^T

A loss on the pose itself would push correspondences so that their errors cancel; this one makes each of them better, as
far as it matters for the pose. It trains the weights' ratios, not their scale, which does not change a pose.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.types import Correspondences, Pose

_DAMPING = 1e-6  # share of the Hessian's diagonal that is added to it


def linear_covariance(correspondences: Correspondences, camera: Camera, target: Pose) -> Tensor:
    """The covariance (..., 6, 6) of [dt, dtheta] about the true pose; differentiable.

    Args:
        correspondences: (..., N, 2) px, (..., N, 3) m, (..., N, 2) or (..., N, 2, 2) 1/px.
        camera: of any model.
        target: true pose (..., 3, 3), (..., 3), with all points in front of the camera.
    """
    correspondences = correspondences.harmless
    rotated = correspondences.object_points @ target.rotation.mT
    pixels, slope = camera.project_with_jacobian(rotated + target.translation[..., None, :])
    residual = correspondences.whiten(pixels - correspondences.image_points)
    on_pose = torch.cat([slope, -slope @ so3.hat(rotated)], dim=-1)  # (..., N, 2, 6)
    jacobian = correspondences.square_root_information @ on_pose
    rows = jacobian.flatten(-3, -2)
    hessian = rows.mT @ rows
    # Metres and radians apart, the Hessian is inverted with a unit diagonal.
    scale = hessian.detach().diagonal(dim1=-2, dim2=-1).clamp_min(1e-20).rsqrt()[..., None]
    unit = torch.eye(6, dtype=scale.dtype, device=scale.device)
    gain = torch.linalg.solve_ex(hessian * scale * scale.mT + _DAMPING * unit, scale * rows.mT)[0]
    moved = scale * gain * residual.flatten(-2)[..., None, :]  # (..., 6, 2 N)
    return moved @ moved.mT


def expected_distance(covariance: Tensor, target: Pose, points: Tensor) -> Tensor:
    """(...) root mean square distance, metres, by which poses of this covariance move an object's points.

    Args:
        covariance: (..., 6, 6) of [dt, dtheta].
        target: (...) pose.
        points: (K, 3) or (..., K, 3) of the object, metres.
    """
    # mean over points of tr(B Sigma B^T), B = [I, -hat(q)]: only the mean of B^T B enters
    turn = -so3.hat(points @ target.rotation.mT)
    identity = torch.eye(3, dtype=turn.dtype, device=turn.device).expand_as(turn)
    motion = torch.cat([identity, turn], dim=-1)
    metric = (motion.mT @ motion).mean(-3)
    return (metric * covariance).sum((-2, -1)).clamp_min(1e-20).sqrt()
