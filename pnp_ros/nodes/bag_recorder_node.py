"""Records topics into a bag, as ``ros2 bag record`` does where ROS is fully installed.

It begins when every topic is there, and subscribes as each publisher offers; the bag keeps what they offered. Messages
go into it unopened. While the disk is busy they wait in memory, in so much of it at most; what is lost is counted, and
said.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import Any, cast

from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from pnp_ros.io.bag_messages import IMAGE, BagError, message_types
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.resources import resource
from pnp_ros.nodes.parameters import Parameters, check_topics
from pnp_ros.nodes.ros_compat import STEADY_CLOCK, has_message_class, message_class, run
from pnp_ros.nodes.write_behind import WriteBehind

_LOOK_S, _REPORT_S = 0.1, 10.0
_WAITING_BYTES = 100_000_000  # rosbag2 keeps as much
_DEPTH, _IMAGE_DEPTH = 200, 20  # messages of a topic that may wait in the middleware: images are large
_PATIENCE_S = 8.0  # to write what waits; launch gives ten seconds


class BagRecorderNode(Node):
    """Writes until it is ended."""

    def __init__(self) -> None:
        super().__init__("bag_recorder")
        self.settings = Parameters(self)
        declare = self.settings.declare
        topics = declare(
            "topics", ["/tf"], "Topics to record; recording begins when all of them are there", check=check_topics
        )
        output = declare("output", "bag", "Folder of the bag; must not exist yet")
        storage = declare("storage", "mcap", "Format of the bag", choices=("mcap", "sqlite3"))
        self.settings.settle()
        self._topics = [self.resolve_topic_name(topic) for topic in topics if topic]  # bags hold full names
        if not self._topics:
            raise ValueError("parameter topics: expected one topic or more, got nothing")
        self._writer = BagWriter(os.path.expanduser(output), cast(Any, storage), message_types(resource("msg")))
        self._behind = WriteBehind(self._writer.write_serialized, _WAITING_BYTES)
        self._recorded, self._lost, self._told = 0, 0, 0
        self._look = self.create_timer(_LOOK_S, self._subscribe, clock=STEADY_CLOCK)
        self.create_timer(_LOOK_S, self._end_with_the_disk, clock=STEADY_CLOCK)
        self.create_timer(_REPORT_S, self._report, clock=STEADY_CLOCK)

    def _subscribe(self) -> None:
        offers = {topic: self.get_publishers_info_by_topic(topic) for topic in self._topics}
        missing = [topic for topic in self._topics if not offers[topic]]
        if not self.get_clock().now().nanoseconds:  # the time that messages would be stored with
            missing.append("/clock")
        if missing:
            self.get_logger().info(f"waiting for {', '.join(missing)}", throttle_duration_sec=_REPORT_S)
            return
        self._look.cancel()
        for topic, publishers in offers.items():
            qualities = [publisher.qos_profile for publisher in publishers]
            latched = all(offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in qualities)
            reliable = all(offer.reliability == ReliabilityPolicy.RELIABLE for offer in qualities)
            kind = publishers[0].topic_type
            if not has_message_class(kind):
                self.get_logger().fatal(f"{topic}: no such message type here: {kind}")
                raise SystemExit(1)
            quality = QoSProfile(
                depth=_IMAGE_DEPTH if kind == IMAGE else _DEPTH,
                reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
                durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
            )
            write = partial(self._write, topic, kind, [_offered(offer) for offer in qualities])
            told = SubscriptionEventCallbacks(message_lost=self._on_lost)
            self.create_subscription(message_class(kind), topic, write, quality, raw=True, event_callbacks=told)
        self.get_logger().info(f"recording {len(self._topics)} topics to {self._writer.path}")

    def _write(self, topic: str, kind: str, offered: list[Qos], data: bytes) -> None:
        now = self.get_clock().now().nanoseconds
        self._recorded += self._behind.put(len(data), topic, kind, data, now, False, offered)

    def _on_lost(self, event: Any) -> None:
        self._lost += event.total_count_change

    def _end_with_the_disk(self) -> None:
        if self._behind.failure is not None:
            self.get_logger().fatal(str(self._behind.failure))
            raise SystemExit(1)

    def _report(self, ended: bool = False) -> None:
        logger = get_logger("pnp_ros") if ended else self.get_logger()  # at the end there is no /rosout any more
        if self._recorded:
            logger.info(f"recorded {self._recorded} messages")
        refused = self._behind.refused
        if (lost := self._lost + refused) > self._told:
            self._told = lost
            logger.warning(
                f"lost {lost} messages: {self._lost} on the way, {refused} because disk or computer is too slow"
            )

    def destroy_node(self) -> None:
        """Finish the bag, without which it has no index."""
        self._behind.close()
        self._report(ended=True)
        with contextlib.suppress(BagError) if self._behind.failure else contextlib.nullcontext():
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
    run(BagRecorderNode, args, _PATIENCE_S)


if __name__ == "__main__":
    main()
