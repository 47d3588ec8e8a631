"""A covariance that knows that one of the points it trusts may be wrong, in plain torch.

A pose that bends towards a wrong point leaves it a small residual, and few other points say little against it. So the
covariance is that of a mixture: of the pose, and of those without one of the points ``i`` that it trusts::

    C + sum_i p_i (C_i - C + d_i d_i^T)

To first order all follow from the minimum itself. With the whitened Jacobian J (2, 6) of a point, its residual r and
its share ``f = w / c`` of the information ``C^-1 = sum (w / c) J^T J`` (c: :func:`robust.covariance_scale`)::

    G   = (1 - f J C J^T)^-1
    d_i = C J^T f G r                     how far the pose moves without the point
    C_i = C + C J^T f G J C
    r_i = G r,  S = 1 + G J C J^T         its residual then, and the covariance of that if the point is right
    p_i / p_0 = odds of a point to be wrong x density of wrong points at r_i / N(r_i; 0, S)

Wrong points lie anywhere in the image, or about their places as :func:`accept_reference.near_spread` says: which, and
how far from these, the outliers of the pose tell, together with one that stands for none: half-way between a deviation
and the image, by the logarithm. Of many points that agree (``MANY_INLIERS``) none is doubted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pnp_ros.kernels.accept_reference import near_density

TRUSTED = 0.1  # robust weight of a point that counts
BY_DEFAULT = 0.5  # points that are wrong, and as many that are right, beside those that were seen
FULL = 0.01  # share of its information that a point cannot have alone: its residual would tell nothing
MANY_INLIERS = 40  # one of so many moves the pose by less than a deviation, and is not doubted
MOST = 20.0  # log of the odds that a residual alone can make


class Outliers(NamedTuple):
    """What a pose's outliers tell of others.

    Args:
        number: (B) how many there are.
        log_spread: (B) log of how far from their places they lie, in squared deviations.
        each: (B) log of how much denser an inlier lies at its place than a point anywhere in the image, on average.
        used: (B, N) bool: points with weight.
        rank: (B, N) directions that a point tells, 1 or 2.
        few: (B) whether the pose has so few inliers that one of them is worth a doubt.
    """

    number: Tensor
    log_spread: Tensor
    each: Tensor
    used: Tensor
    rank: Tensor
    few: Tensor

    def odds(self) -> Tensor:
        """(B) of a point to be wrong."""
        return (self.number + BY_DEFAULT) / (self.used.sum(-1) - self.number + BY_DEFAULT)

    def density(self, squared: Tensor) -> Tensor:
        """(B, N) of wrong points at squared residuals, for that of right ones at zero.

        The mean of its logarithm over the outliers decides whether they lie about their places.
        """
        rank = (self.rank * self.used).sum(-1) / self.used.sum(-1).clamp_min(1)
        near = torch.sigmoid(self.number * (self.each + 0.5 * rank * (math.log(2.0) - 2.0 - self.log_spread)))
        anywhere = (1.0 - near) * (-self.each).exp()
        return anywhere[:, None] + near[:, None] * near_density(squared, self.log_spread.exp(), self.rank)


def with_doubt(
    covariance: Tensor, jacobian: Tensor, residual: Tensor, weight: Tensor, scale: Tensor, outliers: Outliers
) -> Tensor:
    """The mixture's covariance (B, 6, 6).

    Args:
        covariance: (B, 6, 6) of the pose.
        jacobian: (B, N, 2, 6) whitened, by the pose.
        residual: (B, N, 2) whitened.
        weight: (B, N) robust weights.
        scale: (B) what the inverse of the Hessian was multiplied with.
        outliers: of the pose.
    """
    share = (weight / scale[:, None])[..., None, None]
    leverage = jacobian @ covariance[:, None] @ jacobian.mT
    one = torch.eye(2).to(leverage)
    gain = torch.linalg.inv((1.0 + FULL) * one - share * leverage)
    without = gain @ residual[..., None]
    spread = one + gain @ leverage
    squared = (without * torch.linalg.solve(spread, without)).sum((-2, -1))
    log_right = (-0.5 * squared).clamp_min(-MOST) - 0.5 * torch.logdet(spread)
    odds = outliers.odds()[:, None] * outliers.density(without.square().sum((-2, -1))) / log_right.exp()
    doubted = outliers.used & outliers.few[:, None] & (weight > TRUSTED)
    odds = torch.where(doubted, odds, 0.0)
    probability = odds / (1.0 + odds.sum(-1, keepdim=True))
    moved = share * gain + share.square() * without @ without.mT
    rows = probability[..., None, None] * (jacobian.mT @ moved @ jacobian)
    return covariance + covariance @ rows.sum(1) @ covariance
