"""The one entry of the solvers: correspondences and a camera in, a pose with covariance and status out."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels.lm_problem import UNKNOWN_VARIANCE
from pnp_ros.solvers import classical, levenberg_marquardt
from pnp_ros.solvers.robust_loss import Gaussian, GemanMcClure, RobustLoss
from pnp_ros.types import Correspondences, Pose, PoseEstimate, SolveStatus

ON_A_LINE = 1e-5  # how thick a line is, for its length
MIN_ROBUST_POINTS = 8  # below, outliers cannot be told from inliers and the default loss is Gaussian

Differentiate = Literal["none", "implicit"]


def solve_pnp(
    correspondences: Correspondences,
    camera: Camera,
    *,
    solver: str = "lm",
    init: Pose | str | None = None,
    loss: RobustLoss | None = None,
    differentiate: Differentiate = "none",
    **options: Any,
) -> PoseEstimate:
    """Camera pose from 2D-3D correspondences, for a batch of problems of any shape, on any device.

    Args:
        correspondences: image points (..., N, 2) px, object points (..., N, 3) m, weights (..., N, 2) 1/px.
        camera: of any model; intrinsics shared (4,) or one for each problem (..., 4).
        solver: ``"lm"`` refines an initial pose; ``"pnp_net"`` refines that of a network, in a time that does not
            depend on the share of outliers; ``"sqpnp"``, ``"epnp"``, ``"iterative"``, ``"ransac"``,
            ``"magsac"`` and ``"poselib"`` return theirs unrefined.
        init: for ``"lm"``: a pose (..., 3, 3), (..., 3) of any accuracy, or the name of one of the other solvers.
            None draws samples of three points inside the kernel, which is faster than any of these and as robust.
        loss: robust loss; None is ``GemanMcClure()`` from eight points on and ``Gaussian()`` below.
        differentiate: ``"none"`` returns a pose without gradients; ``"implicit"`` one whose gradients with respect
            to image points, object points, weights and camera are exact at the solution (implicit function theorem).
        options: of the solver, such as ``max_iterations``.

    Returns:
        The estimate, on the correspondences' device and in their dtype. Bad data never raises: the status says it.

    Raises:
        ValueError: for an unknown name, or shapes, dtypes or devices that do not agree; the message names the field.
    """
    if differentiate not in ("none", "implicit"):
        raise ValueError(f'differentiate: expected "none" or "implicit", got {differentiate!r}')
    if loss is None:
        loss = GemanMcClure() if correspondences.image_points.shape[-2] >= MIN_ROBUST_POINTS else Gaussian()
    if solver == "lm":
        estimate = _solve_lm(correspondences, camera, init, loss, options)
    elif solver == "pnp_net":
        from pnp_ros.solvers import pnp_net

        estimate = pnp_net.solve(correspondences, camera, loss, **options)
        estimate = _degenerate_unless(_determined(correspondences), estimate)
    else:
        pose, found = _initial_pose("solver", solver, correspondences, camera)
        estimate = levenberg_marquardt.evaluate(correspondences, camera, pose, loss)
        status = torch.where(estimate.usable, int(SolveStatus.CONVERGED), estimate.status)
        estimate = _degenerate_unless(found, dataclasses.replace(estimate, status=status.to(torch.int8)))
    if differentiate == "implicit":
        from pnp_ros.solvers.bpnp import implicit_pose

        pose = implicit_pose(correspondences, camera, estimate, loss)
        return dataclasses.replace(estimate, pose=pose)
    return estimate


def _solve_lm(
    correspondences: Correspondences,
    camera: Camera,
    init: Pose | str | None,
    loss: RobustLoss,
    options: dict[str, Any],
) -> PoseEstimate:
    if init is None or isinstance(init, Pose):
        return levenberg_marquardt.refine(correspondences, camera, init, loss, **options)
    pose, found = _initial_pose("init", init, correspondences, camera)
    estimate = levenberg_marquardt.refine(correspondences, camera, pose, loss, anneal=False, **options)
    return _degenerate_unless(found, estimate)


def _initial_pose(field: str, name: str, correspondences: Correspondences, camera: Camera) -> tuple[Pose, torch.Tensor]:
    if name not in classical.METHODS:
        raise ValueError(f"{field}: expected one of {', '.join(classical.METHODS)} or a Pose, got {name!r}")
    pose, found = classical.estimate(name, correspondences, camera)
    return pose, found & _determined(correspondences)


def _determined(correspondences: Correspondences) -> torch.Tensor:
    """(...) whether four different points have a weight, and not all are on a line; three have up to four poses."""
    points = correspondences.object_points.nan_to_num(0.0, 0.0, 0.0).double()
    used = (correspondences.weights != 0).any(-1)
    batch = torch.broadcast_shapes(points.shape[:-1], used.shape)
    points, used = points.expand(*batch, 3), used.expand(batch)
    if batch[-1] < 4:
        return used.new_zeros(batch[:-1])
    others = used
    for _ in range(3):
        index = others.to(torch.int8).argmax(-1, keepdim=True)[..., None]
        point = points.gather(-2, index.expand(*index.shape[:-1], 3))
        others = others & (points != point).any(-1)
    mean = (points * used[..., None]).sum(-2, keepdim=True) / used.sum(-1)[..., None, None].clamp_min(1)
    offsets = (points - mean) * used[..., None]
    squares = torch.linalg.eigvalsh(offsets.mT @ offsets)
    return others.any(-1) & (squares[..., 1] > ON_A_LINE**2 * squares[..., 2])


def _degenerate_unless(found: torch.Tensor, estimate: PoseEstimate) -> PoseEstimate:
    """The estimate marked degenerate where a pose was not ``found``, unless the input says why."""
    bad = ~found & (estimate.status != int(SolveStatus.NOT_FINITE))
    status = torch.where(bad, int(SolveStatus.DEGENERATE), estimate.status).to(torch.int8)
    unknown = UNKNOWN_VARIANCE * torch.eye(6).to(estimate.covariance)
    covariance = torch.where(bad[..., None, None], unknown, estimate.covariance)
    return dataclasses.replace(estimate, covariance=covariance, status=status)
