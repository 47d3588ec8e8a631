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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.types import Correspondences, Pose
from pnp_ros.types.tensors import Values

REFERENCE = 0.01  # share of the object's size
FACTOR_LIMITS = (1e-2, 1e4)
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
        return float(np.clip(self.scale * sigma**self.growth * misfit**self.discord, *FACTOR_LIMITS))


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
