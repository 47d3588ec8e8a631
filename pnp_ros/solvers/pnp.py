"""The one entry of the solvers: correspondences and a camera in, a pose with covariance and status out."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.solvers import classical, levenberg_marquardt
from pnp_ros.solvers.robust_loss import Gaussian, GemanMcClure, RobustLoss
from pnp_ros.types import Correspondences, Pose, PoseEstimate, SolveStatus

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
    return classical.estimate(name, correspondences, camera)


def _degenerate_unless(found: torch.Tensor, estimate: PoseEstimate) -> PoseEstimate:
    """The estimate marked degenerate where its initial pose was not found, unless the input says why."""
    bad = ~found & (estimate.status != int(SolveStatus.NOT_FINITE))
    status = torch.where(bad, int(SolveStatus.DEGENERATE), estimate.status).to(torch.int8)
    return dataclasses.replace(estimate, status=status)
