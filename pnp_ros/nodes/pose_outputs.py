"""What an estimator publishes for each image."""

from __future__ import annotations

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

        self._node = node
        self._pose = publisher(PoseWithCovarianceStamped, "~/pose")
        self._objects = publisher(ObjectPoseArray, "~/objects")
        self._correspondences = publisher(Correspondences, "~/correspondences")
        self._markers = publisher(MarkerArray, "~/markers")
        self._overlay = publisher(Image, "~/overlay", 2)
        array = detection_array()
        self._detections = None if array is None else publisher(array, "~/detections")
        self._tf = transform_broadcaster(node)

    def describe(self, package: ObjectPackage, object_frame: str) -> None:
        """Say what the poses will be of."""
        self._bounds, self._frame = package.mesh.bounds, object_frame
        self._drawing = MeshOverlay(package.mesh)

    def publish(
        self,
        header: Header,
        rgb: np.ndarray,
        camera: Camera,
        estimates: list[ObjectEstimate],
        latency: dict[str, float],
    ) -> None:
        """Publish all that is known from one image."""
        ids = [self._frame if i == 0 else f"{self._frame}_{i}" for i in range(len(estimates))]
        uncertain = self._node.get_parameter("publish_uncertain").value
        for object_id, found in zip(ids, estimates):
            shown = found.state is ObjectState.VALID or (uncertain and found.state is ObjectState.UNCERTAIN)
            if found.estimate is not None and shown:
                self._pose.publish(conversions.stamped_pose(header, found.estimate))
                if self._node.get_parameter("publish_tf").value:
                    self._tf.sendTransform(conversions.transform(header, object_id, found.estimate.pose))
            if found.correspondences is not None and self._correspondences.get_subscription_count():
                message = conversions.correspondences_message(header, object_id, found.correspondences, found.estimate)
                self._correspondences.publish(message)
        objects = [conversions.object_pose(found, object_id) for object_id, found in zip(ids, estimates)]
        self._objects.publish(conversions.object_poses(header, objects, latency))
        if self._detections is not None:
            good = [item for item in objects if item.state == ObjectPose.VALID]
            self._detections.publish(conversions.detections(header, good, self._bounds))
        if self._markers.get_subscription_count():
            markers = [conversions.box_marker(header, name, self._bounds, found) for name, found in zip(ids, estimates)]
            self._markers.publish(MarkerArray(markers=markers))
        if self._overlay.get_subscription_count():
            self._publish_overlay(header, rgb, camera, estimates)

    def _publish_overlay(
        self, header: Header, rgb: np.ndarray, camera: Camera, estimates: list[ObjectEstimate]
    ) -> None:
        for found in estimates:
            if found.estimate is not None:
                rgb = self._drawing.draw(rgb, found.estimate.pose, camera, _COLOURS[found.state])
        self._overlay.publish(conversions.image_from_rgb(header, rgb))
