"""The Brown-Conrady lens with rational, thin-prism and tilt terms: ROS's ``plumb_bob`` and ``rational_polynomial``.

With ``r^2 = x^2 + y^2`` on the plane z = 1, in OpenCV's order k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4 tx ty::

    radial = (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6)
    x' = x radial + 2 p1 x y + p2 (r^2 + 2 x^2) + s1 r^2 + s2 r^4
    y' = y radial + p1 (r^2 + 2 y^2) + 2 p2 x y + s3 r^2 + s4 r^4

then the plane is tilted by the rotations tx, ty (rad) about x and y and projected back. Brown, "Decentering distortion
of lenses" (1966); the tilt is the Scheimpflug model of OpenCV's ``projectPoints``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pnp_ros.cameras import pinhole

NUM_COEFFICIENTS = 14
_MAX_ITERATIONS = 60
_MIN_DIVISOR = 0.01  # no lens comes near; keeps points far outside of the image finite
_MIN_DETERMINANT = 1e-9
_SAME = 1e-5  # on the plane of focal length one: nearer than that is the same point


def project(points: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor]:
    """Points (..., N, 3) on the distorted plane (..., N, 2), and the Jacobian (..., N, 2, 3)."""
    plane, by_point = pinhole.project(points, distortion)
    distorted, by_plane = distort(plane, distortion)
    return distorted, by_plane @ by_point


def unproject(plane: Tensor, distortion: Tensor) -> Tensor:
    """Unit bearings (..., N, 3) of points (..., N, 2) of the distorted plane; NaN where there is none."""
    points, reached = undistort(plane, distortion)
    return pinhole.unproject(points, distortion).where(reached[..., None], torch.nan)


def distort(plane: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor]:
    """Distorted points (..., N, 2) of the plane z = 1, and the Jacobian (..., N, 2, 2); distortion (..., 14)."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = distortion[..., None, :12].unbind(-1)
    x, y = plane.unbind(-1)
    r2 = x * x + y * y
    denominator = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    denominator = torch.where(denominator.abs() < _MIN_DIVISOR, _MIN_DIVISOR, denominator)
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / denominator
    slope = k1 + r2 * (2 * k2 + 3 * r2 * k3) - radial * (k4 + r2 * (2 * k5 + 3 * r2 * k6))
    slope = 2 * slope / denominator  # d radial / d r2, doubled: d r2 / dx = 2 x
    dx = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2)
    dy = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + r2 * s4)
    prism_x, prism_y = 2 * s1 + 4 * r2 * s2, 2 * s3 + 4 * r2 * s4
    cross = x * y * slope + 2 * p1 * x + 2 * p2 * y  # the part that both off-diagonal entries share
    jacobian = torch.stack(
        [
            torch.stack([radial + x * x * slope + 2 * p1 * y + 6 * p2 * x + prism_x * x, cross + prism_x * y], dim=-1),
            torch.stack([cross + prism_y * x, radial + y * y * slope + 6 * p1 * y + 2 * p2 * x + prism_y * y], dim=-1),
        ],
        dim=-2,
    )
    tilted, by_distorted = _tilt(torch.stack([dx, dy], dim=-1), distortion[..., 12:])
    return tilted, by_distorted @ jacobian


def _tilt(plane: Tensor, angles: Tensor) -> tuple[Tensor, Tensor]:
    """The plane (..., N, 2) seen on a sensor turned by (tx, ty), and the Jacobian (..., N, 2, 2)."""
    (cx, cy), (sx, sy) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    # R = R_y R_x; the homography is [[R22, 0, -R02], [0, R22, -R12], [0, 0, 1]] R
    zero = torch.zeros_like(cx)
    rotation = torch.stack([cy, sy * sx, -sy * cx, zero, cx, sx, sy, -cy * sx, cy * cx], dim=-1).unflatten(-1, (3, 3))
    last = rotation[..., 2, :]
    homography = last[..., 2, None, None] * rotation[..., :2, :] - rotation[..., :2, 2, None] * last[..., None, :]
    top = plane @ homography[..., :2].mT + homography[..., None, :, 2]
    depth = plane @ last[..., :2, None] + last[..., None, 2:]
    front = depth > _MIN_DIVISOR
    depth = torch.where(front, depth, _MIN_DIVISOR)
    tilted = top / depth
    by_depth = torch.where(front, tilted, 0.0)[..., None] * last[..., None, None, :2]
    jacobian = (homography[..., None, :, :2] - by_depth) / depth[..., None]
    return tilted, jacobian


