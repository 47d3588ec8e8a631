"""The object's motion as ``~/odometry``: filtered over the images, with velocity, for now or for the image's time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.lifecycle import LifecycleNode
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time
from std_msgs.msg import Header

from pnp_ros.filtering.pose_filter import FilterConfig, PoseFilter
from pnp_ros.geometry import covariance
from pnp_ros.nodes import conversions
from pnp_ros.nodes.parameters import Parameters
from pnp_ros.nodes.pose_outputs import keep_publishers
from pnp_ros.nodes.transform_history import TransformHistory
from pnp_ros.nodes.transform_queue import TransformQueue
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState


class OdometryOutput:
    """Publisher of the filtered motion; costs nothing while nobody listens.

    Args:
        node: that publishes.
        parameters: of the node; ``fixed_frame``, ``odometry_for`` and ``filter.*`` are declared here.
    """

    def __init__(self, node: LifecycleNode, parameters: Parameters) -> None:
        parameters.declare(
            "fixed_frame", "", "TF frame in which ~/odometry is filtered, for a camera that moves; empty: the camera's"
        )
        parameters.declare(
            "odometry_for",
            "now",
            "Time that ~/odometry tells: now (the time of processing is made up for) or the image's; off: none",
            choices=("now", "image", "off"),
            live=True,
        )
        parameters.declare_config("filter", FilterConfig)
        self._node, self._parameters = node, parameters
        self._publishers: dict[str, Any] = {}
        keep_publishers(node, self._publishers, {}, self._publisher_of)
        self._transforms: TransformHistory | None = None
        self._filters: dict[str, PoseFilter] = {}
        self._waiting: dict[str, TransformQueue[ObjectEstimate]] = {}  # by the object's frame

    def configure(self, topics: Mapping[str, str]) -> None:
        """Begin anew with the parameters' values, for the objects of these frames, each with its topic."""
        self._filters.clear()
        self._waiting.clear()
        self._fixed = self._node.get_parameter("fixed_frame").value.lstrip("/")
        if self._fixed and self._transforms is None:
            self._transforms = TransformHistory(self._node)
        self.describe(topics)

    def describe(self, topics: Mapping[str, str]) -> None:
        """Go on with these objects; the motion of those that were there before is kept."""
        config = self._parameters.read_config("filter", FilterConfig)
        self._filters = {frame: self._filters.get(frame) or PoseFilter(config) for frame in topics}
        if self._transforms is not None and self._fixed:
            new = TransformQueue[ObjectEstimate]
            waits = self._transforms, self._fixed, config.memory
            self._waiting = {frame: self._waiting.get(frame) or new(*waits) for frame in topics}
        self._topics = topics
        keep_publishers(self._node, self._publishers, topics, self._publisher_of)

    def reset(self) -> None:
        """Forget the motion."""
        for motion in self._filters.values():
            motion.reset()
        for waiting in self._waiting.values():
            waiting.clear()

    def _publisher_of(self, topic: str) -> Any:
        options = QoSOverridingOptions.with_default_policies()
        name = f"~/{topic}/odometry" if topic else "~/odometry"
        return self._node.create_lifecycle_publisher(Odometry, name, 10, qos_overriding_options=options)

    def publish(self, header: Header, object_frame: str, found: ObjectEstimate) -> None:
        """Take in what one image told of the object, and publish where it is and how it moves.

        An object that is not valid in the image, or of which TF does not tell yet where the camera was, is predicted
        for ``filter.patience`` seconds.
        """
        track, publisher = self._filters[object_frame], self._publishers[self._topics[object_frame]]
        waiting = self._waiting.get(object_frame)
        if self._node.get_parameter("odometry_for").value == "off" or not publisher.get_subscription_count():
            track.reset()
            if waiting is not None:
                waiting.clear()
            return
        if waiting is not None:
            self._take_in(track, waiting, header, found)
        elif found.state is ObjectState.VALID and found.estimate is not None:
            track.update(found.estimate, conversions.seconds(header.stamp))
        stamp = self._told_stamp(header, track.config.patience)
        motion = track.predict(conversions.seconds(stamp))
        if motion is not None:
            frame = Header(stamp=stamp, frame_id=self._fixed or header.frame_id)
            publisher.publish(conversions.odometry(frame, object_frame, motion))

    def _take_in(
        self, track: PoseFilter, waiting: TransformQueue[ObjectEstimate], header: Header, found: ObjectEstimate
    ) -> None:
        """Give the filter the valid poses of which TF tells by now where the camera was."""
        if found.state is ObjectState.VALID:
            waiting.put(header, found)
        for seen_at, camera, seen in waiting.get(header):
            assert seen.estimate is not None
            common = seen.systematic
            track.update(
                covariance.in_frame(camera, seen.estimate),
                conversions.seconds(seen_at.stamp),
                None if common is None else covariance.turned(common.cpu(), camera.rotation),
            )
        if problem := waiting.problem():
            self._node.get_logger().warning(problem, throttle_duration_sec=10.0)

    def _told_stamp(self, header: Header, patience: float) -> Any:
        """Now, where the clock is that of the images; else the image's time."""
        now = self._node.get_clock().now()
        age = 1e-9 * (now - Time.from_msg(header.stamp, clock_type=now.clock_type)).nanoseconds
        current = self._node.get_parameter("odometry_for").value == "now" and 0.0 <= age <= patience
        return now.to_msg() if current else header.stamp
