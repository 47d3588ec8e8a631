"""What the fine-tuning tells about itself, and the states it goes through."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class AdaptationState(enum.IntEnum):
    """What it is doing; the values are those of the message."""

    COLLECTING = 0  # waiting for enough usable images
    TRAINING = 1
    CHECKING = 2
    PAUSED = 3  # by the user
    FAULT = 4  # cannot work; the estimator goes on with the active weights


class Event(enum.Enum):
    """What takes it from one state to another."""

    ENOUGH = enum.auto()  # images to learn from
    TOO_FEW = enum.auto()
    EXHAUSTED = enum.auto()  # nothing more is gained from these images
    CHECK = enum.auto()  # the steps before a check are done
    JUDGED = enum.auto()  # a candidate was used, or was not
    BROKEN = enum.auto()  # something keeps it from working
    MENDED = enum.auto()  # nothing does any more
    PAUSE = enum.auto()  # the user's wishes
    RESUME = enum.auto()
    RESET = enum.auto()


_S, _E = AdaptationState, Event
TRANSITIONS: Mapping[AdaptationState, Mapping[Event, AdaptationState]] = {
    _S.COLLECTING: {
        _E.ENOUGH: _S.TRAINING,
        _E.BROKEN: _S.FAULT,
        _E.PAUSE: _S.PAUSED,
        _E.RESUME: _S.COLLECTING,
        _E.RESET: _S.COLLECTING,
    },
    _S.TRAINING: {
        _E.TOO_FEW: _S.COLLECTING,
        _E.EXHAUSTED: _S.COLLECTING,
        _E.CHECK: _S.CHECKING,
        _E.BROKEN: _S.FAULT,
        _E.PAUSE: _S.PAUSED,
        _E.RESUME: _S.TRAINING,
        _E.RESET: _S.COLLECTING,
    },
    _S.CHECKING: {_E.JUDGED: _S.TRAINING, _E.BROKEN: _S.FAULT},  # the user's wishes are met after it
    _S.PAUSED: {_E.PAUSE: _S.PAUSED, _E.RESUME: _S.COLLECTING, _E.RESET: _S.COLLECTING},
    _S.FAULT: {
        _E.MENDED: _S.COLLECTING,
        _E.BROKEN: _S.FAULT,
        _E.PAUSE: _S.PAUSED,
        _E.RESUME: _S.FAULT,
        _E.RESET: _S.COLLECTING,
    },
}


def after(state: AdaptationState, event: Event) -> AdaptationState:
    """The state that follows.

    Raises:
        ValueError: if the event cannot come in this state: an error of the program.
    """
    if event not in TRANSITIONS[state]:
        raise ValueError(f"event: {event.name} cannot come in the state {state.name}")
    return TRANSITIONS[state][event]


class FaultCause(enum.Enum):
    """What keeps it from working; each is mended by its own event alone."""

    REFERENCES = "the references have a constant error"
    STORE = "a version could not be stored"


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
    """See the message ``AdaptationStatus`` for the fields; ``fault`` is why the state is ``FAULT``, else None."""

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
    fault: FaultCause | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a user's wish.

    Args:
        message: in words.
        lasting: whether it holds after the next start, too; False where the disk did not take it.
    """

    message: str
    lasting: bool = True


def plain(value: Any) -> Any:
    """As JSON knows it: what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
