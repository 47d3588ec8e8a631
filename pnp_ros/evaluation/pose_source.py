"""How users name a source of true poses: one grammar for commands, node parameters and launch arguments."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

DEFAULT_TRUTH_FRAME = "object_truth"  # as the simulated camera names it


def truth_frame(instance: str) -> str:
    """TF frame of the true pose of one of several instances: ``mug_0_truth``; a single one has its own name for it."""
    return f"{instance}_truth"


class PoseSourceKind(enum.Enum):
    """What there is; the value is how it is written."""

    SELF = "self"  # the estimator's own poses
    TF = "tf:FRAME"
    TOPIC = "topic:/NAME"
    BOARD = "board:FILE"  # YAML of an ArUco or ChArUco board that is seen
    FILE = "file:FILE"  # poses in JSON or CSV


_PREFIXES = {kind.value.partition(":")[0]: kind for kind in PoseSourceKind if kind is not PoseSourceKind.SELF}


@dataclass(frozen=True)
class PoseSource:
    """A source of poses.

    Args:
        kind: what it is.
        name: of the frame, topic or file; nothing of ``self``.
    """

    kind: PoseSourceKind
    name: str = ""

    @classmethod
    def parse(cls, text: str, allowed: Collection[PoseSourceKind] = tuple(PoseSourceKind)) -> PoseSource:
        """Read what a user wrote. Short forms: ``/NAME`` is a topic, ``tf`` is ``tf:object_truth``, and the path of a
        file that exists is that file.

        Raises:
            ValueError: if it is none of the ``allowed`` kinds; the message names them.
        """
        found = cls._read(text)
        if found is None or found.kind not in allowed:
            *others, last = (kind.value for kind in PoseSourceKind if kind in allowed)
            raise ValueError(f"expected {', '.join(others)} or {last}, got {text!r}")
        return found

    @classmethod
    def _read(cls, text: str) -> PoseSource | None:
        if text == PoseSourceKind.SELF.value:
            return cls(PoseSourceKind.SELF)
        prefix, colon, name = text.partition(":")
        if colon and name and prefix in _PREFIXES:
            kind = _PREFIXES[prefix]
            return cls(kind, name.lstrip("/") if kind is PoseSourceKind.TF else name)
        if text == "tf":
            return cls(PoseSourceKind.TF, DEFAULT_TRUTH_FRAME)
        if text and Path(text).is_file():
            return cls(PoseSourceKind.FILE, text)
        return cls(PoseSourceKind.TOPIC, text) if len(text) > 1 and text.startswith("/") else None

    def __str__(self) -> str:
        return self.kind.value.partition(":")[0] + (f":{self.name}" if self.name else "")
