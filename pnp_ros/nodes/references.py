"""Where the fine-tuning gets true poses from: TF, a topic, a board in the image, or the estimator itself."""

from __future__ import annotations

import bisect
import math
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

from pnp_ros.evaluation.pose_source import PoseSource, PoseSourceKind
from pnp_ros.io.transforms import TransformTree
from pnp_ros.nodes.conversions import nanoseconds
from pnp_ros.nodes.observation_queue import Sample
from pnp_ros.nodes.ros_compat import message_class
from pnp_ros.types import Pose

_LIVE = PoseSourceKind.SELF, PoseSourceKind.TF, PoseSourceKind.TOPIC, PoseSourceKind.BOARD
_KEPT_NS = 10_000_000_000  # transforms older than this say nothing about an image that still waits
_QUATERNION_TOLERANCE = 1e-2  # of the squared norm, as in tf2
_SEARCH_S = 1.0  # between two looks for the reference's publisher
_DEPTH = 200
_VALUES: dict[str, Callable[[Any], tuple[Any, Any]]] = {  # position and orientation by type
    "geometry_msgs/msg/PoseStamped": lambda m: (m.pose.position, m.pose.orientation),
    "geometry_msgs/msg/PoseWithCovarianceStamped": lambda m: (m.pose.pose.position, m.pose.pose.orientation),
    "geometry_msgs/msg/TransformStamped": lambda m: (m.transform.translation, m.transform.rotation),
    "nav_msgs/msg/Odometry": lambda m: (m.pose.pose.position, m.pose.pose.orientation),
}


class Reference(Protocol):
    """Tells the true pose of the object in an image."""

    @property
    def late(self) -> bool:
        """Whether the answer may come some time after the image."""

    @property
    def refused(self) -> int:
        """How many values were not poses, for example because they were not finite."""

    @property
    def problem(self) -> str:
        """What was wrong the last time, in words."""

    def find(self, sample: Sample) -> Pose | None:
        """``T_camera_object``, float64; None where it is not known, and then ``problem`` says why."""


def make_reference(node: Node, text: str) -> Reference | None:
    """The reference of a parameter (:class:`~pnp_ros.evaluation.pose_source.PoseSource`); None for ``self``.

    Raises:
        ValueError: if it is none of them, or the board's file cannot be used.
    """
    try:
        source = PoseSource.parse(text, _LIVE)
    except ValueError as error:
        raise ValueError(f"parameter reference: {error}") from error
    if source.kind is PoseSourceKind.TF:
        return TransformReference(TransformHistory(node), source.name, str(source))
    if source.kind is PoseSourceKind.TOPIC:
        return TopicReference(node, source.name)
    return BoardInImage(Path(source.name)) if source.kind is PoseSourceKind.BOARD else None


class TransformHistory:
    """The last seconds of ``/tf`` and all of ``/tf_static``. Invalid transforms are left out and counted."""

    def __init__(self, node: Node) -> None:
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
        problem = wrong_with(transform.transform.translation, transform.transform.rotation)
        if not parent:
            problem = "header.frame_id: expected a frame, got nothing"
        with self._lock:
            if problem:
                self.refused, self.problem = self.refused + 1, f"{parent} to {child}: {problem}"
            elif static:
                self._static[child] = transform
            else:
                self._insert(self._moving[parent, child], nanoseconds(transform.header.stamp), transform)

    @staticmethod
    def _insert(entries: list[tuple[int, TransformStamped]], stamp_ns: int, transform: TransformStamped) -> None:
        if entries and stamp_ns < entries[-1][0] - _KEPT_NS:
            entries.clear()  # time jumped back, as where a bag begins again
        bisect.insort(entries, (stamp_ns, transform), key=lambda entry: entry[0])
        if entries[0][0] < stamp_ns - 2 * _KEPT_NS:
            del entries[: bisect.bisect(entries, stamp_ns - _KEPT_NS, key=lambda entry: entry[0])]

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


