"""From the solver's covariance to a consistent one.

The solver takes the errors of the keypoints of one image for independent. They are not: a shadow, a hidden half, a
light make the network err in one direction with all of them. How much that matters can only be measured, on held-out
images with truth. It grows with the keypoints' own sigma, so the factor is a power law of it:

    factor = scale (sigma / 1 %)^growth

with sigma the median standard deviation of the keypoints as a share of the object's size in the image.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.types import Correspondences, Pose

logger = logging.getLogger(__name__)
REFERENCE_SIGMA = 0.01  # share of the object's size
_FACTOR_LIMITS = (1e-2, 1e4)
_GROWTH_LIMITS = (0.0, 4.0)
_GROSS = 10.0  # times the median NEES: beyond it a pose is a gross error, which no covariance can cover
_FEWEST = 20  # poses from which the growth can be told
_USUAL_KEYPOINTS = 16
DEGREES_OF_FREEDOM = 6


@dataclass(frozen=True)
class CovarianceCalibration:
    """The factor's two parameters; see the module's docstring.

    Stored in ``object.yaml`` under ``calibration``.

    Raises:
        ValueError: naming the field and what it expects.
    """

    scale: float = 1.0
    growth: float = 0.0

    def __post_init__(self) -> None:
        for name, good in (("scale", 0.0 < self.scale < 1e6), ("growth", 0.0 <= self.growth <= 10.0)):
            if not good:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)!r}")

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> CovarianceCalibration:
        """From the plain values of ``object.yaml``; ValueError names an unknown field."""
        if unknown := sorted(set(values) - {"scale", "growth"}):
            raise ValueError(f"{unknown[0]}: unknown field of the calibration")
        return cls(**values)

    def to_plain(self) -> dict[str, Any]:
        """Plain values for ``object.yaml``."""
        return dataclasses.asdict(self)

    def factor(self, sigma: float) -> float:
        """The factor on the covariance of a pose whose keypoints have this relative sigma."""
        return float(np.clip(self.scale * (max(sigma, 1e-6) / REFERENCE_SIGMA) ** self.growth, *_FACTOR_LIMITS))


def relative_sigma(
    pose: Pose, correspondences: Correspondences, camera: Camera, diameter: float, dense: bool = False
) -> Tensor:
    """(...) median standard deviation of the keypoints, as a share of the object's size in the image.

    It grows when most of the object is hidden, also where the keypoints still agree with each other on a wrong pose.

    Args:
        pose: (...) where the object is.
        correspondences: pixels of ``camera``.
        camera: of the whole image.
        diameter: of the object, metres.
        dense: the weights count together, see :class:`~pnp_ros.sources.source.Sighting`: the standard deviation is then
            that of as many points as keypoints are usual that would tell as much.
    """
    pixels = camera.intrinsics[..., :2].mean(-1) * diameter / pose.translation[..., 2].clamp_min(1e-6)
    if dense:
        information = correspondences.axis_weights.square().sum(-2).mean(-1) / _USUAL_KEYPOINTS
        return information.clamp_min(1e-18).rsqrt() / pixels
    return (1.0 / correspondences.axis_weights.clamp_min(1e-9)).flatten(-2).median(-1).values / pixels


def fit_calibration(nees: Sequence[float], sigma: Sequence[float]) -> CovarianceCalibration:
    """The calibration that makes the mean NEES of these poses 6, of vague and of sharp ones alike.

    The growth is the slope of log NEES over log sigma, which outliers hardly move; the scale then comes from the mean.

    Args:
        nees: of the valid poses, with the solver's own covariance.
        sigma: their relative sigmas.

    Returns:
        With too few poses to tell, the growth is 0; with none, the covariance stays as it is.
    """
    values, sigmas = np.asarray(nees, float), np.asarray(sigma, float)
    usable = np.isfinite(values) & (values > 0.0) & np.isfinite(sigmas) & (sigmas > 0.0)
    values, sigmas = values[usable], sigmas[usable] / REFERENCE_SIGMA
    if len(values) == 0:
        logger.warning("no valid pose: the covariance stays as the solver gives it")
        return CovarianceCalibration()
    growth = 0.0
    if len(values) >= _FEWEST and np.ptp(np.log(sigmas)) > 0.1:
        growth = float(np.clip(np.polyfit(np.log(sigmas), np.log(values), 1)[0], *_GROWTH_LIMITS))
    values = values / sigmas**growth
    trusted = values[values <= _GROSS * np.median(values)]
    scale = float(np.clip(trusted.mean() / DEGREES_OF_FREEDOM, *_FACTOR_LIMITS))
    return CovarianceCalibration(round(scale, 4), round(growth, 4))
