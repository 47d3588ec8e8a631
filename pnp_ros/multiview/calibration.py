"""Camera calibration from images of a known flat board: intrinsics, distortion and their uncertainties.

Zhang, "A flexible new technique for camera calibration" (PAMI 2000), with another start: instead of homographies,
which a strong lens bends, a sweep over focal lengths, each with the poses that :func:`solve_pnp` finds. Then all
parameters and poses are refined together by Levenberg-Marquardt on the reprojection error, poses eliminated by the
Schur complement. The covariance is the inverse normal matrix scaled by the residual variance. Views that leave the
focal length open are refused: any number would fit, and look like a calibration. Coefficients may be open: those of the
rational lens often are, while the lens as a function of the pixel is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import se3, so3
from pnp_ros.multiview import schur
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Gaussian
from pnp_ros.types import Correspondences, Pose, SolveStatus
from pnp_ros.types.tensors import Values, as_tensor

_INTRINSICS = ("fx", "fy", "cx", "cy")
# ROS's names of distortion models: lens, and the places of the free coefficients in the camera's distortion
LENSES: dict[str, tuple[CameraModel, tuple[str, ...]]] = {
    "plumb_bob": (CameraModel.BROWN_CONRADY, ("k1", "k2", "p1", "p2", "k3")),
    "rational_polynomial": (CameraModel.BROWN_CONRADY, ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")),
    "equidistant": (CameraModel.KANNALA_BRANDT, ("k1", "k2", "k3", "k4")),
}
_FOCAL_LENGTHS = 0.25 * 1.35 ** torch.arange(12, dtype=torch.float64)  # 0.25 to 6.8 image widths
# Numerator and denominator of the rational lens share factors that no image tells: the views leave a denominator of
# one nearly as it is unless they speak against it. Published ones have coefficients up to 10, and are above 0.3.
DENOMINATOR = ("k4", "k5", "k6")
_DENOMINATOR_SIGMA = 10.0
_LEAST_DENOMINATOR = 0.1  # in the image; what is less is a pole between the corners
_FINEST = 0.01  # px, no corner is known better
_NEGLIGIBLE = 1e-4  # nats, 1.4 % of a standard deviation
_MAX_ITERATIONS = 1000
_MIN_PIVOT = 1e-8
_LARGEST_FOCAL_SIGMA = 0.05  # of the focal length
_CURE = "tilt the board by 20 to 45 degrees about both axes, and fill the image"


class CalibrationError(ValueError):
    """The images do not determine the camera; the message says why."""


@dataclass(frozen=True, eq=False, repr=False)
class Calibration(Values):
    """A calibrated camera and how well it is known.

    Args:
        camera: float64.
        distortion_model: ROS's name.
        names: (P) of the estimated parameters: fx, fy, cx, cy (px), then distortion coefficients, without fixed ones.
        values: (P).
        covariance: (P, P), from the spread of the residuals; linear about the values, also where they form a curve, as
            the coefficients of the rational lens do.
        poses: (V) ``T_camera_board`` of each view.
        residuals: (V, N, 2) px, projected minus measured.
        converged: whether the refinement did.
    """

    camera: Camera
    distortion_model: str
    names: tuple[str, ...]
    values: Tensor
    covariance: Tensor
    poses: Pose
    residuals: Tensor
    converged: bool

    @property
    def sigmas(self) -> Tensor:
        """(P) standard deviations of the values."""
        return self.covariance.diagonal().sqrt()

    @property
    def rms(self) -> float:
        """Root mean square distance (px) of projected and measured corners, as OpenCV counts it."""
        return float(self.residuals.square().sum(-1).mean().sqrt())

    @property
    def rms_by_view(self) -> Tensor:
        """(V) px."""
        return self.residuals.square().sum(-1).mean(-1).sqrt()


def board_points(columns: int, rows: int, square: float) -> Tensor:
    """Inner corners (rows * columns, 3) of a chessboard in its plane z = 0, row by row; ``square`` in metres."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return square * torch.stack([x, y, torch.zeros_like(x)], dim=-1).reshape(-1, 3).double()