class TransformReference:
    """A frame on ``/tf``. What the estimator itself publishes there does not count.

    Args:
        history: of the transforms.
        frame: of the object.
        name: of the reference, for messages.
    """

    late = True

    def __init__(self, history: TransformHistory, frame: str, name: str) -> None:
        self.problem = ""
        self._history, self._frame, self._name = history, frame, name

    @property
    def refused(self) -> int:
        """How many transforms were invalid."""
        return self._history.refused

    def find(self, sample: Sample) -> Pose | None:
        """See :class:`Reference`."""
        own = sample.objects.objects[0].object_id.lstrip("/") if sample.objects.objects else ""
        if own == self._frame:
            self.problem = f"{self._name}: the estimator publishes it itself; use the reference self"
            return None
        found = self._history.lookup(sample.frame_id, self._frame, sample.stamp_ns, without=own)
        if isinstance(found, Pose):
            self.problem = ""
            return found
        why = f" ({self._history.problem})" if self._history.problem else ""
        self.problem = f"{self._name}: {found}{why}"
        return None


class TopicReference(TransformReference):
    """Poses on a topic, of any of four types, in the camera's frame or one that ``/tf`` connects with it.

    The type is the publisher's. Each pose becomes a transform from its frame to one named as the topic.
    """

    def __init__(self, node: Node, topic: str) -> None:
        super().__init__(TransformHistory(node), f"reference{node.resolve_topic_name(topic)}", f"topic:{topic}")
        self._node, self._topic = node, node.resolve_topic_name(topic)
        self._why_none = f"topic:{topic}: nobody publishes it"
        self._search = node.create_timer(_SEARCH_S, self._look_for_publisher)
        self._found = False

    def find(self, sample: Sample) -> Pose | None:
        """See :class:`Reference`."""
        if self._found:
            return super().find(sample)
        self.problem = self._why_none
        return None

    def _look_for_publisher(self) -> None:
        kinds = {info.topic_type for info in self._node.get_publishers_info_by_topic(self._topic)}
        for kind in sorted(kinds & _VALUES.keys()):
            self._values = _VALUES[kind]
            quality = QoSProfile(depth=_DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
            self._node.create_subscription(message_class(kind), self._topic, self._add, quality)
            self._search.cancel()
            self._found = True
            return
        if kinds:
            known = ", ".join(kind.rpartition("/")[2] for kind in _VALUES)
            self._why_none = f"{self._name}: expected one of {known}, got {min(kinds)}"

    def _add(self, message: Any) -> None:
        position, orientation = self._values(message)
        transform = TransformStamped(header=message.header, child_frame_id=self._frame)
        transform.transform.translation.x = position.x
        transform.transform.translation.y = position.y
        transform.transform.translation.z = position.z
        transform.transform.rotation = orientation
        self._history.add(transform)


class BoardInImage:
    """A board that is seen in the image itself.

    Args:
        path: of its description.

    Raises:
        BoardError: naming the file and the field.
    """

    late = False

    def __init__(self, path: Path) -> None:
        from pnp_ros.multiview.board import BoardReference, read_board

        self.refused, self.problem = 0, ""
        self._board, self._name = BoardReference(read_board(path)), f"board:{path}"

    def find(self, sample: Sample) -> Pose | None:
        """See :class:`Reference`."""
        found = self._board.pose(sample.rgb, sample.camera)
        self.problem = "" if found is not None else f"{self._name}: not seen, or not well enough to be sure of its pose"
        return found


def wrong_with(position: Any, orientation: Any) -> str:
    """What makes a message's values no pose, in words; nothing if they are one."""
    if not all(math.isfinite(value) for value in (position.x, position.y, position.z)):
        return "the position is not finite"
    quat = (orientation.x, orientation.y, orientation.z, orientation.w)
    squared = sum(value * value for value in quat)
    if not abs(squared - 1.0) <= _QUATERNION_TOLERANCE:  # also where it is NaN
        return f"the quaternion's length is {math.sqrt(squared):.3g}, expected 1"
    return ""
