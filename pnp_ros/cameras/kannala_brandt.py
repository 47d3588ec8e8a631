"""The Kannala-Brandt fisheye: ROS's ``equidistant``, OpenCV's ``fisheye``.

A ray at the angle theta from the optical axis meets the plane at the radius
``theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8)``, up to and beyond 90 degrees. Kannala and Brandt, "A
generic camera model and calibration method for conventional, wide-angle, and fish-eye lenses" (2006), equation 6.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

NUM_COEFFICIENTS = 4
_MAX_ITERATIONS = 60
_TINY = 1e-9
_SAME = 1e-5  # on the plane of focal length one: nearer than that is the same radius


def project(points: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor]:
    """Points (..., N, 3) on the distorted plane (..., N, 2), and the Jacobian (..., N, 2, 3)."""
    xy, z = points[..., :2], points[..., 2]
    r2 = xy.square().sum(-1)
    axial = r2 <= (torch.finfo(z.dtype).eps * z).square()  # on the axis the direction in the plane is not defined
    z = torch.where(axial & (z.abs() < _TINY), torch.full_like(z, _TINY), z)
    r = torch.where(axial, torch.ones_like(r2), r2).sqrt()
    theta = torch.atan2(torch.where(axial, torch.zeros_like(r), r), z)
    radius, slope = _polynomial(theta, distortion)

    along_x = torch.tensor([1.0, 0.0], dtype=xy.dtype, device=xy.device)
    direction = torch.where(axial[..., None], along_x, xy / r[..., None])
    behind = axial & (z < 0)
    stretch = torch.where(axial, 1.0 / torch.where(axial, z.abs(), r), radius / r)
    plane = torch.where(behind[..., None], radius[..., None] * direction, stretch[..., None] * xy)

    inverse_range2 = 1.0 / (r2 + z * z)
    radial = slope * z * inverse_range2
    outer = direction[..., :, None] * direction[..., None, :]
    eye = torch.eye(2, dtype=xy.dtype, device=xy.device)
    by_xy = stretch[..., None, None] * (eye - outer) + radial[..., None, None] * outer
    by_z = -(slope * inverse_range2)[..., None] * torch.where(axial[..., None], xy, r[..., None] * direction)
    return plane, torch.cat([by_xy, by_z[..., None]], dim=-1)


def unproject(plane: Tensor, distortion: Tensor) -> Tensor:
    """Unit bearings (..., N, 3) of points (..., N, 2) of the distorted plane.

    NaN for radii beyond the polynomial's first turning point, which no ray reaches. Gradients are those of the
    implicit function.
    """
    radius2 = plane.square().sum(-1)
    central = radius2 < _TINY**2
    radius = torch.where(central, torch.ones_like(radius2), radius2).sqrt()
    with torch.no_grad():
        theta = _invert(radius, distortion)
        reached = (_polynomial(theta, distortion)[0] - radius).abs() <= _SAME * (1.0 + radius)
    if torch.is_grad_enabled():
        value, slope = _polynomial(theta, distortion)
        step = (radius - value) / slope.detach().clamp(min=_TINY)
        theta = theta + (step - step.detach())
    stretch = torch.where(central, torch.ones_like(radius), theta.sin() / radius)
    cosine = torch.where(central, torch.ones_like(radius), theta.cos())
    bearings = torch.cat([stretch[..., None] * plane, cosine[..., None]], dim=-1)
    return bearings.where((reached | central)[..., None], torch.nan)


def _polynomial(theta: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor]:
    """Radius and its derivative at the angles theta (..., N)."""
    k1, k2, k3, k4 = distortion[..., None, :].unbind(-1)
    t = theta * theta
    radius = theta * (1 + t * (k1 + t * (k2 + t * (k3 + t * k4))))
    return radius, 1 + t * (3 * k1 + t * (5 * k2 + t * (7 * k3 + t * 9 * k4)))


def _turning_point(distortion: Tensor) -> Tensor:
    """The angle (..., 1) up to which the radius grows, at most pi."""
    angles = torch.linspace(0.0, math.pi, 257, dtype=distortion.dtype, device=distortion.device)
    _, slope = _polynomial(angles.expand(*distortion.shape[:-1], -1), distortion)
    growing = (slope > 0).to(torch.int64).cumprod(-1).sum(-1, keepdim=True) - 1
    return angles[growing.clamp(min=0)]


def _invert(radius: Tensor, distortion: Tensor) -> Tensor:
    """The angle of each radius: Newton's method, bisecting where it would leave the bracket."""
    high = _turning_point(distortion).expand(np.broadcast_shapes(radius.shape, (*distortion.shape[:-1], 1)))
    low = torch.zeros_like(high)
    theta = torch.minimum(radius.expand_as(high), high)
    for _ in range(_MAX_ITERATIONS):
        value, slope = _polynomial(theta, distortion)
        error = value - radius
        low, high = torch.where(error < 0, theta, low), torch.where(error < 0, high, theta)
        newton = theta - error / slope.clamp(min=_TINY)
        inside = (newton >= low) & (newton <= high)
        following = torch.where(inside, newton, 0.5 * (low + high))
        settled = (following - theta).abs() <= torch.finfo(theta.dtype).eps * (1.0 + theta)
        theta = following
        if settled.all():
            break
    return theta
