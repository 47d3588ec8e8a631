"""BPnP: the exact gradient of a PnP solution, by the implicit function theorem.

Chen, Parra, Cao, Li, Chin, "End-to-End Learnable Geometric Vision by Backpropagating PnP Optimization" (CVPR 2020,
arXiv 1909.06043), section 3. The pose minimises ``C(delta; z) = 1/2 sum rho(|r|^2)`` with whitened residuals
``r = W (pi(y) - u)``, ``y = exp(dtheta) q + t + dt``, ``q = R X``; ``z`` is any of the data. At the minimum the
gradient ``g = dC / d delta`` vanishes, so ``d delta / d z = -H^-1 dg/dz`` with the exact Hessian ``H`` of ``C``.
For a loss whose gradient on the pose is ``v``, with ``a = H^-1 v``, the gradient on the data is ``-d(a . g)/dz``.

The formulas are in :mod:`pnp_ros.solvers.exact_cost`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.geometry.covariance import UNKNOWN_VARIANCE
from pnp_ros.solvers.exact_cost import ExactCost
from pnp_ros.solvers.prior_gradient import PriorTerm
from pnp_ros.solvers.robust_loss import Gaussian, RobustLoss
from pnp_ros.types import Correspondences, Pose, PoseEstimate, SolveStatus

_SETTLED = {torch.float32: 1e-8, torch.float64: 1e-15}  # decrease a Newton step promises, over one plus the cost


@dataclass(frozen=True)
class Implicit:
    """Asks :func:`~pnp_ros.solvers.pnp.solve_pnp` for a pose with exact gradients, by :func:`implicit_pose`.

    A pose at which the exact Hessian has no minimum has no gradient: its status becomes ``DEGENERATE``, so that a zero
    gradient is never that of a usable pose.
    """

    def attach(
        self,
        correspondences: Correspondences,
        camera: Camera,
        estimate: PoseEstimate,
        loss: RobustLoss,
        prior: PoseEstimate | None = None,
    ) -> PoseEstimate:
        """The estimate whose pose has gradients."""
        pose, sound = _implicit(correspondences, camera, estimate, loss, prior)
        lost = estimate.usable & ~sound
        status = torch.where(lost, int(SolveStatus.DEGENERATE), estimate.status).to(torch.int8)
        unknown = UNKNOWN_VARIANCE * torch.eye(6).to(estimate.covariance)
        covariance = torch.where(lost[..., None, None], unknown, estimate.covariance)
        return replace(estimate, pose=pose, covariance=covariance, status=status)


def implicit_pose(
    correspondences: Correspondences,
    camera: Camera,
    estimate: PoseEstimate,
    loss: RobustLoss | None = None,
    prior: PoseEstimate | None = None,
) -> Pose:
    """The pose of an estimate, differentiable with respect to the data that led to it.

    First order gradients flow to image points, object points, weights, ``camera.intrinsics``, ``camera.distortion``
    and the prior's pose and covariance; they do not depend on how the pose was found. They are computed in double
    precision: the rounding of single precision would hide the minimum where weights are large. A pose that is not yet
    a minimum of the cost (say, of EPnP) is first brought to it by Newton steps on the exact Hessian, so the value may
    differ from ``estimate.pose``. Where the estimate is not usable, or the minimum is degenerate, gradients are zero.

    Args:
        correspondences: (..., N) points in pixels and metres.
        camera: the camera of the image points; its tensors may require gradients.
        estimate: a solution of the same problem; ``estimate.pose`` starts the Newton steps.
        loss: the robust loss of the stated cost (None: Gaussian).
        prior: of the solve, or None.

    Returns:
        ``T_camera_object``, batch shape (...).
    """
    return _implicit(correspondences, camera, estimate, loss or Gaussian(), prior)[0]


def _implicit(
    correspondences: Correspondences,
    camera: Camera,
    estimate: PoseEstimate,
    loss: RobustLoss,
    prior: PoseEstimate | None,
) -> tuple[Pose, Tensor]:
    """The pose of :func:`implicit_pose`, and where (...) it is a minimum and has a gradient."""
    rotation, translation, sound = _ImplicitPose.apply(
        correspondences.image_points,
        correspondences.object_points,
        correspondences.square_root_information,
        camera.intrinsics,
        camera.distortion,
        camera,
        Pose(estimate.pose.rotation.detach(), estimate.pose.translation.detach()),
        estimate.usable,
        loss,
        *((None,) * 3 if prior is None else (prior.pose.rotation, prior.pose.translation, prior.covariance)),
    )
    return Pose(rotation, translation), sound


def reprojection_loss(
    pose: Pose, correspondences: Correspondences, camera: Camera, target: Pose, *, regularisation: float = 1.0
) -> Tensor:
    """Training loss (...) in px^2 of a network whose keypoints led to ``pose`` (arXiv 1909.06043, "Pose estimation").

    ``mean |pi(X; pose) - pi(X; target)|^2 + regularisation * mean |u - pi(X; pose)|^2``. Very different image points
    share one pose; the second term asks the predicted points to conform to it and keeps the training stable. Both
    means are over points with a non-zero weight. On its own this loss does not train a random network: put a
    heat-map or coordinate loss beside it.

    Args:
        pose: of :func:`implicit_pose`, batch shape (...).
        correspondences: the predicted points.
        camera: of the image points.
        target: the true pose.
        regularisation: the paper's lambda; 1 in its authors' published demonstration.
    """
    like = correspondences.image_points
    camera = camera.to(like.device, like.dtype)
    pose, target = pose.to(like.device, like.dtype), target.to(like.device, like.dtype)
    seen, correspondences = correspondences.has_weight, correspondences.harmless
    pixels = camera.project(pose.transform(correspondences.object_points))
    goal = camera.project(target.transform(correspondences.object_points))
    squares = (pixels - goal).square().sum(-1)
    squares = squares + regularisation * (correspondences.image_points - pixels).square().sum(-1)
    return torch.where(seen, squares, torch.zeros_like(squares)).sum(-1) / seen.sum(-1).clamp(min=1)


class _ImplicitPose(torch.autograd.Function):
    """Newton to the minimum forward; one 6x6 solve and closed formulas backward."""

    @staticmethod
    def forward(
        ctx: Any,
        image_points: Tensor,
        object_points: Tensor,
        weights: Tensor,
        intrinsics: Tensor,
        distortion: Tensor,
        camera: Camera,
        start: Pose,
        usable: Tensor,
        loss: RobustLoss,
        *prior: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        data = (image_points, object_points, weights, intrinsics, distortion, *prior)
        ctx.like = [None if tensor is None else (tensor.shape, tensor.dtype) for tensor in data]
        dtype = image_points.dtype
        with torch.inference_mode(False):  # the exact Hessian is found by autograd, which its tensors are barred from
            double = [
                None if tensor is None else tensor.to(torch.float64, copy=tensor.is_inference()) for tensor in data
            ]
            image_points, object_points, weights, intrinsics, distortion, *prior = double  # type: ignore[assignment]
            rotation, translation = (tensor.double().clone() for tensor in (start.rotation, start.translation))
            camera = replace(camera, intrinsics=intrinsics, distortion=distortion)
            term = PriorTerm.of(*prior) if prior[0] is not None else None  # type: ignore[arg-type]
            ctx.problem = ExactCost(image_points, object_points, weights, camera, usable.clone(), loss, term)
            # an orthonormal rotation: that of single precision is one to 1e-7
            rotation = so3.matrix_from_quat_wxyz(so3.quat_wxyz_from_matrix(rotation))
            centred = ctx.problem.to_centroid(Pose(rotation, translation))
            ctx.centred, ctx.expansion, sound = ctx.problem.minimise(centred, _SETTLED[dtype])
            ctx.mark_non_differentiable(sound)
            pose = ctx.problem.from_centroid(ctx.centred)
            return pose.rotation.to(dtype), pose.translation.to(dtype), sound

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rotation: Tensor, grad_translation: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        # d loss / d dtheta: the skew part of grad_rotation rotation^T
        turn = 2.0 * so3.vee(grad_rotation.double() @ ctx.centred.rotation.mT)
        upstream = torch.cat([grad_translation.double(), turn], dim=-1)
        gradients = ctx.problem.pull_back(ctx.centred, ctx.expansion, upstream, with_distortion=ctx.needs_input_grad[4])
        fitted = [
            None if g is None else g.sum_to_size(like[0]).to(like[1])
            for g, like in zip(gradients, ctx.like, strict=True)
        ]
        return (*fitted[:5], None, None, None, None, *fitted[5:])
