"""Several cameras, one pose: fuses what one estimator for each camera says, and names a camera that was bumped.

Subscribes: the topics of ``poses`` (geometry_msgs/PoseWithCovarianceStamped, such as each estimator's ``~/pose``),
``/tf``, ``/tf_static``. Publishes: ``~/pose`` in ``fixed_frame``, ``/tf`` where ``object_frame`` is given,
``/diagnostics``. All of the work is done by :mod:`pnp_ros.filtering.rig`.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import Header

from pnp_ros.filtering.pose_filter import FilterConfig
from pnp_ros.filtering.rig import Rig, RigPose
from pnp_ros.geometry import covariance
from pnp_ros.io.stamps import nanoseconds
from pnp_ros.nodes import conversions
from pnp_ros.nodes.parameters import Parameters
from pnp_ros.nodes.ros_compat import STEADY_CLOCK, run, transform_broadcaster, wall_time
from pnp_ros.nodes.transform_history import TransformHistory
from pnp_ros.types import Pose, PoseEstimate

_REPORT_S = 1.0
_OFTEN = 0.5  # share of the poses since the last report in which a camera must contradict the rest to be named


class PoseFusionNode(Node):
    """Publishes whenever a camera told something new."""

    def __init__(self) -> None:
        super().__init__("pose_fusion")
        self.settings = Parameters(self)
        declare = self.settings.declare
        topics = [topic for topic in declare("poses", [""], "Topics of the poses to fuse, one a camera") if topic]
        self._fixed = declare("fixed_frame", "", "TF frame in which the places of the cameras are known").lstrip("/")
        self._object = declare("object_frame", "", "TF frame of the fused pose; empty: no transform").lstrip("/")
        gate = declare("gate", 22.5, "Squared Mahalanobis distance that a camera may be off", low=1.0, high=1e12)
        self.settings.declare_config("filter", FilterConfig)
        self.settings.check()
        if len(set(topics)) < max(2, len(topics)):
            raise ValueError(f"parameter poses: expected two topics or more, each once, got {topics}")
        if not self._fixed:
            raise ValueError("parameter fixed_frame: expected a TF frame, got nothing")
        self._rig = Rig(topics, self.settings.read_config("filter", FilterConfig), gate)
        self._transforms, self._problem = TransformHistory(self), ""
        self._told: Counter[str] = Counter({topic: 0 for topic in topics})  # since the last report
        self._refused: Counter[str] = Counter()
        self._fused = self._open = 0
        options = QoSOverridingOptions.with_default_policies()
        self._pose = self.create_publisher(PoseWithCovarianceStamped, "~/pose", 10, qos_overriding_options=options)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._tf = transform_broadcaster(self)
        for topic in topics:
            heard, profile = partial(self._on_pose, topic), qos_profile_sensor_data
            self.create_subscription(PoseWithCovarianceStamped, topic, heard, profile, qos_overriding_options=options)
        self.create_timer(_REPORT_S, self._report, clock=STEADY_CLOCK)

    def _on_pose(self, topic: str, message: PoseWithCovarianceStamped) -> None:
        stamp_ns = nanoseconds(message.header.stamp)
        camera = self._transforms.lookup(self._fixed, message.header.frame_id, stamp_ns)
        if not isinstance(camera, Pose):
            self._problem = f"{topic}: {camera}"
            return
        pose = conversions.pose_from_message(message.pose.pose)
        own = torch.tensor(message.pose.covariance, dtype=torch.float64).reshape(6, 6)
        self._told[topic] += 1
        told = self._rig.update(topic, covariance.in_frame(camera, PoseEstimate.of(pose, own)), 1e-9 * stamp_ns)
        if told is not None:
            self._publish(told)

    def _publish(self, told: RigPose) -> None:
        fused = told.fused
        self._fused += 1
        self._refused.update(fused.refused)
        if fused.estimate is None:
            self._open += 1
            return
        stamp = conversions.stamp_of(told.stamp)
        frame = Header(stamp=stamp, frame_id=self._fixed)
        self._pose.publish(conversions.stamped_pose(frame, fused.estimate))
        if self._object:
            self._tf.sendTransform(conversions.transform(frame, self._object, fused.estimate.pose))

    def _report(self) -> None:
        """Who told how much, and who contradicts the others; the counts begin anew."""
        wrong = [topic for topic, count in self._refused.items() if count > _OFTEN * max(1, self._fused)]
        silent = [topic for topic, count in self._told.items() if not count]
        level, message = DiagnosticStatus.OK, "fused"
        if silent:
            level, message = DiagnosticStatus.WARN, f"nothing told by {', '.join(silent)}"
        if self._open > _OFTEN * max(1, self._fused):
            level, message = DiagnosticStatus.ERROR, f"{' and '.join(self._told)} contradict each other"
        if wrong:
            level = DiagnosticStatus.ERROR
            message = f"{', '.join(wrong)} contradicts the others: was this camera moved?"
        if self._problem and not self._fused:
            level, message = DiagnosticStatus.ERROR, self._problem
        if level == DiagnosticStatus.ERROR:
            self.get_logger().error(message, throttle_duration_sec=5.0)
        values = {"fused": str(self._fused), "last problem": self._problem}
        values |= {f"poses of {topic}": str(count) for topic, count in self._told.items()}
        values |= {f"refused of {topic}": str(self._refused[topic]) for topic in self._told}
        name = f"{self.get_fully_qualified_name().lstrip('/')}: fusion"
        array = DiagnosticArray(status=[conversions.diagnostic_status(level, name, message, values, self._fixed)])
        array.header.stamp = wall_time()
        self._diagnostics.publish(array)
        self._told = Counter({topic: 0 for topic in self._told})
        self._refused.clear()
        self._fused = self._open = 0
        self._problem = ""


def main(args: list[str] | None = None) -> None:
    """Run the node."""
    run(PoseFusionNode, args)


if __name__ == "__main__":
    main()
