"""What was heard on ``/tf``, to be asked for the pose of one frame in another at a time."""

from __future__ import annotations

import math
import threading
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

from pnp_ros.io.stamps import nanoseconds
from pnp_ros.io.transforms import PoseSeries, TransformTree, pose_from_fields
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
        self._tree = TransformTree()
        self._static_parents: dict[str, str] = {}
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
        fields = transform.transform.translation, transform.transform.rotation
        problem = _wrong_with(*fields)
        if not parent:
            problem = "header.frame_id: expected a frame, got nothing"
        with self._lock:
            if problem:
                self.refused, self.problem = self.refused + 1, f"{parent} to {child}: {problem}"
                return
            if static:
                before = self._static_parents.get(child, parent)
                if before != parent:
                    self._tree.remove_static((before, child))
                self._static_parents[child] = parent
                self._tree.add_static((parent, child), pose_from_fields(*fields))
            else:
                self._insert(self._tree.series((parent, child)), nanoseconds(transform.header.stamp), *fields)

    def _insert(self, series: PoseSeries, stamp_ns: int, translation: Any, rotation: Any) -> None:
        if (span := series.span_ns) is not None and stamp_ns < span[1] - self._kept_ns:
            series.forget_before(span[1] + 1)  # time jumped back, as where a bag begins again
        series.add_fields(stamp_ns, translation, rotation)
        if span is not None and span[0] < stamp_ns - 2 * self._kept_ns:
            series.forget_before(stamp_ns - self._kept_ns)

    def lookup(self, target: str, source: str, stamp_ns: int, without: str = "") -> Pose | str:
        """``T_target_source`` at a time, float64, or why it is not known.

        Args:
            without: a frame whose transforms do not count.
        """
        with self._lock:
            found = self._tree.lookup(target, source, stamp_ns, without)
            return self._tree.why_not(target, source, stamp_ns, without) if found is None else found


def _wrong_with(position: Any, orientation: Any) -> str:
    """What makes a message's values no pose, in words; nothing if they are one."""
    if not all(math.isfinite(value) for value in (position.x, position.y, position.z)):
        return "the position is not finite"
    quat = (orientation.x, orientation.y, orientation.z, orientation.w)
    squared = sum(value * value for value in quat)
    if not abs(squared - 1.0) <= _QUATERNION_TOLERANCE:  # also where it is NaN
        return f"the quaternion's length is {math.sqrt(squared):.3g}, expected 1"
    return ""
