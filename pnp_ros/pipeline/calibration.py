"""From the solver's covariance to a consistent one.

The solver takes the errors of the keypoints of one image for independent. They are not: a shadow, a hidden half, a
light make the network err in one direction with all of them. How much that matters can only be measured, on held-out
images with truth. Two things that are known of a pose without the truth tell it: the keypoints' own sigma, and how far
they miss the pose that was found. The factor is a power law of both:

    factor = scale (sigma / 1 %)^growth (misfit / 1 %)^discord

with sigma the median standard deviation of the keypoints and misfit the median of their reprojection errors, both as a
share of the object's size in the image. Where little is hidden keypoints agree, and the factor is small; where half is
hidden those that are guessed miss the pose, though each is as sure of itself as it always is.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import chi2
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.types import Correspondences, Pose
from pnp_ros.types.tensors import Values

logger = logging.getLogger(__name__)
REFERENCE = 0.01  # share of the object's size
_FACTOR_LIMITS = (1e-2, 1e4)
_LARGEST_GROWTH = 4.0
_GROSS = 10.0  # times the median NEES: beyond it a pose is a gross error, which no covariance can cover
_FEWEST = 40  # poses from which more than the scale can be told
_SMOOTHED = 0.15  # of log NEES
_LEVEL = 0.9  # of the region that should hold this share of the true poses
_USUAL_KEYPOINTS = 16
DEGREES_OF_FREEDOM = 6


@dataclass(frozen=True, repr=False)
class Doubt(Values):
    """What is known of a pose without the truth: ``sigma`` and ``misfit``, see the module's docstring."""

    sigma: float
    misfit: float


@dataclass(frozen=True)
class CovarianceCalibration:
    """The factor's three parameters; see the module's docstring.

    Stored in ``object.yaml`` under ``calibration``. Packages of before have no ``discord``.

    Raises:
        ValueError: naming the field and what it expects.
    """

    scale: float = 1.0
    growth: float = 0.0
    discord: float = 0.0

    def __post_init__(self) -> None:
        powers = [(name, 0.0 <= getattr(self, name) <= 10.0) for name in ("growth", "discord")]
        for name, good in (("scale", 0.0 < self.scale < 1e6), *powers):
            if not good:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)!r}")

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> CovarianceCalibration:
        """From the plain values of ``object.yaml``; ValueError names an unknown field."""
        if unknown := sorted(set(values) - {field.name for field in dataclasses.fields(cls)}):
            raise ValueError(f"{unknown[0]}: unknown field of the calibration")
        return cls(**values)

    def to_plain(self) -> dict[str, Any]:
        """Plain values for ``object.yaml``."""
        return dataclasses.asdict(self)

    def factor(self, doubt: Doubt) -> float:
        """The factor on the covariance of a pose."""
        sigma, misfit = (max(value, 1e-6) / REFERENCE for value in (doubt.sigma, doubt.misfit))
        return float(np.clip(self.scale * sigma**self.growth * misfit**self.discord, *_FACTOR_LIMITS))


def doubt_of(
    pose: Pose, correspondences: Correspondences, camera: Camera, diameter: float, dense: bool = False
) -> Doubt:
    """Of one pose that was solved from correspondences; arguments as :func:`relative_sigma`'s."""
    sigma = relative_sigma(pose, correspondences, camera, diameter, dense)
    return Doubt(float(sigma), float(relative_misfit(pose, correspondences, camera, diameter)))


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
    pixels = _projected_size(pose, camera, diameter)
    if dense:
        information = correspondences.axis_weights.square().sum(-2).mean(-1) / _USUAL_KEYPOINTS
        return information.clamp_min(1e-18).rsqrt() / pixels
    return (1.0 / correspondences.axis_weights.clamp_min(1e-9)).flatten(-2).median(-1).values / pixels


def relative_misfit(pose: Pose, correspondences: Correspondences, camera: Camera, diameter: float) -> Tensor:
    """(...) median distance of image points from where the pose puts them, as a share of the object's projected size.

    Args:
        pose: (...) that was solved from them.
        correspondences: pixels of ``camera``.
        camera: of the whole image.
        diameter: of the object, metres.
    """
    missed = camera.project(pose.transform(correspondences.object_points)) - correspondences.image_points
    return missed.norm(dim=-1).nanmedian(-1).values / _projected_size(pose, camera, diameter)


def _projected_size(pose: Pose, camera: Camera, diameter: float) -> Tensor:
    """(...) pixels."""
    return camera.intrinsics[..., :2].mean(-1) * diameter / pose.translation[..., 2].clamp_min(1e-6)


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
    return CovarianceCalibration(round(float(np.clip(scale, *_FACTOR_LIMITS)), 4), *(round(p, 4) for p in powers))


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
