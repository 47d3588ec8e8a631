"""What was seen waits for the transform of its image's time, which may come later than the pose."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from std_msgs.msg import Header

from pnp_ros.io.stamps import nanoseconds
from pnp_ros.nodes.transform_history import TransformHistory
from pnp_ros.types import Pose

T = TypeVar("T")


class TransformQueue(Generic[T]):
    """Tells where the camera was at the time of each image, as soon as TF does.

    Args:
        transforms: to ask.
        fixed_frame: in which the place is told.
        patience_s: by how much an image may be older than the newest one before it is given up.

    Attributes:
        transforms: that are asked.
    """

    def __init__(self, transforms: TransformHistory, fixed_frame: str, patience_s: float) -> None:
        self.transforms, self._fixed, self._patience_ns = transforms, fixed_frame, round(1e9 * patience_s)
        self._waiting: deque[tuple[Header, T]] = deque()
        self._problem = ""

    def put(self, header: Header, seen: T) -> None:
        """Add what the newest image told."""
        self._waiting.append((header, seen))

    def get(self, newest: Header) -> list[tuple[Header, Pose, T]]:
        """All whose ``T_fixed_camera`` is known now, oldest first; each is told once.

        Args:
            newest: of the newest image.
        """
        told = []
        for _ in range(len(self._waiting)):
            header, seen = self._waiting.popleft()
            stamp_ns = nanoseconds(header.stamp)
            camera = self.transforms.lookup(self._fixed, header.frame_id, stamp_ns)
            if isinstance(camera, Pose):
                told.append((header, camera, seen))
            elif 0 <= nanoseconds(newest.stamp) - stamp_ns < self._patience_ns:
                self._waiting.append((header, seen))
            else:
                self._problem = f"fixed_frame {self._fixed}: {camera}"
        return told

    def problem(self) -> str:
        """Why the last image was given up, told once; empty if none was."""
        told, self._problem = self._problem, ""
        return told

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