def undistort(plane: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor]:
    """Points (..., N, 2) of the plane z = 1 that :func:`distort` maps to the given ones, and where there are any.

    Newton's method with the analytic Jacobian, each step halved until the residual falls, inside the radius at which
    the polynomial turns back. What lies beyond that fold is no image of any ray: there the flag (..., N) is False and
    the point a finite one of small residual. Gradients are those of the implicit function.
    """
    with torch.no_grad():
        solution, error = _newton(plane, distortion)
        reached = error.squeeze(-1) <= (_SAME * (1.0 + plane.norm(dim=-1))).square()
    if not torch.is_grad_enabled():
        return solution, reached
    distorted, jacobian = distort(solution, distortion)
    step = _solve_2x2(jacobian.detach(), plane - distorted)
    return solution + (step - step.detach()), reached


def turning_radius(distortion: Tensor) -> Tensor:
    """The radius (..., 1) on the plane z = 1 up to which the distorted one grows; infinite where it always does.

    Of the radial terms alone: tangential and prism ones move the fold by little.
    """
    steps = torch.linspace(0.0, math.atan(1.0 / pinhole.MIN_SLOPE), 513, dtype=distortion.dtype)
    radius = steps.tan().to(distortion.device)
    k1, k2, k3, k4, k5, k6 = distortion[..., None, [0, 1, 4, 5, 6, 7]].unbind(-1)
    r2 = radius * radius
    numerator, denominator = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)), 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    # d (r N / D) / dr = (N D + 2 r^2 (N' D - N D')) / D^2, with derivatives by r^2
    by_numerator, by_denominator = k1 + r2 * (2 * k2 + 3 * r2 * k3), k4 + r2 * (2 * k5 + 3 * r2 * k6)
    slope = numerator * denominator + 2 * r2 * (by_numerator * denominator - numerator * by_denominator)
    grows = ((slope > 0) & (denominator > _MIN_DIVISOR)).to(torch.int64).cumprod(-1).sum(-1, keepdim=True)
    return radius[(grows - 1).clamp(min=1)].where(grows < len(radius), torch.inf)


def _newton(target: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor]:
    """The solution (..., N, 2) and its squared residual (..., N, 1)."""
    shape = np.broadcast_shapes(target.shape[:-2], distortion.shape[:-1])
    target = target.expand(*shape, *target.shape[-2:])
    fold = turning_radius(distortion)[..., None]
    solution, step = target, torch.zeros_like(target)
    error = torch.full_like(target[..., :1], torch.inf)
    scale = torch.ones_like(error)
    for _ in range(_MAX_ITERATIONS):
        trial = solution + scale * step
        trial = trial * (fold / trial.norm(dim=-1, keepdim=True).clamp(min=_SAME)).clamp(max=1.0)
        distorted, jacobian = distort(trial, distortion)
        residual = target - distorted
        trial_error = residual.square().sum(-1, keepdim=True)
        better = trial_error < error
        solution, error = torch.where(better, trial, solution), torch.where(better, trial_error, error)
        step = torch.where(better, _solve_2x2(jacobian, residual), step)
        scale = torch.where(better, torch.ones_like(scale), 0.5 * scale)
        if ((scale * step).abs() <= torch.finfo(step.dtype).eps * (1.0 + solution.abs())).all():
            break
    return solution, error


def _solve_2x2(matrix: Tensor, rhs: Tensor) -> Tensor:
    (a, b), (c, d) = matrix[..., 0, :].unbind(-1), matrix[..., 1, :].unbind(-1)
    determinant = a * d - b * c
    singular = determinant.abs() < _MIN_DETERMINANT
    determinant = torch.where(singular, torch.full_like(determinant, _MIN_DETERMINANT), determinant)
    x, y = rhs.unbind(-1)
    return torch.stack([d * x - b * y, a * y - c * x], dim=-1) / determinant[..., None]
