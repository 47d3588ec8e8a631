"""Robust loss functions of a squared whitened residual, in torch.

``s`` is the squared norm of one point's residual in standard deviations, ``c`` the loss's scale in the same unit. The
cost of a pose is ``1/2 sum rho(s)``; ``weight = d rho / d s`` is the weight of iteratively reweighted least squares
(1 for an inlier, towards 0 for an outlier), ``weight_slope`` its derivative.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass

import torch
from torch import Tensor

NUM_PARAMETERS = 6  # of a pose


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


@dataclass(frozen=True)
class Calibration:
    """What turns a reweighted Hessian into the information of the estimate.

    Args:
        information: factor of the Hessian.
        mean_weight: expected weight of an inlier.
        excess: by which share the Hessian grows for each parameter that a residual was spent on.
    """

    information: float
    mean_weight: float
    excess: float


@functools.lru_cache(maxsize=256)
def calibration(kind: RobustKind, c: float, residuals: int = 2) -> Calibration:
    """Calibration of a loss, for Gaussian noise of the inliers with 2 residuals each, or 1 (lines).

    ``s`` is then chi-square with k = 2 or 1 degrees of freedom. An M-estimator's covariance is ``A / B^2 (sum
    J^T J)^-1`` with ``A = E[weight^2 s] / k`` and ``B = E[weight + 2 weight_slope s / k]`` (Huber, "Robust
    Statistics", 1981, section 6.3), while the reweighted Hessian is ``E[weight] sum J^T J``. Outliers enter neither,
    as far as their weights vanish. With few points a fit of p parameters to m residuals shrinks ``s`` by ``1 - p / m``,
    which raises the weights by the share ``p / m (1 - B / E[weight])``.
    """
    if kind == RobustKind.GAUSSIAN:
        return Calibration(1.0, 1.0, 0.0)
    # Midpoints of equal probability, through the inverse of the distribution.
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    s = -2.0 * torch.log1p(-u) if residuals == 2 else torch.special.ndtri(0.5 + 0.5 * u).square()
    w = weight(kind, s, c)
    a = (w.square() * s).mean().item() / residuals
    b = (w + weight_slope(kind, s, c) * s * (2.0 / residuals)).mean().item()
    mean = w.mean().item()
    return Calibration(b * b / (a * mean), mean, 1.0 - b / mean)


@functools.lru_cache(maxsize=256)
def mean_square(kind: RobustKind, c: float, residuals: int) -> float:
    """``E[weight s] / E[weight]`` for Gaussian noise, of points with 2 residuals or 1; 2 or 1 for least squares."""
    if kind == RobustKind.GAUSSIAN:
        return float(residuals)
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    s = -2.0 * torch.log1p(-u) if residuals == 2 else torch.special.ndtri(0.5 + 0.5 * u).square()
    w = weight(kind, s, c)
    return float((w * s).mean() / w.mean())


def covariance_scale(kind: RobustKind, c: float, weight_sum: Tensor, points: Tensor, residuals: Tensor) -> Tensor:
    """What the inverse of the reweighted Hessian is multiplied with.

    Args:
        kind: robust loss.
        c: its scale.
        weight_sum: (...) of all points' robust weights.
        points: (...) number of points with weight.
        residuals: (...) of these, two for each point or, where its weight tells one direction only, one.
    """
    plane, line = calibration(kind, c), calibration(kind, c, 1)
    share = (2.0 * points - residuals) / residuals.clamp_min(1.0)  # of the residuals that are lines'
    mean_weight = plane.mean_weight + share * (line.mean_weight - plane.mean_weight)
    excess = plane.excess + share * (line.excess - plane.excess)
    information = plane.information + share * (line.information - plane.information)
    inliers = (weight_sum / mean_weight) * residuals / points.clamp_min(1.0)
    return (1.0 + NUM_PARAMETERS / inliers.clamp_min(NUM_PARAMETERS) * excess) / information
