"""What an estimator publishes for each image."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.overlay import GREEN, ORANGE, MeshOverlay
from pnp_ros.msg import Correspondences, ObjectPose, ObjectPoseArray
from pnp_ros.nodes import conversions
from pnp_ros.nodes.ros_compat import detection_array, transform_broadcaster
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState

_COLOURS = {ObjectState.VALID: GREEN, ObjectState.UNCERTAIN: ORANGE}


class PoseOutputs:
    """The publishers of one node; display topics cost nothing while nobody listens.

    Args:
        node: with the parameters ``publish_uncertain`` and ``publish_tf``.
    """

    def __init__(self, node: LifecycleNode) -> None:
        def publisher(kind: type, topic: str, depth: int = 10) -> Any:
            options = QoSOverridingOptions.with_default_policies()
            return node.create_lifecycle_publisher(kind, topic, depth, qos_overriding_options=options)

        self._node, self._publisher = node, publisher
        self._poses: dict[str, Any] = {}
        keep_publishers(node, self._poses, {}, self._pose_of)
        self._objects = publisher(ObjectPoseArray, "~/objects")
        self._correspondences = publisher(Correspondences, "~/correspondences")
        self._markers = publisher(MarkerArray, "~/markers")
        self._overlay = publisher(Image, "~/overlay", 2)
        array = detection_array()
        self._detections = None if array is None else publisher(array, "~/detections")
        self._tf = transform_broadcaster(node)

    def describe(self, packages: Mapping[str, ObjectPackage], topics: Mapping[str, str]) -> None:
        """Say what the poses will be of: the object, and its topic (:func:`topics_of`), by its frame."""
        self._bounds = {frame: package.mesh.bounds for frame, package in packages.items()}
        drawings = {package.name: MeshOverlay(package.mesh) for package in packages.values()}
        self._drawings = {frame: drawings[package.name] for frame, package in packages.items()}
        self._topics = topics
        keep_publishers(self._node, self._poses, topics, self._pose_of)

    def _pose_of(self, topic: str) -> Any:
        return self._publisher(PoseWithCovarianceStamped, f"~/{topic}/pose" if topic else "~/pose")

    def publish(
        self,
        header: Header,
        rgb: np.ndarray,
        camera: Camera,
        estimates: Mapping[str, ObjectEstimate],
        latency: dict[str, float],
    ) -> None:
        """Publish all that is known from one image.

        Args:
            estimates: by the object's frame.
        """
        uncertain = self._node.get_parameter("publish_uncertain").value
        objects = [conversions.object_pose(found, object_id) for object_id, found in estimates.items()]
        for message, (object_id, found) in zip(objects, estimates.items()):
            shown = found.state is ObjectState.VALID or (uncertain and found.state is ObjectState.UNCERTAIN)
            if found.estimate is not None and shown:
                self._poses[self._topics[object_id]].publish(
                    PoseWithCovarianceStamped(header=header, pose=message.pose)
                )
                if self._node.get_parameter("publish_tf").value:
                    self._tf.sendTransform(conversions.transform_from_message(header, object_id, message.pose.pose))
            if found.correspondences is not None and self._correspondences.get_subscription_count():
                points = conversions.correspondences_message(header, object_id, found.correspondences, found.estimate)
                self._correspondences.publish(points)
        self._objects.publish(conversions.object_poses(header, objects, latency))
        if self._detections is not None:
            good = [item for item in objects if item.state == ObjectPose.VALID]
            self._detections.publish(conversions.detections(header, good, self._bounds))
        if self._markers.get_subscription_count():
            markers = [
                marker
                for name, found in estimates.items()
                for marker in conversions.hypothesis_markers(header, name, self._bounds[name], found)
                or [conversions.box_marker(header, name, self._bounds[name], found)]
            ]
            self._markers.publish(MarkerArray(markers=markers))
        if self._overlay.get_subscription_count():
            self._publish_overlay(header, rgb, camera, estimates)

    def _publish_overlay(
        self, header: Header, rgb: np.ndarray, camera: Camera, estimates: Mapping[str, ObjectEstimate]
    ) -> None:
        for name, found in estimates.items():
            if found.estimate is not None:
                rgb = self._drawings[name].draw(rgb, found.estimate.pose, camera, _COLOURS[found.state])
        self._overlay.publish(conversions.image_from_rgb(header, rgb))


def topics_of(frames: Collection[str], before: Mapping[str, str] | None = None) -> dict[str, str]:
    """The part of a topic's name that stands for each object; empty for a single one.

    It is the object's name with ``_`` in place of what ROS does not allow. Of names that become one the first keeps it,
    the others are numbered: ``mug_1``, ``mug_1_2``.

    Args:
        frames: of all objects.
        before: what it was until now; an object keeps its topics.
    """
    told = {frame: topic for frame, topic in (before or {}).items() if frame in frames}
    if len(frames) == 1 and not told:
        return dict.fromkeys(frames, "")
    new = [frame for frame in frames if frame not in told]
    for frame in sorted(new, key=lambda frame: _token(frame) != frame):  # a name that is allowed is kept as it is
        token = _token(frame)
        numbered = itertools.chain([token], (f"{token}_{number}" for number in itertools.count(2)))
        told[frame] = next(topic for topic in numbered if topic not in told.values())
    return {frame: told[frame] for frame in frames}


def _token(frame: str) -> str:
    """A name as a part of a topic's: ASCII letters, digits and ``_``, a letter first (``_`` would hide the topic)."""
    token = re.sub(r"\W", "_", frame, flags=re.ASCII)
    return token if token[:1].isalpha() else f"object_{token}"


def keep_publishers(
    node: LifecycleNode, publishers: dict[str, Any], topics: Mapping[str, str], make: Callable[[str], Any]
) -> None:
    """One publisher for each topic, made or destroyed where objects came or went; that of ``""`` is always there."""
    wanted = {"", *topics.values()}
    for gone in publishers.keys() - wanted:
        node.destroy_lifecycle_publisher(publishers.pop(gone))
    for new in sorted(wanted - publishers.keys()):
        active = any(publisher.is_activated for publisher in publishers.values())
        publishers[new] = make(new)
        if active:  # else activating the node does it
            publishers[new].on_activate(None)
