"""What was heard on ``/tf``, to be asked for the pose of one frame in another at a time."""

from __future__ import annotations

import bisect
import math
import threading
from collections import defaultdict
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

from pnp_ros.io.stamps import nanoseconds
from pnp_ros.io.transforms import TransformTree
from pnp_ros.types import Pose

_KEPT_S = 10.0  # transforms older than this say nothing about an image that still waits
_QUATERNION_TOLERANCE = 1e-2  # of the squared norm, as in tf2
_DEPTH = 200


class TransformHistory:
    """The last seconds of ``/tf`` and all of ``/tf_static``. Invalid transforms are left out and counted.

    Args:
        node: that listens.
        late_s: the latest that one transform of a chain may come after the others; they are kept for it.
    """

    def __init__(self, node: Node, late_s: float = 0.0) -> None:
        self._kept_ns = round(1e9 * (_KEPT_S + late_s))
        self.refused, self.problem = 0, ""
        self._moving: dict[tuple[str, str], list[tuple[int, TransformStamped]]] = defaultdict(list)
        self._static: dict[str, TransformStamped] = {}
        self._lock = threading.Lock()
        latched = DurabilityPolicy.TRANSIENT_LOCAL
        static = QoSProfile(depth=_DEPTH, durability=latched, reliability=ReliabilityPolicy.RELIABLE)
        node.create_subscription(TFMessage, "/tf", lambda message: self._add_all(message, False), _DEPTH)
        node.create_subscription(TFMessage, "/tf_static", lambda message: self._add_all(message, True), static)

    def _add_all(self, message: TFMessage, static: bool) -> None:
        for transform in message.transforms:
            self.add(transform, static)

    def add(self, transform: TransformStamped, static: bool = False) -> None:
        """Add one transform."""
        parent, child = transform.header.frame_id.lstrip("/"), transform.child_frame_id.lstrip("/")
        problem = _wrong_with(transform.transform.translation, transform.transform.rotation)
        if not parent:
            problem = "header.frame_id: expected a frame, got nothing"
        with self._lock:
            if problem:
                self.refused, self.problem = self.refused + 1, f"{parent} to {child}: {problem}"
            elif static:
                self._static[child] = transform
            else:
                self._insert(self._moving[parent, child], nanoseconds(transform.header.stamp), transform)

    def _insert(self, entries: list[tuple[int, TransformStamped]], stamp_ns: int, transform: TransformStamped) -> None:
        if entries and stamp_ns < entries[-1][0] - self._kept_ns:
            entries.clear()  # time jumped back, as where a bag begins again
        bisect.insort(entries, (stamp_ns, transform), key=lambda entry: entry[0])
        if entries[0][0] < stamp_ns - 2 * self._kept_ns:
            del entries[: bisect.bisect(entries, stamp_ns - self._kept_ns, key=lambda entry: entry[0])]

    def lookup(self, target: str, source: str, stamp_ns: int, without: str = "") -> Pose | str:
        """``T_target_source`` at a time, float64, or why it is not known.

        Args:
            without: a frame whose transforms do not count.
        """
        tree = TransformTree()
        with self._lock:
            tree.add_message(TFMessage(transforms=[t for c, t in self._static.items() if c != without]), static=True)
            for (_, child), entries in self._moving.items():
                if child != without:
                    index = bisect.bisect(entries, stamp_ns, key=lambda entry: entry[0])
                    near = [entry[1] for entry in entries[max(0, index - 1) : index + 1]]
                    tree.add_message(TFMessage(transforms=near), static=False)
        for frame in (source, target):
            if frame.lstrip("/") not in tree.frames:
                return f"nothing of {frame} was received"
        found = tree.lookup(target, source, stamp_ns)
        return f"no pose of {source} in {target} at the time of the image" if found is None else found


def _wrong_with(position: Any, orientation: Any) -> str:
    """What makes a message's values no pose, in words; nothing if they are one."""
    if not all(math.isfinite(value) for value in (position.x, position.y, position.z)):
        return "the position is not finite"
    quat = (orientation.x, orientation.y, orientation.z, orientation.w)
    squared = sum(value * value for value in quat)
    if not abs(squared - 1.0) <= _QUATERNION_TOLERANCE:  # also where it is NaN
        return f"the quaternion's length is {math.sqrt(squared):.3g}, expected 1"
    return ""
