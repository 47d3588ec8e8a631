"""The transforms of a recorded ``/tf``: from any frame to any other, at the time of an image."""

from __future__ import annotations

import bisect
from collections import defaultdict
from typing import Any

import torch

from pnp_ros.geometry import se3, so3
from pnp_ros.io.stamps import nanoseconds
from pnp_ros.types import Pose


def pose_from_fields(translation: Any, rotation: Any) -> Pose:
    """From a message's position or translation and its quaternion (xyzw), float64."""
    quat_wxyz = torch.tensor([rotation.w, rotation.x, rotation.y, rotation.z], dtype=torch.float64)
    matrix = so3.matrix_from_quat_wxyz(quat_wxyz)
    return Pose(matrix, torch.tensor([translation.x, translation.y, translation.z], dtype=torch.float64))


class PoseSeries:
    """Poses by time, interpolated between neighbours that are near enough.

    Args:
        longest_gap_ns: neighbours farther apart than this say nothing about the time between them.
        tolerance_ns: a stamp this near to one of the series is meant to be that one.
    """

    def __init__(self, longest_gap_ns: int = 100_000_000, tolerance_ns: int = 0) -> None:
        self._stamps: list[int] = []
        self._poses: dict[int, Pose] = {}
        self._longest_gap_ns, self._tolerance_ns = longest_gap_ns, tolerance_ns

    def add(self, stamp_ns: int, pose: Pose) -> None:
        """Add a pose; of two with the same stamp the later one counts."""
        if stamp_ns not in self._poses:
            bisect.insort(self._stamps, stamp_ns)
        self._poses[stamp_ns] = pose

    def __len__(self) -> int:
        return len(self._stamps)

    def at(self, stamp_ns: int) -> Pose | None:
        """The pose at a time; None outside of the series and in its gaps."""
        if stamp_ns in self._poses:
            return self._poses[stamp_ns]
        index = bisect.bisect(self._stamps, stamp_ns)
        for near in self._stamps[max(0, index - 1) : index + 1]:
            if abs(near - stamp_ns) <= self._tolerance_ns:
                return self._poses[near]
        if not 0 < index < len(self._stamps):
            return None
        before, after = self._stamps[index - 1], self._stamps[index]
        if after - before > self._longest_gap_ns:
            return None
        start = self._poses[before]
        step = se3.local(start, self._poses[after])
        return se3.retract(start, step * ((stamp_ns - before) / (after - before)))


class TransformTree:
    """Collects ``tf2_msgs/TFMessage`` and answers as tf2's buffer does."""

    def __init__(self) -> None:
        self._edges: dict[tuple[str, str], PoseSeries] = defaultdict(PoseSeries)
        self._static: dict[tuple[str, str], Pose] = {}

    @property
    def frames(self) -> set[str]:
        """All frames."""
        return {frame for edge in (*self._edges, *self._static) for frame in edge}

    def add_message(self, message: Any, static: bool) -> None:
        """Add a message of ``/tf`` or, with ``static``, of ``/tf_static``."""
        for transform in message.transforms:
            edge = (transform.header.frame_id.lstrip("/"), transform.child_frame_id.lstrip("/"))
            pose = pose_from_fields(transform.transform.translation, transform.transform.rotation)
            if static:
                self._static[edge] = pose
            else:
                self._edges[edge].add(nanoseconds(transform.header.stamp), pose)

    def lookup(self, target: str, source: str, stamp_ns: int) -> Pose | None:
        """``T_target_source`` at a time: maps points of ``source`` into ``target``; None where it is not known."""
        target, source = target.lstrip("/"), source.lstrip("/")
        identity = Pose(torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
        reached, waiting = {target: identity}, [target]
        while waiting and source not in reached:
            frame = waiting.pop(0)
            for (parent, child), pose in self._known_at(stamp_ns):
                if parent == frame and child not in reached:
                    reached[child] = se3.compose(reached[frame], pose)
                    waiting.append(child)
                elif child == frame and parent not in reached:
                    reached[parent] = se3.compose(reached[frame], se3.inverse(pose))
                    waiting.append(parent)
        return reached.get(source)

    def _known_at(self, stamp_ns: int) -> list[tuple[tuple[str, str], Pose]]:
        moving = [(edge, series.at(stamp_ns)) for edge, series in self._edges.items()]
        return [*self._static.items(), *((edge, pose) for edge, pose in moving if pose is not None)]
