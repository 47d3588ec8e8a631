"""Whether covariances tell the truth: the normalised estimation error squared and its chi-square statistics.

Bar-Shalom, Li, Kirubarajan, "Estimation with Applications to Tracking and Navigation" (2001), section 5.4: of a
consistent estimator the NEES is chi-square distributed with as many degrees of freedom as the state has, here 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2
from torch import Tensor

from pnp_ros.geometry import covariance, se3
from pnp_ros.types import Pose

DEGREES_OF_FREEDOM = 6


def nees(estimate: Pose, cov: Tensor, truth: Pose) -> Tensor:
    """NEES (...) of poses with covariances (..., 6, 6) of [dt, dtheta]; 6 on average if consistent.

    Infinite where a covariance is not positive definite.
    """
    return covariance.nees(se3.local(estimate, truth), cov)


def anees_bounds(count: int, level: float = 0.95, dof: int = DEGREES_OF_FREEDOM) -> tuple[float, float]:
    """Bounds that the mean NEES of ``count`` independent, consistent estimates keeps with probability ``level``.

    The mean of ``count`` chi-square values with ``dof`` degrees of freedom is one with ``count * dof``, over ``count``.
    Frames of one video are not independent: their errors share causes, and the mean scatters more than this.

    Raises:
        ValueError: if there is no estimate.
    """
    if count < 1:
        raise ValueError(f"count: expected at least 1 estimate, got {count}")
    low, high = chi2.ppf([(1.0 - level) / 2.0, (1.0 + level) / 2.0], count * dof) / count
    return float(low), float(high)


def verdict(mean_nees: float, count: int, level: float = 0.95) -> str:
    """``consistent``, ``overconfident`` (covariances too small) or ``underconfident``, by :func:`anees_bounds`."""
    low, high = anees_bounds(count, level)
    if mean_nees > high:
        return "overconfident"
    return "underconfident" if mean_nees < low else "consistent"


def nees_bounds(level: float = 0.95, dof: int = DEGREES_OF_FREEDOM) -> tuple[float, float]:
    """Bounds that a single NEES value of a consistent estimate keeps with probability ``level``."""
    return anees_bounds(1, level, dof)


def coverage(
    values: Tensor, levels: Sequence[float] = (0.5, 0.9, 0.95), dof: int = DEGREES_OF_FREEDOM
) -> dict[float, float]:
    """By level, the share of NEES values (N) inside the confidence region of that level; equal if consistent.

    Raises:
        ValueError: if there is no value.
    """
    found = _some(values)
    return {level: float(np.mean(found <= chi2.ppf(level, dof))) for level in levels}


def coverage_interval(values: Tensor, level: float, confidence: float = 0.95) -> tuple[float, float]:
    """Shares between which the true coverage of the region of ``level`` lies, by Wilson's interval for a binomial.

    It takes the NEES values (N) for independent; those of one video are not, and tell less.

    Raises:
        ValueError: if there is no value.
    """
    found = _some(values)
    inside = int(np.count_nonzero(found <= chi2.ppf(level, DEGREES_OF_FREEDOM)))
    bounds = binomtest(inside, found.size).proportion_ci(confidence, method="wilson")
    return float(bounds.low), float(bounds.high)


def conformal_factor(values: Tensor, level: float = 0.9) -> float:
    """Factor on the covariance with which the region of ``level`` holds the next pose with that probability or more.

    Split conformal prediction (Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005): the smallest
    of the NEES values (N) that ``level * (N + 1)`` of them do not exceed. Infinite where N is too small for that.
    """
    found = np.sort(values.detach().cpu().double().numpy().reshape(-1))
    rank = math.ceil(level * (found.size + 1))
    return float(found[rank - 1] / chi2.ppf(level, DEGREES_OF_FREEDOM)) if rank <= found.size else math.inf


def region_reach(cov: NDArray[np.float64], level: float = 0.9) -> tuple[float, float]:
    """Metres and radians that the region of ``level`` of a covariance (6, 6) of [dt, dtheta] reaches from the pose.

    Along the longest axis of its shadow on the three axes of the translation, and on those of the rotation.
    """
    scale = float(chi2.ppf(level, DEGREES_OF_FREEDOM))
    along = [math.sqrt(scale * max(float(np.linalg.eigvalsh(part)[-1]), 0.0)) for part in (cov[:3, :3], cov[3:, 3:])]
    return along[0], along[1]


def _some(values: Tensor) -> NDArray[np.float64]:
    """(N,) of the NEES values; ValueError if there is none."""
    found = values.detach().cpu().double().numpy().reshape(-1)
    if found.size == 0:
        raise ValueError("values: expected at least one NEES")
    return found