def detect_board(image: NDArray[np.uint8], columns: int, rows: int) -> Tensor | None:
    """Inner corners (rows * columns, 2) px of the chessboard in a grey or RGB image; None if it is not seen whole.

    Board detector of Duda and Frese, "Accurate detection and localization of checkerboard corners" (BMVC 2018); where
    it finds nothing, OpenCV's older one with its sub-pixel refinement.
    """
    import cv2

    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    size = (columns, rows)
    found, corners = cv2.findChessboardCornersSB(grey, size, flags=cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_ACCURACY)
    if not found:
        found, corners = cv2.findChessboardCorners(grey, size)
        if not found:
            return None
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 40, 1e-3)
        corners = cv2.cornerSubPix(grey, corners, (5, 5), (-1, -1), criteria)
    return torch.from_numpy(corners.reshape(-1, 2)).double()


def calibrate(
    image_points: ArrayLike,
    object_points: ArrayLike,
    width: int,
    height: int,
    distortion_model: str = "plumb_bob",
    fixed: Sequence[str] = (),
) -> Calibration:
    """The camera that saw a board in several views.

    Args:
        image_points: (V, N, 2) px.
        object_points: (N, 3) m, points of the board; need not be flat.
        width: of the images, pixels.
        height: of the images, pixels.
        distortion_model: ``plumb_bob`` (5 coefficients), ``rational_polynomial`` (8) or ``equidistant`` (4).
        fixed: names of coefficients to hold at zero, as k3, and of cx, cy to hold in the middle of the image.

    Raises:
        CalibrationError: if the views are too few or do not determine the camera: the focal length is uncertain by more
            than 5 %, or the refinement does not settle.
        ValueError: if an argument does not fit; the message names it.
    """
    if distortion_model not in LENSES:
        raise ValueError(f"distortion_model: expected one of {', '.join(LENSES)}, got {distortion_model!r}")
    image_points, object_points = (
        as_tensor(name, values, torch.zeros((), dtype=torch.float64)).detach().double()
        for name, values in (("image_points", image_points), ("object_points", object_points))
    )
    views, count = image_points.shape[:2]
    if image_points.shape != (views, count, 2) or object_points.shape != (count, 3):
        shapes = f"{tuple(image_points.shape)} and {tuple(object_points.shape)}"
        raise ValueError(f"image_points, object_points: expected shapes (V, N, 2) and (N, 3), got {shapes}")
    model, coefficients = LENSES[distortion_model]
    for name in fixed:
        if name not in ("cx", "cy", *coefficients):
            raise ValueError(f"fixed: expected of cx, cy, {', '.join(coefficients)}, got {name!r}")
    lens = _Lens(model, coefficients, width, height, tuple(fixed))
    freedom = 2 * views * count - lens.size - 6 * views
    if views < 3 or freedom <= 0:
        raise CalibrationError(f"image_points: expected at least 3 views of the board, got {views} of {count} points")
    start = _best_focal_length(image_points, object_points, lens)
    state, equations, converged = schur.minimise(
        start,
        _linearise(image_points, object_points, lens, freedom),
        lambda s, first, second: s.moved(first[0], second),
        _MAX_ITERATIONS,
        _NEGLIGIBLE,
    )
    camera = lens.camera(lens.full(state.parameters))
    residuals = camera.project(state.poses.transform(object_points)) - image_points
    covariance = _inverse(equations.reduced(torch.linalg.inv(equations.second)))
    _check(state.parameters, covariance, converged)
    return Calibration(
        camera, distortion_model, lens.names, state.parameters, covariance, state.poses, residuals, converged
    )


