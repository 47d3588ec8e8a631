"""The calibration of the covariance, fitted to poses whose truth is known."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import chi2

from pnp_ros.pipeline.calibration import DEGREES_OF_FREEDOM, FACTOR_LIMITS, REFERENCE, CovarianceCalibration, Doubt

logger = logging.getLogger(__name__)
_LARGEST_GROWTH = 4.0
_GROSS = 10.0  # times the median NEES: beyond it a pose is a gross error, which no covariance can cover
_FEWEST = 40  # poses from which more than the scale can be told
_SMOOTHED = 0.15  # of log NEES
_LEVEL = 0.9  # of the region that should hold this share of the true poses


def fit_calibration(nees: Sequence[float], doubts: Sequence[Doubt]) -> CovarianceCalibration:
    """The calibration with which 90 % regions hold 90 % of these poses, of vague and of sharp ones alike.

    Quantile regression (Koenker and Bassett, 1978) of log NEES on the logarithms of sigma and misfit, whose powers are
    0 or more. Errors have heavier tails where more is hidden, so that what makes the mean NEES 6 leaves too many poses
    outside.

    Args:
        nees: of the valid poses, with the solver's own covariance.
        doubts: what was known of each.

    Returns:
        With too few poses to tell, the powers are 0, and the scale makes the mean NEES 6; with none, the covariance
        stays as it is.
    """
    values = np.asarray(nees, float)
    known = np.array([(doubt.sigma, doubt.misfit) for doubt in doubts]).reshape(-1, 2) / REFERENCE
    usable = np.isfinite(values) & (values > 0.0) & (np.isfinite(known) & (known > 0.0)).all(-1)
    values, logs = values[usable], np.log(known[usable])
    if len(values) == 0:
        logger.warning("no valid pose: the covariance stays as the solver gives it")
        return CovarianceCalibration()
    if len(values) < _FEWEST:
        trusted = values[values <= _GROSS * np.median(values)]
        scale, powers = float(trusted.mean()) / DEGREES_OF_FREEDOM, [0.0, 0.0]
    else:
        expected = chi2.ppf(_LEVEL, DEGREES_OF_FREEDOM)
        offset, *powers = _quantile_regression(logs, np.log(values / expected), _LEVEL)
        scale = math.exp(offset)
    return CovarianceCalibration(round(float(np.clip(scale, *FACTOR_LIMITS)), 4), *(round(p, 4) for p in powers))


def _quantile_regression(features: NDArray[np.float64], values: NDArray[np.float64], level: float) -> list[float]:
    """Offset and slopes (0 to 4) of the plane below which a share ``level`` of the values (N) lies.

    The loss is smoothed (Fernandes, Guerre, Horta, 2021), so that it hangs less on the few values beside the plane.
    """
    design = np.hstack([np.ones((len(values), 1)), features])

    def loss(plane: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        above = (values - design @ plane) / _SMOOTHED
        each = level * above + np.logaddexp(0.0, -above)
        return float(each.mean()), -(design.T @ (level - expit(-above))) / (_SMOOTHED * len(values))

    start = np.array([np.quantile(values, level), *[0.0] * features.shape[1]])
    bounds = [(None, None), *[(0.0, _LARGEST_GROWTH)] * features.shape[1]]
    return [float(value) for value in minimize(loss, start, jac=True, bounds=bounds).x]
