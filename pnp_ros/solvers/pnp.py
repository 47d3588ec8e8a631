"""The one entry of the solvers: correspondences and a camera in, a pose with covariance and status out."""

from __future__ import annotations

import dataclasses
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry.covariance import UNKNOWN_VARIANCE
from pnp_ros.solvers import levenberg_marquardt
from pnp_ros.solvers.bpnp import Implicit
from pnp_ros.solvers.levenberg_marquardt import LevenbergMarquardt
from pnp_ros.solvers.noise_scale import ROUNDS, freedom_factor, noise_scale
from pnp_ros.solvers.robust_loss import Gaussian, GemanMcClure, RobustLoss
from pnp_ros.solvers.search import Guide
from pnp_ros.types import Correspondences, Pose, PoseEstimate, SolveStatus

ON_A_LINE = 1e-5  # how thick a line is, for its length
FEW_TRUSTED = 1 / 8  # of the points are inliers, by a guide
TRUSTED_SAMPLES = 1000  # of these points, which are mostly right
MIN_ROBUST_POINTS = 5  # below, outliers cannot be told from inliers and the default loss is Gaussian

_LEVENBERG_MARQUARDT = LevenbergMarquardt()
_ROBUST, _GAUSSIAN = GemanMcClure(), Gaussian()


@runtime_checkable
class PoseFinder(Protocol):
    """What finds initial poses: :class:`~pnp_ros.solvers.classical.Classical`, PnP-Net, or one's own."""

    def initial_pose(self, correspondences: Correspondences, camera: Camera) -> Pose:
        """Poses (...), the identity where none was found; never raises for bad data."""


def solve_pnp(
    correspondences: Correspondences,
    camera: Camera,
    *,
    solver: LevenbergMarquardt = _LEVENBERG_MARQUARDT,
    init: Pose | PoseFinder | Guide | None = None,
    prior: PoseEstimate | None = None,
    loss: RobustLoss | None = None,
    noise: Literal["given", "estimated"] = "given",
    gradient: Implicit | None = None,
) -> PoseEstimate:
    """Camera pose from 2D-3D correspondences, for a batch of problems of any shape, on any device.

    Args:
        correspondences: image points (..., N, 2) px, object points (..., N, 3) m, weights 1/px per axis
            (..., N, 2), or 2x2 square-root information (..., N, 2, 2).
        camera: of any model; intrinsics shared (4,) or one for each problem (..., 4). It follows the
            correspondences' dtype and device.
        solver: how a pose is refined; ``LevenbergMarquardt(max_iterations=0)`` judges an initial pose as it is.
        init: a pose (..., 3, 3), (..., 3) of any accuracy, or what finds one, such as ``Classical("sqpnp")`` or
            one's own; or ``PnPNet()`` or ``Search(likelihood)``, which guide the search. None draws samples of three
            points inside the kernel, which is faster than any finder and as robust.
        prior: what is known of the pose beforehand, such as a motion model's prediction: its ``pose`` and
            ``covariance``, whose residual ``local(prior.pose, pose)`` joins the points'. Fewer points then suffice,
            down to none. A variance may be zero (known exactly) or infinite (not known). Without ``init`` the solve
            starts there. Points that do not agree on a pose that it expects are ``UNEXPLAINED`` (or, behind the camera,
            ``BEHIND_CAMERA``): pose and covariance then are the prior's own.
        loss: robust loss; None is ``GemanMcClure()`` from five points on and ``Gaussian()`` below.
        noise: ``"given"`` takes the weights' unit as it is; ``"estimated"`` only their ratios: one scale for each
            problem comes from the residuals and enters covariance and tests (:mod:`pnp_ros.solvers.noise_scale`).
            Gradients then hold for that scale.
        gradient: None returns a pose without gradients; ``Implicit()`` one whose gradients with respect to image
            points, object points, weights and camera are exact at the solution (implicit function theorem).

    Returns:
        The estimate, on the correspondences' device and in their dtype. Bad data never raises: the status says it.

    Raises:
        TypeError: for an argument of another type; the message names it and what is expected.
        ValueError: for shapes, dtypes or devices that do not agree; the message names the field.

    >>> corners = [(x, y, z) for x in (0, 0.2) for y in (0, 0.1) for z in (0, 0.05)]  # of a box, metres
    >>> seen = [(320, 240), (311, 226), (308, 332), (300, 314), (507, 253), (491, 239), (490, 342), (475, 324)]
    >>> camera = Camera.pinhole(1000, 1000, 320, 240, width=640, height=480)
    >>> found = solve_pnp(Correspondences.from_sigma(seen, corners, sigma=0.5), camera)
    >>> bool(found.usable), round(float(found.pose.translation[2]), 2)
    (True, 1.0)
    """
    _check_types(correspondences, camera, solver, init, prior, loss, gradient)
    if noise not in ("given", "estimated"):
        raise ValueError(f'noise: expected "given" or "estimated", got {noise!r}')
    if loss is None:
        loss = _ROBUST if correspondences.image_points.shape[-2] >= MIN_ROBUST_POINTS else _GAUSSIAN
    if init is None and prior is not None:
        like = correspondences.image_points
        init = Pose(prior.pose.rotation.detach().to(like), prior.pose.translation.detach().to(like))
    if init is None or isinstance(init, Pose):
        estimate = levenberg_marquardt.refine(correspondences, camera, init, loss, solver, prior=prior)
    elif isinstance(init, Guide):
        trust = init.likelihood_of(correspondences, camera)
        start = None if trust is None else _trusted_pose(correspondences, camera, trust, loss, solver, prior)
        estimate = levenberg_marquardt.refine(
            correspondences, camera, start, loss, solver, anneal=False, prior=prior, likelihood=trust
        )
    else:
        start = init.initial_pose(correspondences, camera)
        estimate = levenberg_marquardt.refine(correspondences, camera, start, loss, solver, anneal=False, prior=prior)
        if prior is None:
            estimate = _degenerate_unless(_determined(correspondences), estimate)
    if noise == "estimated":
        correspondences, estimate = _with_noise(correspondences, camera, estimate, loss, solver, prior)
    if prior is not None:
        estimate = _or_prior(estimate, prior)
    if gradient is not None:
        return gradient.attach(correspondences, camera, estimate, loss, prior)
    return estimate


