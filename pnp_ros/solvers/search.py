"""What guides the solver's own search for a pose: how probably each point is an inlier.

Where few points are trusted, these are solved alone for a start. The kernel then draws every second sample of three
points in proportion to the likelihoods, all others from all points alike: likelihoods that are wrong cost no more than
half of the samples, and nothing else changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from numpy.typing import ArrayLike
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.types import Correspondences
from pnp_ros.types.tensors import as_tensor


@runtime_checkable
class Guide(Protocol):
    """What knows how far to trust each point: :class:`Search`, :class:`~pnp_ros.solvers.pnp_net.PnPNet`."""

    def likelihood_of(self, correspondences: Correspondences, camera: Camera) -> Tensor | None:
        """(..., N) from 0 to 1; None trusts all points alike."""


@dataclass(frozen=True, eq=False)
class Search:
    """The solver's own search.

    Args:
        likelihood: (..., N) how probably each point is an inlier, such as a matcher's scores; None is no guide. Only
            proportions count. Arrays and sequences become tensors.

    Raises:
        ValueError: if it is no such thing.
    """

    likelihood: Tensor | None

    def __init__(self, likelihood: ArrayLike | None = None) -> None:
        if likelihood is not None:
            likelihood = as_tensor("likelihood", likelihood)
            if likelihood.ndim == 0:
                raise ValueError("likelihood: expected shape (..., N), got ()")
        object.__setattr__(self, "likelihood", likelihood)

    def likelihood_of(self, correspondences: Correspondences, camera: Camera) -> Tensor | None:
        """As it was given."""
        return self.likelihood
