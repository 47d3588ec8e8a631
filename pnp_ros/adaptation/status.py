"""What the fine-tuning tells about itself; ``AdaptationStatus`` is the message of the same content."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass


class AdaptationState(enum.IntEnum):
    """What it is doing; the values are those of the message."""

    COLLECTING = 0  # waiting for enough usable images
    TRAINING = 1
    CHECKING = 2
    PAUSED = 3  # by the user
    FAULT = 4  # cannot work; the estimator goes on with the active weights


@dataclass(frozen=True)
class Gate:
    """One condition that new weights must meet.

    Args:
        name: what is measured, with its unit.
        active: measured with the active weights.
        candidate: measured with the candidate.
        bound: for the candidate.
        passed: whether it is kept.
    """

    name: str
    active: float
    candidate: float
    bound: float
    passed: bool


@dataclass(frozen=True)
class AdaptationStatus:
    """See the message ``AdaptationStatus`` for the fields."""

    state: AdaptationState = AdaptationState.COLLECTING
    reason: str = ""
    active_version: int = 0
    candidate_version: int = 1
    buffered: int = 0
    refused: int = 0
    steps: int = 0
    reprojection_loss: float = math.nan
    correspondence_loss: float = math.nan
    gates: tuple[Gate, ...] = ()