@dataclass(frozen=True)
class _Lens:
    """A lens model with the names of its coefficients, the image's size, and the names of what is held."""

    model: CameraModel
    coefficients: tuple[str, ...]
    width: int
    height: int
    fixed: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the free parameters (P)."""
        return tuple(name for name in _INTRINSICS + self.coefficients if name not in self.fixed)

    @property
    def size(self) -> int:
        return len(self.names)

    @property
    def is_rational(self) -> bool:
        """Whether it has a denominator."""
        return self.model is CameraModel.BROWN_CONRADY and DENOMINATOR[0] in self.coefficients

    @property
    def prior_precision(self) -> Tensor:
        """(P) inverse variances of the free parameters about zero, as far as they are known beforehand."""
        known = DENOMINATOR if self.is_rational else ()
        return torch.tensor([_DENOMINATOR_SIGMA**-2.0 if name in known else 0.0 for name in self.names]).double()

    def full(self, free: Tensor) -> Tensor:
        """All parameters (..., Q), of free ones (..., P): coefficients held at zero, the centre in the middle."""
        held = {"cx": (self.width - 1) / 2.0, "cy": (self.height - 1) / 2.0}
        columns = dict(zip(self.names, free.unbind(-1)))
        every = _INTRINSICS + self.coefficients
        return torch.stack([columns.get(n, torch.full_like(free[..., 0], held.get(n, 0.0))) for n in every], dim=-1)

    def camera(self, parameters: Tensor) -> Camera:
        """The camera of all parameters (..., Q)."""
        padding = (14 if self.model is CameraModel.BROWN_CONRADY else 4) - len(self.coefficients)
        distortion = torch.nn.functional.pad(parameters[..., 4:], (0, padding))
        return Camera(self.model, parameters[..., :4], distortion, self.width, self.height)

    def has_pole(self, parameters: Tensor, points: Tensor) -> bool:
        """Whether all parameters (Q) have a pole between the centre and the image's corners or the points (..., 3)."""
        if not self.is_rational:
            return False
        farthest = (points[..., :2] / points[..., 2:]).square().sum(-1).max()
        corner = 0.25 * (self.width**2 + self.height**2) / parameters[:2].min().square()
        squared = torch.linspace(0.0, 1.0, 65).to(parameters) * torch.maximum(farthest, corner)
        k4, k5, k6 = parameters[-3:]
        denominator = 1.0 + squared * (k4 + squared * (k5 + squared * k6))
        return bool((denominator < _LEAST_DENOMINATOR).any())


@dataclass(frozen=True, eq=False)
class _State:
    parameters: Tensor  # (P)
    poses: Pose  # (V)

    def moved(self, parameters: Tensor, poses: Tensor) -> _State:
        moved = self.parameters + parameters
        focal = torch.maximum(moved[:2], 0.1 * self.parameters[:2])  # a longer step would turn the camera round
        return _State(torch.cat([focal, moved[2:]]), se3.retract(self.poses, poses))


def _linearise(
    image_points: Tensor, object_points: Tensor, lens: _Lens, freedom: int
) -> Callable[[_State], schur.NormalEquations]:
    """Normal equations of all corners, whose noise is what their residuals show; costs are in nats.

    With noise of an unknown variance, residuals whose squares sum to ``S`` have the negative log-likelihood
    ``freedom / 2 log S``. Its derivatives are those with the variance ``S / freedom``.
    """
    precision = lens.prior_precision

    def at(state: _State) -> schur.NormalEquations:
        parameters, points = lens.full(state.parameters), state.poses.transform(object_points)
        turned = points - state.poses.translation[:, None]
        pixels, by_point = lens.camera(parameters).project_with_jacobian(points)
        by_pose = torch.cat([by_point, -by_point @ so3.hat(turned)], dim=-1)
        by_lens = _by_lens(lens, state.parameters, points)
        residual = pixels - image_points
        variance = residual.square().sum() / freedom + _FINEST**2
        weight = variance.reciprocal().expand(residual.shape[:-1])
        pulled = precision * state.parameters
        cost = 0.5 * (freedom * variance.log() + (pulled * state.parameters).sum())
        if lens.has_pole(parameters, points):
            cost = torch.full_like(cost, torch.inf)
        seen = schur.NormalEquations.of(by_lens[None], by_pose[None], residual[None], weight[None], cost)
        return replace(seen, first=seen.first + torch.diag(precision), first_gradient=seen.first_gradient + pulled)

    return at


