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
from pnp_ros.io.stamps import nanoseconds
from pnp_ros.nodes import conversions
from pnp_ros.nodes.parameters import Parameters
from pnp_ros.nodes.pose_outputs import keep_publishers
from pnp_ros.nodes.transform_history import TransformHistory
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.types import Pose


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

    def configure(self, topics: Mapping[str, str]) -> None:
        """Begin anew with the parameters' values, for the objects of these frames, each with its topic."""
        self._filters.clear()
        self._fixed = self._node.get_parameter("fixed_frame").value.lstrip("/")
        if self._fixed and self._transforms is None:
            self._transforms = TransformHistory(self._node)
        self.describe(topics)

    def describe(self, topics: Mapping[str, str]) -> None:
        """Go on with these objects; the motion of those that were there before is kept."""
        config = self._parameters.read_config("filter", FilterConfig)
        self._filters = {frame: self._filters.get(frame) or PoseFilter(config) for frame in topics}
        self._topics = topics
        keep_publishers(self._node, self._publishers, topics, self._publisher_of)

    def reset(self) -> None:
        """Forget the motion."""
        for motion in self._filters.values():
            motion.reset()

    def _publisher_of(self, topic: str) -> Any:
        options = QoSOverridingOptions.with_default_policies()
        name = f"~/{topic}/odometry" if topic else "~/odometry"
        return self._node.create_lifecycle_publisher(Odometry, name, 10, qos_overriding_options=options)

    def publish(self, header: Header, object_frame: str, found: ObjectEstimate) -> None:
        """Take in what one image told of the object, and publish where it is and how it moves.

        An object that is not valid in the image is predicted for ``filter.patience`` seconds.
        """
        track, publisher = self._filters[object_frame], self._publishers[self._topics[object_frame]]
        if self._node.get_parameter("odometry_for").value == "off" or not publisher.get_subscription_count():
            track.reset()
            return
        if found.state is ObjectState.VALID and not self._taken_in(track, header, found):
            return
        stamp = self._told_stamp(header, track.config.patience)
        motion = track.predict(conversions.seconds(stamp))
        if motion is not None:
            frame = Header(stamp=stamp, frame_id=self._fixed or header.frame_id)
            publisher.publish(conversions.odometry(frame, object_frame, motion))

    def _taken_in(self, track: PoseFilter, header: Header, found: ObjectEstimate) -> bool:
        """Give the filter a valid pose; False, and a warning, where TF does not tell where the camera was."""
        assert found.estimate is not None
        if not self._fixed:
            track.update(found.estimate, conversions.seconds(header.stamp))
            return True
        assert self._transforms is not None
        camera = self._transforms.lookup(self._fixed, header.frame_id, nanoseconds(header.stamp))
        if not isinstance(camera, Pose):
            self._node.get_logger().warning(f"fixed_frame {self._fixed}: {camera}", throttle_duration_sec=10.0)
            return False
        common = found.systematic
        track.update(
            covariance.in_frame(camera, found.estimate),
            conversions.seconds(header.stamp),
            None if common is None else covariance.turned(common.cpu(), camera.rotation),
        )
        return True

    def _told_stamp(self, header: Header, patience: float) -> Any:
        """Now, where the clock is that of the images; else the image's time."""
        now = self._node.get_clock().now()
        age = 1e-9 * (now - Time.from_msg(header.stamp, clock_type=now.clock_type)).nanoseconds
        current = self._node.get_parameter("odometry_for").value == "now" and 0.0 <= age <= patience
        return now.to_msg() if current else header.stamp
