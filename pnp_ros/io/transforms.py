"""The transforms of a recorded or a live ``/tf``: from any frame to any other, at the time of an image."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from pnp_ros.geometry import single_pose
from pnp_ros.io.stamps import nanoseconds
from pnp_ros.types import Pose

Edge = tuple[str, str]  # parent and child
_Fields = tuple[Any, Any]  # a message's translation and rotation


def pose_from_fields(translation: Any, rotation: Any) -> Pose:
    """From a message's position or translation and its quaternion (xyzw, of any length but zero), float64."""
    x, y, z, w = rotation.x, rotation.y, rotation.z, rotation.w
    squared = x * x + y * y + z * z + w * w
    s = 2.0 / squared if squared else math.inf
    matrix = (
        (1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)),
        (s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)),
        (s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)),
    )
    place = np.array((translation.x, translation.y, translation.z), np.float64)
    return Pose.unchecked(torch.from_numpy(np.array(matrix, np.float64)), torch.from_numpy(place))


class PoseSeries:
    """Poses by time, interpolated between neighbours that are near enough.

    Args:
        longest_gap_ns: neighbours farther apart than this say nothing about the time between them.
        tolerance_ns: a stamp this near to one of the series is meant to be that one.
    """

    def __init__(self, longest_gap_ns: int = 100_000_000, tolerance_ns: int = 0) -> None:
        self._stamps: list[int] = []
        self._poses: dict[int, Pose | _Fields] = {}
        self._longest_gap_ns, self._tolerance_ns = longest_gap_ns, tolerance_ns

    def add(self, stamp_ns: int, pose: Pose) -> None:
        """Add a pose; of two with the same stamp the later one counts."""
        self._add(stamp_ns, pose)

    def add_fields(self, stamp_ns: int, translation: Any, rotation: Any) -> None:
        """Add that of :func:`pose_from_fields`, which is calculated when it is first asked for: few ever are."""
        self._add(stamp_ns, (translation, rotation))

    def _add(self, stamp_ns: int, told: Pose | _Fields) -> None:
        if stamp_ns not in self._poses:
            bisect.insort(self._stamps, stamp_ns)
        self._poses[stamp_ns] = told

    def forget_before(self, stamp_ns: int) -> None:
        """Forget what is older."""
        count = bisect.bisect_left(self._stamps, stamp_ns)
        for old in self._stamps[:count]:
            del self._poses[old]
        del self._stamps[:count]

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """The first and the last stamp."""
        return (self._stamps[0], self._stamps[-1]) if self._stamps else None

    def at(self, stamp_ns: int) -> Pose | None:
        """The pose at a time; None outside of the series and in its gaps."""
        between = self._between(stamp_ns)
        if between is None:
            return None
        before, after = between
        start = self._pose(before)
        if before == after:
            return start
        step = single_pose.difference(start, self._pose(after))
        return single_pose.moved(start, step * ((stamp_ns - before) / (after - before)))

    def _pose(self, stamp_ns: int) -> Pose:
        told = self._poses[stamp_ns]
        if not isinstance(told, Pose):
            told = self._poses[stamp_ns] = pose_from_fields(*told)
        return told

    def knows(self, stamp_ns: int) -> bool:
        """Whether :meth:`at` tells a pose, which costs more."""
        return self._between(stamp_ns) is not None

    def why_not(self, stamp_ns: int) -> tuple[int, str]:
        """Of a series that has poses, but none at a time: how many nanoseconds are missing, and the same in words."""
        index = bisect.bisect(self._stamps, stamp_ns)
        if index == len(self._stamps):
            missing = stamp_ns - self._stamps[-1]
            return missing, f"the last one is {1e-9 * missing:.3f} s older"
        if index == 0:
            missing = self._stamps[0] - stamp_ns
            return missing, f"the first one is {1e-9 * missing:.3f} s newer"
        missing = self._stamps[index] - self._stamps[index - 1]
        return missing, f"a gap of {1e-9 * missing:.3f} s, expected {1e-9 * self._longest_gap_ns:g} s or less"

    def _between(self, stamp_ns: int) -> tuple[int, int] | None:
        """The stamps that a time lies between; twice the same where one of them is meant."""
        if stamp_ns in self._poses:
            return stamp_ns, stamp_ns
        index = bisect.bisect(self._stamps, stamp_ns)
        for near in self._stamps[max(0, index - 1) : index + 1]:
            if abs(near - stamp_ns) <= self._tolerance_ns:
                return near, near
        if not 0 < index < len(self._stamps):
            return None
        before, after = self._stamps[index - 1], self._stamps[index]
        return (before, after) if after - before <= self._longest_gap_ns else None


