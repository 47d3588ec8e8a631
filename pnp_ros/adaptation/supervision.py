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
        interval_ns: between two images that are kept, at least.
        may_be_biased: errors that the references have in common are theirs, and a fault. The estimator's own are what
            is to be mended.
        keeps_certainty: the network stays as certain of each crop as the package's own: nothing tells it better.
        knows_pose: the held-back poses are not the estimator's own making, so that errors from them mean something.
        measured: what the error is, for the user.
    """

    interval_ns: int
    may_be_biased: bool
    keeps_certainty: bool
    knows_pose: bool
    measured: str

    def least_overlap(self, config: AdaptationConfig) -> float:
        """Smallest correlation of an image that is learnt from."""

    def score(self, distance: float, overlap: Callable[[], float]) -> Score:
        """Of a pose that is so far (ADD in diameters) from the held-back one, and correlates so with the image."""


class GivenReferences:
    """Poses from elsewhere: motion capture, a board, the robot's kinematics."""

    interval_ns = 0
    may_be_biased = True
    keeps_certainty = False
    knows_pose = True
    measured = "held-back error, % of the diameter"

    def least_overlap(self, config: AdaptationConfig) -> float:
        """See :class:`Supervision`."""
        return config.min_overlap

    def score(self, distance: float, overlap: Callable[[], float]) -> Score:
        """By the distance from where the image shows the object."""
        return Score(min(LOST, distance), distance < GOOD)


class OwnPoses:
    """The estimator's own poses. They cannot show whether new weights are better, so the image itself must."""

    interval_ns = 200_000_000
    may_be_biased = False
    keeps_certainty = True
    knows_pose = False
    measured = "held-back mismatch, %"

    def least_overlap(self, config: AdaptationConfig) -> float:
        """See :class:`Supervision`."""
        return config.self_overlap

    def score(self, distance: float, overlap: Callable[[], float]) -> Score:
        """By half of what the correlation with the mesh drawn at the pose lacks to 1."""
        found = overlap()
        return Score(min(LOST, 0.5 * (1.0 - found)), found > MATCH)


GIVEN, OWN = GivenReferences(), OwnPoses()
