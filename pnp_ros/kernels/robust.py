"""Robust loss functions of a squared whitened residual, in torch.

``s`` is the squared norm of one point's residual in standard deviations, ``c`` the loss's scale in the same unit. The
cost of a pose is ``1/2 sum rho(s)``; ``weight = d rho / d s`` is the weight of iteratively reweighted least squares
(1 for an inlier, towards 0 for an outlier), ``weight_slope`` its derivative.
"""

from __future__ import annotations

import enum
import functools
import math

import torch
from torch import Tensor


class RobustKind(enum.IntEnum):
    """The loss functions; the numbers are those of the kernels."""

    GAUSSIAN = 0
    HUBER = 1
    CAUCHY = 2
    GEMAN_MCCLURE = 3

    @property
    def redescending(self) -> bool:
        """Whether the influence of a far outlier vanishes."""
        return self in (RobustKind.CAUCHY, RobustKind.GEMAN_MCCLURE)


def rho(kind: RobustKind, s: Tensor, c: Tensor | float) -> Tensor:
    """Loss of the squared residual ``s`` (...), with ``rho(s) ~ s`` near zero."""
    c2 = c * c
    if kind == RobustKind.HUBER:
        return torch.where(s <= c2, s, 2.0 * c * s.clamp_min(1e-30).sqrt() - c2)
    if kind == RobustKind.CAUCHY:
        return c2 * torch.log1p(s / c2)
    if kind == RobustKind.GEMAN_MCCLURE:
        return s / (1.0 + s / c2)
    return s


def weight(kind: RobustKind, s: Tensor, c: Tensor | float) -> Tensor:
    """``d rho / d s``, from 1 (inlier) to 0 (outlier)."""
    c2 = c * c
    if kind == RobustKind.HUBER:
        return torch.where(s <= c2, torch.ones_like(s), c * s.clamp_min(1e-30).rsqrt())
    if kind == RobustKind.CAUCHY:
        return 1.0 / (1.0 + s / c2)
    if kind == RobustKind.GEMAN_MCCLURE:
        return (1.0 + s / c2).square().reciprocal()
    return torch.ones_like(s)


def weight_slope(kind: RobustKind, s: Tensor, c: Tensor | float) -> Tensor:
    """``d^2 rho / d s^2`` (zero or negative): what the Hessian of the robust cost has beyond Gauss-Newton's."""
    c2 = c * c
    if kind == RobustKind.HUBER:
        return torch.where(s <= c2, torch.zeros_like(s), -0.5 * c * s.clamp_min(1e-30).pow(-1.5))
    if kind == RobustKind.CAUCHY:
        return -1.0 / (c2 * (1.0 + s / c2).square())
    if kind == RobustKind.GEMAN_MCCLURE:
        return -2.0 / (c2 * (1.0 + s / c2).pow(3))
    return torch.zeros_like(s)


@functools.cache
def information_scale(kind: RobustKind, c: float) -> float:
    """What the reweighted Hessian is multiplied with to be the information of the estimate.

    Under Gaussian noise an M-estimator's covariance is ``A / B^2 (sum J^T J)^-1`` with ``A = E[weight^2 s] / 2`` and
    ``B = E[weight + weight_slope s]`` (Huber, "Robust Statistics", 1981, section 6.3), while the reweighted Hessian
    is ``E[weight] sum J^T J``; ``s`` has a chi-square distribution with two degrees of freedom. Outliers enter
    neither, as far as their weights vanish.
    """
    if kind == RobustKind.GAUSSIAN:
        return 1.0
    # Midpoints of equal probability: s = -2 log(1 - u) inverts the distribution.
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    s = -2.0 * torch.log1p(-u)
    w = weight(kind, s, c)
    a = (w.square() * s).mean().item() / 2.0
    b = (w + weight_slope(kind, s, c) * s).mean().item()
    scale = b * b / (a * w.mean().item())
    return scale if math.isfinite(scale) else 1.0
