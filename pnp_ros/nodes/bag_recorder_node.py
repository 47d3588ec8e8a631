"""Records topics into a bag, as ``ros2 bag record`` does where ROS is fully installed.

It begins when every topic is there, and subscribes as each publisher offers; the bag keeps what they offered. Messages
go into it unopened.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any, cast

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from pnp_ros.io.bag_messages import message_types
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.resources import resource
from pnp_ros.nodes.parameters import Parameters
from pnp_ros.nodes.ros_compat import message_class, run

_LOOK_S, _REPORT_S = 0.1, 10.0
_DEPTH = 200  # messages of a topic that may wait while the disk is busy


class BagRecorderNode(Node):
    """Writes until it is ended."""

    def __init__(self) -> None:
        super().__init__("bag_recorder")
        self.settings = Parameters(self)
        declare = self.settings.declare
        self._topics = declare("topics", ["/tf"], "Topics to record; recording begins when all of them are there")
        output = declare("output", "bag", "Folder of the bag; must not exist yet")
        storage = declare("storage", "mcap", "Format of the bag", choices=("mcap", "sqlite3"))
        self.settings.settle()
        self._writer = BagWriter(output, cast(Any, storage), message_types(resource("msg")))
        self._counts: Counter[str] = Counter()
        self._look = self.create_timer(_LOOK_S, self._subscribe)
        self.create_timer(_REPORT_S, self._report)

    def _subscribe(self) -> None:
        offers = {topic: self.get_publishers_info_by_topic(topic) for topic in self._topics}
        if missing := [topic for topic in self._topics if not offers[topic]]:
            self.get_logger().info(f"waiting for {', '.join(missing)}", throttle_duration_sec=_REPORT_S)
            return
        self._look.cancel()
        for topic, publishers in offers.items():
            qualities = [publisher.qos_profile for publisher in publishers]
            latched = all(offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in qualities)
            reliable = all(offer.reliability == ReliabilityPolicy.RELIABLE for offer in qualities)
            quality = QoSProfile(
                depth=_DEPTH,
                reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
                durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
            )
            kind = publishers[0].topic_type
            write = partial(self._write, topic, kind, [_offered(offer) for offer in qualities])
            self.create_subscription(message_class(kind), topic, write, quality, raw=True)
        self.get_logger().info(f"recording {len(self._topics)} topics to {self._writer.path}")

    def _write(self, topic: str, kind: str, offered: list[Qos], data: bytes) -> None:
        self._writer.write_serialized(topic, kind, data, self.get_clock().now().nanoseconds, offered=offered)
        self._counts[topic] += 1

    def _report(self) -> None:
        if self._counts:
            self.get_logger().info(f"recorded {sum(self._counts.values())} messages")

    def destroy_node(self) -> None:
        """Finish the bag, without which it has no index."""
        self._writer.close()
        super().destroy_node()


def _offered(quality: QoSProfile) -> Qos:
    """A publisher's quality of service as bags keep it, with rmw's numbers; history is not told to other processes."""
    return Qos(
        history=QosHistory(quality.history.value),
        depth=quality.depth,
        reliability=QosReliability(quality.reliability.value),
        durability=QosDurability(quality.durability.value),
        deadline=_time(quality.deadline),
        lifespan=_time(quality.lifespan),
        liveliness=QosLiveliness(quality.liveliness.value),
        liveliness_lease_duration=_time(quality.liveliness_lease_duration),
        avoid_ros_namespace_conventions=quality.avoid_ros_namespace_conventions,
    )


def _time(duration: Duration) -> QosTime:
    return QosTime(*divmod(duration.nanoseconds, 1_000_000_000))


def main(args: list[str] | None = None) -> None:
    """Run the node."""
    run(BagRecorderNode, args)


if __name__ == "__main__":
    main()
