"""Plays a bag, as ``ros2 bag play`` does where ROS is fully installed; bags of ROS 1 too.

Messages are published unopened, at the times they were recorded. Everything is published reliably, which every kind of
subscriber accepts; topics that were latched stay so. With ``clock`` the recorded time is published on ``/clock``.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from pnp_ros.io.bag_messages import message_types
from pnp_ros.io.bag_reader import BagReader
from pnp_ros.io.resources import resource
from pnp_ros.nodes.parameters import Parameters
from pnp_ros.nodes.ros_compat import STEADY_CLOCK, has_message_class, message_class, run

# The last message lies in this process's memory until its subscribers have read it; and time goes on for them, so that
# what they report once a second tells of the last message too.
_LINGER_S = 1.5
_DEPTH = 100
_LOOK_S = 0.05


class BagPlayerNode(Node):
    """Plays once or for ever, and ends the process after the last message; with status 1 where the bag is damaged."""

    def __init__(self) -> None:
        super().__init__("bag_player")
        self.settings = Parameters(self)
        declare = self.settings.declare
        path = declare("bag", "", "Bag to play: folder, .mcap, .db3 or .bag")
        topics = declare("topics", [""], "Topics to play; empty: all of them")
        self._speed = declare("rate", 1.0, "Speed: 2.0 plays twice as fast", low=0.01, high=100.0)
        self._clock_hz = declare("clock", 0.0, "Publish /clock so often a second; 0: not", low=0.0, high=1000.0)
        self._loop = declare("loop", False, "Begin again at the end; /clock then jumps back")
        self._wait_for = declare(
            "wait_for_subscribers", 0, "Hold the first message until each topic has so many", low=0, high=1000
        )
        self.settings.settle()
        self._bag = BagReader(os.path.expanduser(path), message_types(resource("msg")))
        self._topics = tuple(self._playable([topic for topic in topics if topic]))
        latched = self._bag.latched()
        self._publishers_of = {topic: self._publisher(topic, topic in latched) for topic in self._topics}
        self._clock_publisher = self.create_publisher(Clock, "/clock", 10) if self._clock_hz else None
        self._counts = dict.fromkeys(self._topics, 0)
        self._ended, self._status = threading.Event(), 1
        self._player = threading.Thread(target=self._play, name="player", daemon=True)
        self._player.start()
        self.create_timer(_LOOK_S, self._end_with_the_player, clock=STEADY_CLOCK)

    def _playable(self, chosen: list[str]) -> list[str]:
        """The chosen topics; of all topics those whose message type this system knows, and the others in the log.

        Raises:
            ValueError: if a chosen one has a type that this system does not know, or there is none to play.
        """
        kinds = self._bag.topics
        if absent := [topic for topic in chosen if topic not in kinds]:
            raise ValueError(f"{self._bag.path}: no topic {', '.join(absent)}")
        told_here = "/clock" if self._clock_hz and not chosen else ""
        wanted = chosen or [topic for topic in kinds if topic != told_here]
        strange = [topic for topic in wanted if not has_message_class(kinds[topic])]
        known = [topic for topic in wanted if topic not in strange]
        words = ", ".join(f"{topic} ({kinds[topic]})" for topic in strange)
        if strange and (chosen or not known):
            raise ValueError(f"{self._bag.path}: no such message type here: {words}")
        if not known:
            raise ValueError(f"{self._bag.path}: no topic to play beside /clock")
        if strange:
            self.get_logger().warning(f"left out, no such message type here: {words}")
        return known

    def _publisher(self, topic: str, latched: bool) -> Any:
        quality = QoSProfile(
            depth=_DEPTH,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        return self.create_publisher(message_class(self._bag.topics[topic]), topic, quality)

    def _play(self) -> None:
        try:
            self._wait_for_subscribers()
            while not self._ended.is_set():
                begin = time.monotonic()
                self._play_once(begin)
                if not self._loop:
                    first_ns, last_ns = self._bag.span_ns
                    self._sleep_until(begin, first_ns, last_ns + round(1e9 * _LINGER_S * self._speed))
                    break
            self._status = 0
        except ValueError as error:  # a damaged bag: it names the file
            self.get_logger().error(str(error))
        except rclpy_implementation.RCLError:
            if self.context.ok():  # else a signal ended it while this thread was publishing
                raise
        finally:
            self._ended.set()

    def _wait_for_subscribers(self) -> None:
        while not self._ended.is_set():
            counts = [publisher.get_subscription_count() for publisher in self._publishers_of.values()]
            if all(count >= self._wait_for for count in counts):
                return
            self.get_logger().info(f"waiting for {self._wait_for} subscribers of each topic", throttle_duration_sec=5.0)
            self._ended.wait(_LOOK_S)

    def _play_once(self, begin: float) -> None:
        first_ns = self._bag.span_ns[0]
        for topic, _, stamp_ns, cdr in self._bag.serialized(*self._topics):
            self._sleep_until(begin, first_ns, stamp_ns)
            if self._ended.is_set():
                return
            self._publishers_of[topic].publish(bytes(cdr))
            self._counts[topic] += 1
        late = time.monotonic() - begin - 1e-9 * (self._bag.span_ns[1] - first_ns) / self._speed
        self.get_logger().info(f"played {sum(self._counts.values())} messages, {1e3 * late:.0f} ms behind at the end")

    def _sleep_until(self, begin: float, first_ns: int, stamp_ns: int) -> None:
        """Wait for a message's turn, and tell the recorded time meanwhile."""
        due = begin + 1e-9 * (stamp_ns - first_ns) / self._speed
        while (left := due - time.monotonic()) > 0 and not self._ended.is_set():
            if self._clock_publisher is None:
                self._ended.wait(left)
            else:
                self._tell(stamp_ns - round(1e9 * left * self._speed))
                self._ended.wait(min(left, 1.0 / self._clock_hz))
        if self._clock_publisher is not None:
            self._tell(stamp_ns)

    def _tell(self, time_ns: int) -> None:
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(time_ns, 1_000_000_000)
        assert self._clock_publisher is not None
        self._clock_publisher.publish(message)

    def _end_with_the_player(self) -> None:
        if self._ended.is_set():
            raise SystemExit(self._status)

    def destroy_node(self) -> None:
        """Stop the player before what it publishes on is gone."""
        self._ended.set()
        self._player.join()
        self._bag.close()
        super().destroy_node()


def main(args: list[str] | None = None) -> None:
    """Run the node."""
    run(BagPlayerNode, args)


if __name__ == "__main__":
    main()
