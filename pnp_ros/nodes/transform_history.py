"""What was heard on ``/tf``, to be asked for the pose of one frame in another at a time."""

from __future__ import annotations

import math
import threading
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

from pnp_ros.io.stamps import nanoseconds
from pnp_ros.io.transforms import Edge, TransformTree, pose_from_fields
from pnp_ros.types import Pose

_KEPT_S = 10.0  # transforms older than this say nothing about an image that still waits
_BACK_NS = 1_000_000_000  # by which a stamp may be older than the newest of its edge: a message that was late
_QUATERNION_TOLERANCE = 1e-2  # of the squared norm, as in tf2
_DEPTH = 200


class TransformHistory:
    """The last seconds of ``/tf`` and all of ``/tf_static``. Invalid transforms are left out and counted.

    Where time jumps back, as in a simulation that is reset or a bag that begins again, what was is forgotten: at once
    where the node's clock says so, else edge by edge, when two stamps in a row are far older than those before.

    Args:
        node: that listens.
        late_s: the latest that one transform of a chain may come after the others; they are kept for it.
        longest_gap_s: between two transforms of an edge, that what is between them is interpolated. An edge that turns
            with an acceleration of a rad/s^2 is off by up to a / 8 times the gap squared.
    """

    def __init__(self, node: Node, late_s: float = 0.0, longest_gap_s: float = 0.5) -> None:
        self._kept_ns = round(1e9 * (_KEPT_S + late_s))
        self.refused, self.problem = 0, ""
        self._tree = TransformTree(round(1e9 * longest_gap_s))
        self._static_parents: dict[str, str] = {}
        self._behind: set[Edge] = set()  # edges whose last stamp was far older than those before
        self._lock = threading.Lock()
        back = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
        # kept: the clock holds it by address alone
        self._jumps = node.get_clock().create_jump_callback(back, post_callback=lambda jump: self._forget())
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
                self._insert((parent, child), nanoseconds(transform.header.stamp), *fields)

    def _insert(self, edge: Edge, stamp_ns: int, translation: Any, rotation: Any) -> None:
        series = self._tree.series(edge)
        first, newest = series.span_ns or (stamp_ns, stamp_ns)
        if stamp_ns >= newest - _BACK_NS:
            self._behind.discard(edge)
        elif edge in self._behind:
            self._behind.remove(edge)
            series.forget_before(newest + 1)
        else:
            self._behind.add(edge)  # one by itself may be of a second publisher, or have been long on its way
            return
        series.add_fields(stamp_ns, translation, rotation)
        if first < stamp_ns - 2 * self._kept_ns:
            series.forget_before(stamp_ns - self._kept_ns)

    def _forget(self) -> None:
        with self._lock:
            self._tree.forget_moving()
            self._behind.clear()

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