class TransformTree:
    """Collects transforms and answers as tf2's buffer does.

    Only the edges of the one path between two frames are evaluated: a robot has a hundred others.

    Args:
        longest_gap_ns: of each edge's :class:`PoseSeries`.
    """

    def __init__(self, longest_gap_ns: int = 100_000_000) -> None:
        self._longest_gap_ns = longest_gap_ns
        self._moving: dict[Edge, PoseSeries] = {}
        self._static: dict[Edge, Pose] = {}
        self._moving_at: dict[str, list[Edge]] = defaultdict(list)  # the edges that each frame is an end of
        self._static_at: dict[str, list[Edge]] = defaultdict(list)

    @property
    def frames(self) -> set[str]:
        """All frames."""
        return {frame for edge in (*self._moving, *self._static) for frame in edge}

    def add_message(self, message: Any, static: bool) -> None:
        """Add a ``tf2_msgs/TFMessage`` of ``/tf`` or, with ``static``, of ``/tf_static``."""
        for transform in message.transforms:
            edge = (transform.header.frame_id.lstrip("/"), transform.child_frame_id.lstrip("/"))
            fields = transform.transform.translation, transform.transform.rotation
            if static:
                self.add_static(edge, pose_from_fields(*fields))
            else:
                self.series(edge).add_fields(nanoseconds(transform.header.stamp), *fields)

    def add_static(self, edge: Edge, pose: Pose) -> None:
        """Add what holds at all times."""
        if edge not in self._static:
            _join(self._static_at, edge)
        self._static[edge] = pose

    def remove_static(self, edge: Edge) -> None:
        """Take back what held at all times, as where a frame has another parent now."""
        del self._static[edge]
        for frame in dict.fromkeys(edge):
            self._static_at[frame].remove(edge)

    def series(self, edge: Edge) -> PoseSeries:
        """The poses of the child in the parent by time, to be added to."""
        if edge not in self._moving:
            self._moving[edge] = PoseSeries(self._longest_gap_ns)
            _join(self._moving_at, edge)
        return self._moving[edge]

    def forget_moving(self) -> None:
        """Forget all but what holds at all times."""
        self._moving.clear()
        self._moving_at.clear()

    def lookup(self, target: str, source: str, stamp_ns: int, without: str = "") -> Pose | None:
        """``T_target_source`` at a time: maps points of ``source`` into ``target``; None where it is not known.

        Args:
            without: a frame whose own transforms do not count.
        """
        path = self._path(target, source, lambda edge: self._moving[edge].knows(stamp_ns), without)
        if path is None:
            return None
        rotation, translation = np.eye(3), np.zeros(3)
        for edge, forward in path:
            pose = self._static[edge] if edge in self._static else self._moving[edge].at(stamp_ns)
            assert pose is not None
            turn, shift = pose.rotation.numpy(), pose.translation.numpy()
            if not forward:
                turn, shift = turn.T, -turn.T @ shift
            rotation, translation = rotation @ turn, rotation @ shift + translation
        return Pose.unchecked(torch.from_numpy(rotation), torch.from_numpy(translation))

    def why_not(self, target: str, source: str, stamp_ns: int, without: str = "") -> str:
        """Why :meth:`lookup` tells nothing, in words: the edge that lacks most."""
        for frame in (source, target):
            if not any(edge[1] != without for edge in self._at(frame.lstrip("/"))):
                return f"nothing of {frame} was received"
        path = self._path(target, source, lambda edge: True, without)
        if path is None:
            return f"TF does not connect {source} with {target}"
        lacking = [edge for edge, _ in path if edge not in self._static and not self._moving[edge].knows(stamp_ns)]
        told = [(*self._moving[edge].why_not(stamp_ns), edge) for edge in lacking]
        _, why, (parent, child) = max(told)
        return f"no pose of {source} in {target} at the time of the image: of {parent} to {child} {why}"

    def _at(self, frame: str) -> Iterable[Edge]:
        """The edges that a frame is an end of, those that hold at all times first."""
        return *self._static_at.get(frame, ()), *self._moving_at.get(frame, ())

    def _path(
        self, target: str, source: str, known: Callable[[Edge], bool], without: str
    ) -> list[tuple[Edge, bool]] | None:
        """The fewest edges from ``target`` to ``source``, each with whether it is gone from parent to child.

        Args:
            known: whether a moving edge counts.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        came: dict[str, tuple[Edge, bool] | None] = {target: None}
        waiting = deque([target])
        while waiting and source not in came:
            frame = waiting.popleft()
            for edge in self._at(frame):
                forward = edge[0] == frame
                other = edge[1] if forward else edge[0]
                if other in came or edge[1] == without or not (edge in self._static or known(edge)):
                    continue
                came[other] = edge, forward
                waiting.append(other)
        if source not in came:
            return None
        path, frame = [], source
        while (step := came[frame]) is not None:
            path.append(step)
            frame = step[0][0] if step[1] else step[0][1]
        return path[::-1]


def _join(edges_at: dict[str, list[Edge]], edge: Edge) -> None:
    for frame in dict.fromkeys(edge):
        edges_at[frame].append(edge)
