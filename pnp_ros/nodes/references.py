"""References of the fine-tuning that ROS brings: TF, or a topic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from pnp_ros.adaptation.observation import Observation
from pnp_ros.adaptation.references.reference import PoseReference, Reference, board_reference
from pnp_ros.adaptation.references.self_supervision import SelfReference
from pnp_ros.evaluation.pose_source import PoseSource, PoseSourceKind
from pnp_ros.nodes.parameters import check_topics
from pnp_ros.nodes.ros_compat import STEADY_CLOCK, message_class
from pnp_ros.nodes.transform_history import TransformHistory
from pnp_ros.types import Pose

_LIVE = PoseSourceKind.SELF, PoseSourceKind.TF, PoseSourceKind.TOPIC, PoseSourceKind.BOARD
_SEARCH_S = 1.0  # between two looks for the reference's publisher
_LONGEST_GAP_S = 0.1  # what is learnt from must be nearer to the truth than an estimate
_DEPTH = 200
_VALUES: dict[str, Callable[[Any], tuple[Any, Any]]] = {  # position and orientation by type
    "geometry_msgs/msg/PoseStamped": lambda m: (m.pose.position, m.pose.orientation),
    "geometry_msgs/msg/PoseWithCovarianceStamped": lambda m: (m.pose.pose.position, m.pose.pose.orientation),
    "geometry_msgs/msg/TransformStamped": lambda m: (m.transform.translation, m.transform.rotation),
    "nav_msgs/msg/Odometry": lambda m: (m.pose.pose.position, m.pose.pose.orientation),
}


def make_reference(node: Node, text: str, late_s: float) -> Reference:
    """The reference of a parameter (:class:`~pnp_ros.evaluation.pose_source.PoseSource`).

    Args:
        node: that listens.
        text: the parameter's.
        late_s: for which an image waits for its reference.

    Raises:
        ValueError: if it is none of them, or the board's file cannot be used.
    """
    try:
        source = PoseSource.parse(text, _LIVE)
        if source.kind is PoseSourceKind.TOPIC:
            check_topics([source.name])
        elif source.kind is PoseSourceKind.BOARD:
            return board_reference(Path(source.name).expanduser())
    except ValueError as error:
        raise ValueError(f"parameter reference: {error}") from error
    if source.kind is PoseSourceKind.TF:
        return TransformReference(TransformHistory(node, late_s, _LONGEST_GAP_S), source.name, str(source))
    return TopicReference(node, source.name, late_s) if source.kind is PoseSourceKind.TOPIC else SelfReference()


class TransformReference(PoseReference):
    """A frame on ``/tf``. What the estimator itself publishes there does not count.

    Args:
        history: of the transforms.
        frame: of the object.
        name: of the reference, for messages.
    """

    late = True

    def __init__(self, history: TransformHistory, frame: str, name: str) -> None:
        self._history, self._frame, self.name = history, frame, name

    @property
    def refused(self) -> int:
        """How many transforms were invalid."""
        return self._history.refused

    def find(self, observation: Observation) -> Pose | str:
        """See :class:`~pnp_ros.adaptation.references.reference.PoseReference`."""
        own = observation.object_id.lstrip("/")
        if own == self._frame:
            return "the estimator publishes it itself; use the reference self"
        found = self._history.lookup(observation.frame_id, self._frame, observation.stamp_ns, without=own)
        why = self._history.problem
        return f"{found} ({why})" if isinstance(found, str) and why else found


class TopicReference(TransformReference):
    """Poses on a topic, of any of four types, in the camera's frame or one that ``/tf`` connects with it.

    The type is the publisher's. Each pose becomes a transform from its frame to one named as the topic.
    """

    def __init__(self, node: Node, topic: str, late_s: float) -> None:
        history = TransformHistory(node, late_s, _LONGEST_GAP_S)
        super().__init__(history, f"reference{node.resolve_topic_name(topic)}", f"topic:{topic}")
        self._node, self._topic = node, node.resolve_topic_name(topic)
        self._why_none = "nobody publishes it"
        self._search = node.create_timer(_SEARCH_S, self._look_for_publisher, clock=STEADY_CLOCK)
        self._found = False

    def find(self, observation: Observation) -> Pose | str:
        """See :class:`~pnp_ros.adaptation.references.reference.PoseReference`."""
        return super().find(observation) if self._found else self._why_none

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
            self._why_none = f"expected one of {known}, got {min(kinds)}"

    def _add(self, message: Any) -> None:
        position, orientation = self._values(message)
        transform = TransformStamped(header=message.header, child_frame_id=self._frame)
        transform.transform.translation.x = position.x
        transform.transform.translation.y = position.y
        transform.transform.translation.z = position.z
        transform.transform.rotation = orientation
        self._history.add(transform)
