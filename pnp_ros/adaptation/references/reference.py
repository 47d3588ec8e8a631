"""Where the fine-tuning gets true poses from: one protocol, for the node and for recorded images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from pnp_ros.adaptation.observation import Observation
from pnp_ros.adaptation.supervision import GIVEN, Supervision
from pnp_ros.evaluation.frames import Frame
from pnp_ros.multiview.board import BoardFinder, read_board
from pnp_ros.types import Pose


class Reference(Protocol):
    """Tells the true pose of the object in images that it is shown one by one, in order of time.

    How users name one is :class:`~pnp_ros.evaluation.pose_source.PoseSource`. Those whose poses come from elsewhere are
    each a :class:`PoseReference`; the other kind is
    :class:`~pnp_ros.adaptation.references.self_supervision.SelfReference`.

    Args:
        supervision: what may be learnt from it and measured with it.
        every_estimate: it follows the motion: it wants the estimates of all images, of most without their pixels.
        late: the answer may come some time after the image: as long as there is a ``problem``, the same observation may
            be shown again.
        problem: why the observation shown last has no reference, in words; empty where nothing is wrong.
    """

    supervision: Supervision = GIVEN
    every_estimate: bool = False
    late: bool = False
    problem: str = ""

    @property
    def refused(self) -> int:
        """How many values were not poses, for example because they were not finite."""
        return 0

    def confirmed(self, observation: Observation) -> Iterable[Observation]:
        """Show an observation; get those whose pose is known now, in order of time, each with its ``reference``."""


class PoseReference(Reference, Protocol):
    """A reference that answers for each image by itself.

    Args:
        name: of the reference, for messages.
    """

    name: str

    def find(self, observation: Observation) -> Pose | str:
        """``T_camera_object``, or why it is not known."""

    def confirmed(self, observation: Observation) -> Iterable[Observation]:
        """See :class:`Reference`: the observation itself, or nothing."""
        found = self.find(observation)
        if isinstance(found, str):
            self.problem = f"{self.name}: {found}"
            return []
        self.problem = ""
        return [dataclasses.replace(observation, reference=found)]


class KnownReference(PoseReference):
    """Poses that a function of the image knows.

    Args:
        pose_of: ``T_camera_object`` of an image, None where it is not known.
        name: see :class:`PoseReference`.
        unknown: what is wrong with an image whose pose is not known.
    """

    def __init__(self, pose_of: Callable[[Frame], Pose | None], name: str = "truth", unknown: str = "no pose") -> None:
        self.pose_of, self.name, self._unknown = pose_of, name, unknown

    def find(self, observation: Observation) -> Pose | str:
        """See :class:`PoseReference`."""
        pose = self.pose_of(observation)
        return self._unknown if pose is None else pose


def board_reference(path: Path) -> KnownReference:
    """A board that is seen in the image itself.

    Raises:
        BoardError: if its description at ``path`` cannot be used; it names the file and the field.
    """
    finder = BoardFinder(read_board(path))
    unknown = "not seen, or not well enough to be sure of its pose"
    return KnownReference(lambda frame: finder.pose(frame.rgb, frame.camera), f"board:{path}", unknown)
