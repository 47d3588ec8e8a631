"""Robust losses: how much a correspondence counts, given how badly it fits.

Scales are in standard deviations (the correspondences' weights are inverse standard deviations), so they do not
depend on the camera or the noise. With two-dimensional Gaussian noise 99 % of the inliers are within 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from pnp_ros.kernels import robust
from pnp_ros.kernels.robust import RobustKind

MIN_SCALE, MAX_SCALE = 1e-3, 1e6  # single precision squares them


@dataclass(frozen=True)
class RobustLoss:
    """What all losses share: a kind and a scale. Build one of the subclasses.

    Raises:
        ValueError: if ``scale`` is not between ``MIN_SCALE`` and ``MAX_SCALE``.
    """

    scale: float = 1.0
    kind: RobustKind = field(init=False, default=RobustKind.GAUSSIAN, repr=False, hash=False)

    def __post_init__(self) -> None:
        if not MIN_SCALE <= self.scale <= MAX_SCALE:
            raise ValueError(f"scale: expected {MIN_SCALE} to {MAX_SCALE} standard deviations, got {self.scale}")

    @property
    def schedule_from(self) -> float:
        """The scale at which a solve starts; larger than ``scale`` for an annealed loss."""
        return self.scale

    def rho(self, squared_residual: Tensor) -> Tensor:
        """Loss (...) of the squared whitened residual norm (...)."""
        return robust.rho(self.kind, squared_residual, self.scale)

    def weight(self, squared_residual: Tensor) -> Tensor:
        """Derivative of :meth:`rho`: the inlier weight, 0 to 1."""
        return robust.weight(self.kind, squared_residual, self.scale)

    def weight_slope(self, squared_residual: Tensor) -> Tensor:
        """Derivative of :meth:`weight`."""
        return robust.weight_slope(self.kind, squared_residual, self.scale)


@dataclass(frozen=True)
class Gaussian(RobustLoss):
    """Least squares: right where every correspondence is; one outlier spoils it. The scale has no effect."""


@dataclass(frozen=True)
class Huber(RobustLoss):
    """Quadratic, then linear (Huber, 1964): one minimum, yet every outlier still pulls. Up to about 10 % outliers."""

    scale: float = 1.345
    kind: RobustKind = field(init=False, default=RobustKind.HUBER, repr=False, hash=False)


@dataclass(frozen=True)
class Cauchy(RobustLoss):
    """Logarithmic: far outliers hardly pull, and the basin stays wide. Up to about 40 % outliers."""

    scale: float = 2.0
    kind: RobustKind = field(init=False, default=RobustKind.CAUCHY, repr=False, hash=False)


@dataclass(frozen=True)
class GemanMcClure(RobustLoss):
    """Bounded: outliers do not pull at all. The loss for 60 % outliers and more.

    Args:
        scale: in standard deviations.
        anneal_from: with an initial pose given, the solve starts with this scale and narrows it to ``scale``
            (graduated non-convexity: Blake and Zisserman, 1987; Yang et al., 2020), and also without, and keeps the
            lower cost. Equal to ``scale``: no annealing.
    """

    scale: float = 3.0
    anneal_from: float = 100.0
    kind: RobustKind = field(init=False, default=RobustKind.GEMAN_MCCLURE, repr=False, hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.anneal_from) and self.anneal_from >= self.scale):
            raise ValueError(f"anneal_from: expected at least scale = {self.scale}, got {self.anneal_from}")

    @property
    def schedule_from(self) -> float:
        return self.anneal_from