def _trusted_pose(
    correspondences: Correspondences,
    camera: Camera,
    trust: torch.Tensor,
    loss: RobustLoss,
    solver: LevenbergMarquardt,
    prior: PoseEstimate | None,
) -> Pose | None:
    """The pose of the points that a guide trusts, not judged; None unless it trusts few: samples find it as soon.

    Of few right points among a crowd, samples of all points mostly fit the crowd, and better. A batch is of one kind:
    the median of its problems decides.
    """
    points = correspondences.image_points.shape[-2]
    if points < 4 or trust.shape[-1] != points:
        return None
    if (
        trust.device.type == "cpu" and float(trust.sum(-1).median()) > FEW_TRUSTED * points
    ):  # elsewhere looking would wait
        return None
    few = dataclasses.replace(solver, samples=min(solver.samples, TRUSTED_SAMPLES))
    best = trust > 0.5 * trust.amax(-1, keepdim=True)
    trusted = correspondences.scaled(best.to(correspondences.weights))
    return levenberg_marquardt.refine(trusted, camera, None, loss, few, accept=False, prior=prior).pose


def _or_prior(estimate: PoseEstimate, prior: PoseEstimate) -> PoseEstimate:
    """The estimate, and where its points do not agree on a pose, the prior without them; the status stays."""
    refused = (estimate.status == int(SolveStatus.UNEXPLAINED)) | (estimate.status == int(SolveStatus.BEHIND_CAMERA))
    like, m1, m2 = estimate.pose.translation, refused[..., None], refused[..., None, None]
    return dataclasses.replace(
        estimate,
        pose=Pose(
            torch.where(m2, prior.pose.rotation.detach().to(like), estimate.pose.rotation),
            torch.where(m1, prior.pose.translation.detach().to(like), estimate.pose.translation),
        ),
        covariance=torch.where(
            m2, prior.covariance.detach().to(like).nan_to_num(posinf=UNKNOWN_VARIANCE), estimate.covariance
        ),
        inlier_weights=torch.where(m1, 0.0, estimate.inlier_weights),
    )


def _with_noise(
    correspondences: Correspondences,
    camera: Camera,
    estimate: PoseEstimate,
    loss: RobustLoss,
    solver: LevenbergMarquardt,
    prior: PoseEstimate | None,
) -> tuple[Correspondences, PoseEstimate]:
    """The correspondences with weights of the residuals' own scale, and the estimate from them."""
    scaled = correspondences
    for left in reversed(range(ROUNDS)):
        scale = noise_scale(correspondences, camera, estimate, loss)
        scaled = correspondences.scaled(scale.reciprocal()[..., None])
        estimate = levenberg_marquardt.refine(
            scaled, camera, estimate.pose, loss, solver, anneal=False, accept=left == 0, prior=prior
        )
    if prior is None:
        factor = torch.where(estimate.usable, freedom_factor(correspondences, estimate), 1.0)
        estimate = dataclasses.replace(estimate, covariance=factor[..., None, None] * estimate.covariance)
    return scaled, estimate


def _check_types(
    correspondences: object,
    camera: object,
    solver: object,
    init: object,
    prior: object,
    loss: object,
    gradient: object,
) -> None:
    if not isinstance(correspondences, Correspondences):
        raise TypeError(f"correspondences: expected Correspondences, got {_kind(correspondences)}")
    if not isinstance(camera, Camera):
        how = "Camera.pinhole(fx, fy, cx, cy, width, height) makes one"
        raise TypeError(f"camera: expected a Camera, got {_kind(camera)}; {how}")
    if not isinstance(solver, LevenbergMarquardt):
        raise TypeError(f"solver: expected LevenbergMarquardt(...), got {_kind(solver)}")
    if not (init is None or isinstance(init, (Pose, PoseFinder, Guide))):  # a union would be made each time
        raise TypeError(f'init: expected a Pose, a finder such as Classical("sqpnp"), or None, got {_kind(init)}')
    if not (prior is None or isinstance(prior, PoseEstimate)):
        how = "PoseEstimate.of(pose, covariance) makes one"
        raise TypeError(f"prior: expected a PoseEstimate or None, got {_kind(prior)}; {how}")
    if not (loss is None or isinstance(loss, RobustLoss)):
        raise TypeError(f"loss: expected a loss of robust_loss, such as Cauchy(), or None, got {_kind(loss)}")
    if not (gradient is None or isinstance(gradient, Implicit)):
        raise TypeError(f"gradient: expected Implicit() or None, got {_kind(gradient)}")


def _kind(value: object) -> str:
    return repr(value) if isinstance(value, str) else type(value).__name__


def _determined(correspondences: Correspondences) -> torch.Tensor:
    """(...) whether four different points have a weight, and not all are on a line; three have up to four poses."""
    points = correspondences.object_points.nan_to_num(0.0, 0.0, 0.0).double()
    used = correspondences.has_weight
    batch = np.broadcast_shapes(points.shape[:-1], used.shape)  # torch's own draws in sympy: half a second
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
