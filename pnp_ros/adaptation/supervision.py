"""What a kind of reference allows to learn from it, and to measure with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.evaluation.overlap import MATCH

LOST = 0.5  # error that an image without a valid pose counts for; larger errors count as this
GOOD = 0.1  # of the diameter: a right pose


@dataclass(frozen=True)
class Score:
    """How good a pose on a held-back image is.

    Args:
        error: 0 to 0.5.
        good: whether it counts as right.
    """

    error: float
    good: bool


LOST_SCORE = Score(LOST, False)


class Supervision(Protocol):
    """A strategy: what intake, learner and examiner do differently for one kind of reference.

    Args:
        independent: the references are not the estimator's own making. Errors that they have in common are then
            theirs, and a fault, and errors from held-back poses mean something. Of its own poses a common error is what
            is to be mended, and nothing tells how certain the network may be: it stays as certain as the package's.
        interval_ns: between two images that are kept, at least.
        measured: what the error is, for the user.
    """

    independent: bool
    interval_ns: int
    measured: str

    def least_overlap(self, config: AdaptationConfig) -> float:
        """Smallest correlation of an image that is learnt from."""

    def score(self, distance: float, overlap: Callable[[], float]) -> Score:
        """Of a pose that is so far (ADD in diameters) from the held-back one, and correlates so with the image."""


class GivenReferences:
    """Poses from elsewhere: motion capture, a board, the robot's kinematics."""

    independent = True
    interval_ns = 0
    measured = "held-back error, % of the diameter"

    def least_overlap(self, config: AdaptationConfig) -> float:
        """See :class:`Supervision`."""
        return config.min_overlap

    def score(self, distance: float, overlap: Callable[[], float]) -> Score:
        """By the distance from where the image shows the object."""
        return Score(min(LOST, distance), distance < GOOD)


class OwnPoses:
    """The estimator's own poses. They cannot show whether new weights are better, so the image itself must."""

    independent = False
    interval_ns = 200_000_000
    measured = "held-back mismatch, %"

    def least_overlap(self, config: AdaptationConfig) -> float:
        """See :class:`Supervision`."""
        return config.self_overlap

    def score(self, distance: float, overlap: Callable[[], float]) -> Score:
        """By half of what the correlation with the mesh drawn at the pose lacks to 1."""
        found = overlap()
        return Score(min(LOST, 0.5 * (1.0 - found)), found > MATCH)


GIVEN, OWN = GivenReferences(), OwnPoses()
