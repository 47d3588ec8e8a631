"""Several cameras, one pose: fuses what one estimator for each camera says, and names a camera that was bumped.

Subscribes: the topics of ``poses`` (geometry_msgs/PoseWithCovarianceStamped, such as each estimator's ``~/pose``), of
one object, or those of ``object_topics`` (pnp_ros/ObjectPoseArray, each estimator's ``~/objects``), of any number of
instances; ``/tf``, ``/tf_static``. Publishes ``~/pose`` or ``~/objects`` in ``fixed_frame``, ``/tf`` where
``object_frame`` or ``publish_tf`` asks for it, ``/diagnostics``. All of the work is done by
:mod:`pnp_ros.filtering.rig` and :mod:`pnp_ros.filtering.cell`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovariance, PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import Header

from pnp_ros.filtering.cell import Cell, Sighting
from pnp_ros.filtering.pose_filter import FilterConfig
from pnp_ros.filtering.rig import Rig, RigPose
from pnp_ros.geometry import covariance
from pnp_ros.msg import ObjectPose, ObjectPoseArray
from pnp_ros.nodes import conversions
from pnp_ros.nodes.parameters import Parameters, check_topics
from pnp_ros.nodes.ros_compat import STEADY_CLOCK, run, transform_broadcaster, wall_time
from pnp_ros.nodes.transform_history import TransformHistory
from pnp_ros.nodes.transform_queue import TransformQueue
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.types import Pose, PoseEstimate

T = TypeVar("T")
_REPORT_S = 1.0
_OFTEN = 0.5  # share of the poses since the last report in which a camera must contradict the rest to be named


class PoseFusionNode(Node):
    """Publishes whenever a camera told something new."""

    def __init__(self) -> None:
        super().__init__("pose_fusion")
        self.settings = Parameters(self)
        declare = self.settings.declare
        poses = declare("poses", [""], "Topics of the poses to fuse, one a camera", check=check_topics)
        arrays = declare(
            "object_topics", [""], "In place of poses: topics of all objects' poses, one a camera", check=check_topics
        )
        poses, arrays = ([topic for topic in topics if topic] for topics in (poses, arrays))
        folders = declare("objects", [""], "Folders of the packages of objects with symmetries among object_topics")
        self._fixed = declare("fixed_frame", "", "TF frame in which the places of the cameras are known").lstrip("/")
        self._object = declare("object_frame", "", "TF frame of the fused pose; empty: no transform").lstrip("/")
        self._sends_tf = declare("publish_tf", False, "Send a transform of each fused object of object_topics")
        near = declare("near", 0.1, "Metres between two cameras' poses of one instance at most", low=1e-4, high=100.0)
        gate = declare("gate", 22.5, "Squared Mahalanobis distance that a camera may be off", low=1.0, high=1e12)
        self.settings.declare_config("filter", FilterConfig)
        self.settings.settle()
        name, topics = ("object_topics", arrays) if arrays else ("poses", poses)
        if arrays and poses:
            raise ValueError("parameter poses: expected nothing beside object_topics")
        if len(set(topics)) < max(2, len(topics)):
            raise ValueError(f"parameter {name}: expected two topics or more, each once, got {topics}")
        if not self._fixed:
            raise ValueError("parameter fixed_frame: expected a TF frame, got nothing")
        config = self.settings.read_config("filter", FilterConfig)
        packages = [load_object_package(folder) for folder in folders if folder]
        choose = {each.name: each.symmetry.canonicalise for each in packages if not each.symmetry.is_trivial}
        self._rig, self._cell = Rig(topics, config, gate), Cell(topics, config, gate, near, choose)
        transforms, self._problem = TransformHistory(self), ""
        self._waiting: dict[str, TransformQueue[Any]] = {
            topic: TransformQueue(transforms, self._fixed, config.memory) for topic in topics
        }
        self._told: Counter[str] = Counter({topic: 0 for topic in topics})  # since the last report
        self._refused: Counter[str] = Counter()
        self._fused = self._open = 0
        options = QoSOverridingOptions.with_default_policies()
        sent, kind = ("~/objects", ObjectPoseArray) if arrays else ("~/pose", PoseWithCovarianceStamped)
        self._output = self.create_publisher(kind, sent, 10, qos_overriding_options=options)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._tf = transform_broadcaster(self)
        for topic in topics:
            heard, profile = partial(self._on_objects if arrays else self._on_pose, topic), qos_profile_sensor_data
            self.create_subscription(kind, topic, heard, profile, qos_overriding_options=options)
        self.create_timer(_REPORT_S, self._report, clock=STEADY_CLOCK)

    def _known(self, topic: str, message: Any, read: Callable[[Pose, Any], T]) -> Iterator[tuple[T, float]]:
        """What a camera's messages say of which TF tells by now where it was, and their stamps in seconds.

        Why one was given up is kept.
        """
        waiting = self._waiting[topic]
        waiting.put(message.header, message)
        for header, camera, seen in waiting.get(message.header):
            try:
                told = read(camera, seen)
            except ValueError as error:  # it names the field
                self._problem = f"{topic}: {error}"
                continue
            self._told[topic] += 1
            yield told, conversions.seconds(header.stamp)
        if problem := waiting.problem():
            self._problem = f"{topic}: {problem}"

    def _on_pose(self, topic: str, message: PoseWithCovarianceStamped) -> None:
        for estimate, stamp in self._known(topic, message, lambda camera, seen: _estimate(camera, seen.pose)):
            self._fuse_pose(topic, estimate, stamp)

    def _fuse_pose(self, topic: str, estimate: PoseEstimate, stamp: float) -> None:
        told = self._rig.update(topic, estimate, stamp)
        if told is None or not self._counted(told):
            return
        assert told.fused.estimate is not None
        frame = self._frame(told.stamp)
        self._output.publish(conversions.stamped_pose(frame, told.fused.estimate))
        if self._object:
            self._tf.sendTransform(conversions.transform(frame, self._object, told.fused.estimate.pose))

    def _on_objects(self, topic: str, message: ObjectPoseArray) -> None:
        for sightings, stamp in self._known(topic, message, lambda camera, seen: list(_sightings(camera, seen))):
            self._fuse_objects(topic, sightings, stamp)

    def _fuse_objects(self, topic: str, sightings: list[Sighting], stamp: float) -> None:
        told = self._cell.update(topic, sightings, stamp)
        array = ObjectPoseArray(header=self._frame(max((each.stamp for each in told.values()), default=0.0)))
        for name, each in told.items():
            item = ObjectPose(object_name=self._cell.object_of(name), object_id=name, state=ObjectPose.VALID)
            if not self._counted(each):
                item.state, item.reason = ObjectPose.UNCERTAIN, "two cameras contradict each other"
            item.pose = conversions.pose_with_covariance(each.anchor)
            array.objects.append(item)
            if self._sends_tf and item.state == ObjectPose.VALID:
                self._tf.sendTransform(conversions.transform(array.header, name, each.anchor.pose))
        if told:
            self._output.publish(array)

    def _frame(self, stamp: float) -> Header:
        return Header(stamp=conversions.stamp_of(stamp), frame_id=self._fixed)

    def _counted(self, told: RigPose) -> bool:
        """Whether there is a fused pose; who was refused is counted."""
        self._fused += 1
        self._refused.update(told.fused.refused)
        self._open += told.fused.estimate is None
        return told.fused.estimate is not None

    def _report(self) -> None:
        """Who told how much, and who contradicts the others; the counts begin anew."""
        wrong = [topic for topic, count in self._refused.items() if count > _OFTEN * max(1, self._fused)]
        silent = [topic for topic, count in self._told.items() if not count]
        level, message = DiagnosticStatus.OK, "fused"
        if silent:
            level, message = DiagnosticStatus.WARN, f"nothing told by {', '.join(silent)}"
            message += f" ({self._problem})" if self._problem else ""
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


def _estimate(camera: Pose, message: PoseWithCovariance) -> PoseEstimate:
    """A message's pose and covariance in the fixed frame."""
    return covariance.in_frame(camera, conversions.measured_pose(message))


def _sightings(camera: Pose, message: ObjectPoseArray) -> Iterator[Sighting]:
    """What may be fused: valid poses, and those that are ambiguous with all of their hypotheses."""
    for item in message.objects:
        if item.state == ObjectPose.VALID:
            yield Sighting(item.object_name, (_estimate(camera, item.pose),))
        elif item.state == ObjectPose.UNCERTAIN and item.hypotheses:
            poses = tuple(_estimate(camera, each.pose) for each in item.hypotheses)
            yield Sighting(item.object_name, poses, tuple(float(each.probability) for each in item.hypotheses))


def main(args: list[str] | None = None) -> None:
    """Run the node."""
    run(PoseFusionNode, args)


if __name__ == "__main__":
    main()