def _by_lens(lens: _Lens, parameters: Tensor, points: Tensor) -> Tensor:
    """Derivatives (V, N, 2, P) of the projected points (V, N, 3) with respect to the free parameters (P).

    With parameters of its own for each point, one pass backwards serves all of them.
    """
    with torch.inference_mode(False), torch.enable_grad():
        copies = parameters.clone().expand(*points.shape[:-1], -1).clone().requires_grad_()
        pixels = lens.camera(lens.full(copies)).project(points.clone()[..., None, :]).flatten(0, -2)
        rows = [torch.autograd.grad(row.sum(), copies, retain_graph=True)[0] for row in pixels.unbind(-1)]
        return torch.stack(rows, dim=-2)


def _best_focal_length(image_points: Tensor, object_points: Tensor, lens: _Lens) -> _State:
    """Undistorted camera with the focal length, of a sweep, at which the views' poses fit best.

    A start: the sweep is in single precision, for which there is a kernel.
    """
    views = len(image_points)
    focal = lens.width * _FOCAL_LENGTHS
    centre = torch.tensor([(lens.width - 1) / 2.0, (lens.height - 1) / 2.0], dtype=torch.float64)
    parameters = torch.cat([focal[:, None].expand(-1, 2), centre.expand(len(focal), 2)], dim=-1)
    parameters = torch.nn.functional.pad(parameters, (0, len(lens.coefficients)))
    camera = lens.camera(parameters[:, None].expand(-1, views, -1).float())
    pixels = image_points.expand(len(focal), -1, -1, -1).float()
    problems = Correspondences.from_sigma(pixels, object_points.expand(*pixels.shape[:-1], 3).float())
    estimate = solve_pnp(problems, camera, loss=Gaussian())
    # without distortion the points agree on no pose to a pixel: UNEXPLAINED is what most of these are, and a start
    posed = estimate.usable | (estimate.status == SolveStatus.UNEXPLAINED)
    cost = torch.where(posed, estimate.cost, torch.full_like(estimate.cost, torch.inf)).sum(-1)
    best = int(cost.argmin())
    if not bool(cost[best].isfinite()):
        raise CalibrationError("image_points: expected views of a board, but some view has no pose at any focal length")
    free = [(_INTRINSICS + lens.coefficients).index(name) for name in lens.names]
    found = estimate.pose[best]
    poses = Pose.from_quat_wxyz(found.quat_wxyz.double(), found.translation.double())  # rotations to all digits
    return _State(parameters[best, free], poses)


def _check(parameters: Tensor, covariance: Tensor, converged: bool) -> None:
    sigma, value = float(covariance[0, 0].clamp(min=0.0).sqrt()), float(parameters[0])
    if not sigma <= _LARGEST_FOCAL_SIGMA * value:
        raise CalibrationError(
            f"image_points: the views do not determine the focal length ({value:.0f} +- {sigma:.0f} px): seen from"
            f" nearly straight ahead, a board tells it no more than its distance; {_CURE}"
        )
    if not converged:
        raise CalibrationError(
            f"image_points: the refinement does not settle in {_MAX_ITERATIONS} steps; hold coefficients (fixed),"
            f" or {_CURE}"
        )


def _inverse(information: Tensor) -> Tensor:
    """Inverse (P, P) of the parameters' information."""
    scale = information.diagonal().clamp(min=1e-300).rsqrt()
    factor, info = torch.linalg.cholesky_ex(scale[:, None] * information * scale)
    if int(info) != 0 or float(factor.diagonal().min()) < _MIN_PIVOT:
        raise CalibrationError(f"image_points: the views do not determine the camera; {_CURE}")
    return scale[:, None] * torch.cholesky_inverse(factor) * scale
