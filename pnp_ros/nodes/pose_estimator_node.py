"""The lifecycle node that turns images into poses. All of the work is done by :mod:`pnp_ros.pipeline.estimator`.

Subscribes (sensor-data quality of service): ``image`` (or ``image/compressed``), ``camera_info``; with ``versions``
also ``fine_tuning/status``, which says which adapted weights to use.
Publishes: ``~/pose`` (only a pose that may be used), ``/tf``, ``~/objects`` (every processed image, also when the
object is lost), ``~/correspondences``, ``~/overlay`` and ``~/markers`` (while somebody listens), ``/diagnostics``, and
``~/detections`` where vision_msgs is installed.
Services: ``~/reset``, ``~/enable``, ``~/detect_once``.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray

from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.overlay import GREEN, ORANGE, MeshOverlay
from pnp_ros.msg import AdaptationStatus, Correspondences, ObjectPose, ObjectPoseArray
from pnp_ros.nodes import conversions
from pnp_ros.nodes.frame_queue import FrameQueue
from pnp_ros.nodes.health import Health
from pnp_ros.nodes.parameters import declare, declare_config, read_config
from pnp_ros.nodes.ros_compat import LATCHED, detection_array, run, transform_broadcaster
from pnp_ros.nodes.weights import WeightsFollower, describe
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState

_COLOURS = {ObjectState.VALID: GREEN, ObjectState.UNCERTAIN: ORANGE}


class PoseEstimatorNode(LifecycleNode):
    """Configuring loads the object package, activating subscribes to the camera."""

    def __init__(self) -> None:
        super().__init__("pose_estimator")
        self._declare_parameters()
        self._health = Health("pose_estimator: pose")
        self._estimator: PoseEstimator | None = None
        self._weights: WeightsFollower | None = None
        self._drawing: MeshOverlay | None = None
        self._frames = FrameQueue(keep_all=False)
        self._worker: threading.Thread | None = None
        self._inputs: list[Any] = []
        self._enabled, self._reset_requested, self._once_requested = True, False, False
        self._make_publishers()
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/detect_once", self._on_detect_once)
        self.create_timer(1.0, self._publish_diagnostics)
        self._state, self._fault = "unconfigured", ""
        if self.get_parameter("autostart").value:
            self._autostart = self.create_timer(0.0, self._start)

    def _declare_parameters(self) -> None:
        declare(self, "object", "", "Folder of the object package")
        declare(self, "object_frame", "", "TF frame of the object; empty: its name in the object package")
        declare(
            self, "versions", "", "Folder of the weights that fine_tuning_node adapts; empty: the package's own always"
        )
        declare(self, "image_transport", "raw", "How images arrive", choices=("raw", "compressed"))
        declare(self, "rectified", False, "The images are rectified: P of the CameraInfo holds, not K and D")
        declare(self, "keep_all", False, "Process every image in order, for replays; off: newest first, counted drops")
        declare(self, "autostart", True, "Configure and activate at once, without a lifecycle manager")
        declare(self, "device", "cpu", "Where the networks run: cpu, cuda, cuda:1, ...")
        declare(self, "threads", 0, "CPU threads of the networks; 0: as many as there are cores", low=0, high=256)
        declare(self, "publish_tf", True, "Send the pose as a transform from the camera to the object")
        declare(self, "publish_uncertain", False, "Publish also poses that failed a check as ~/pose and transform")
        declare_config(self, "estimator", EstimatorConfig)

    def _make_publishers(self) -> None:
        def publisher(kind: type, topic: str, depth: int = 10) -> Any:
            options = QoSOverridingOptions.with_default_policies()
            return self.create_lifecycle_publisher(kind, topic, depth, qos_overriding_options=options)

        self._pose = publisher(PoseWithCovarianceStamped, "~/pose")
        self._objects = publisher(ObjectPoseArray, "~/objects")
        self._correspondences = publisher(Correspondences, "~/correspondences")
        self._markers = publisher(MarkerArray, "~/markers")
        self._overlay = publisher(Image, "~/overlay", 2)
        array = detection_array()
        self._detections = None if array is None else publisher(array, "~/detections")
        self._tf = transform_broadcaster(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)

    # --- lifecycle ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._autostart.cancel()
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the object package; fails, staying unconfigured, with the reason in the log and in the diagnostics."""
        try:
            self._configure()
        except (ValueError, RuntimeError) as error:
            self._fault = str(error)
            self._fail(self._fault)
            return TransitionCallbackReturn.FAILURE
        self._state, self._fault = "inactive", ""
        return super().on_configure(state)

    def _configure(self) -> None:
        folder, device = self.get_parameter("object").value, self.get_parameter("device").value
        if not folder:
            raise ValueError("parameter object: expected the folder of an object package, got nothing")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"parameter device: {device} asked for, but there is no CUDA device")
        if self.get_parameter("threads").value:
            torch.set_num_threads(self.get_parameter("threads").value)
        config = read_config(self, "estimator", EstimatorConfig)
        package = load_object_package(folder)
        self._estimator, self._drawing = PoseEstimator(package, config, device), MeshOverlay(package.mesh)
        self._object_frame = self.get_parameter("object_frame").value or package.name
        self.get_logger().info(f"object {package.name}: {package.mesh.describe()}")
        self._warm_up()
        self._follow_versions()
        self.get_logger().info("ready")

    def _follow_versions(self) -> None:
        """Use the newest adapted weights, and those that the fine-tuning says from now on."""
        folder = self.get_parameter("versions").value
        if not folder:
            return
        assert self._estimator is not None
        store = VersionStore(folder, self._estimator.package)
        self._weights = WeightsFollower(self._estimator, store, self.get_logger(), self._health.failed)
        self._weights.start()
        options = QoSOverridingOptions.with_default_policies()
        self._adaptation = self.create_subscription(
            AdaptationStatus, "fine_tuning/status", self._on_adaptation, LATCHED, qos_overriding_options=options
        )

    def _on_adaptation(self, message: AdaptationStatus) -> None:
        assert self._estimator is not None
        assert self._weights is not None
        if message.object_name == self._estimator.package.name:
            self._weights.follow(message.active_version)

    def _warm_up(self) -> None:
        """The first solve compiles the solver's kernels, once a machine: half a minute that no image shall wait."""
        assert self._estimator is not None
        width, height = 640, 480
        camera = Camera.pinhole(width, width, width / 2, height / 2, width, height)
        roi = (width / 4, height / 4, width / 2, height / 2)
        self._estimator.estimate(np.zeros((height, width, 3), np.uint8), camera, 0.0, roi)
        self._estimator.reset()

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and begin to process."""
        keep_all = self.get_parameter("keep_all").value
        self._frames = FrameQueue(keep_all)
        self._worker = threading.Thread(target=self._work, name="estimator", daemon=True)
        self._worker.start()
        self._state = "active"
        result = super().on_activate(state)
        self._subscribe(keep_all)
        return result

    def _subscribe(self, keep_all: bool) -> None:
        compressed = self.get_parameter("image_transport").value == "compressed"
        topic = self.resolve_topic_name("image") + ("/compressed" if compressed else "")
        lossless = QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=ReliabilityPolicy.RELIABLE)
        for kind, name, put in (
            (CompressedImage if compressed else Image, topic, self._on_image),
            (CameraInfo, "camera_info", self._on_info),
        ):
            options = QoSOverridingOptions.with_default_policies()
            quality = lossless if keep_all else qos_profile_sensor_data
            events = SubscriptionEventCallbacks(message_lost=self._on_message_lost)
            self._inputs.append(
                self.create_subscription(
                    kind, name, put, quality, qos_overriding_options=options, event_callbacks=events
                )
            )

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and finish the image in hand."""
        self._stop()
        self._state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the object."""
        self._forget()
        self._state = "unconfigured"
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop for good."""
        self._stop()
        self._forget()
        self._state = "finalized"
        return super().on_shutdown(state)

    def _stop(self) -> None:
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs.clear()
        self._frames.close()
        if self._worker is not None:
            self._worker.join()
            self._worker = None

    def _forget(self) -> None:
        if self._weights is not None:
            self.destroy_subscription(self._adaptation)
            self._weights.close()
        self._weights = self._estimator = None

    def destroy_node(self) -> None:
        """Stop the worker before what it publishes on is gone."""
        self._stop()
        self._forget()
        super().destroy_node()

    # --- images -----------------------------------------------------------------------------------------------------

    def _on_image(self, message: Image | CompressedImage) -> None:
        if self._enabled or self._once_requested:
            self._once_requested = False
            self._frames.put_image(conversions.nanoseconds(message.header.stamp), message)

    def _on_info(self, message: CameraInfo) -> None:
        self._frames.put_info(conversions.nanoseconds(message.header.stamp), message)

    def _on_message_lost(self, status: Any) -> None:
        self._frames.counts.lost += status.total_count_change

    def _work(self) -> None:
        while (frame := self._frames.get()) is not None:
            try:
                self._process(*frame)
            except ValueError as error:  # the image or the CameraInfo: it names the field
                self._fail(str(error))
            except Exception as error:  # whatever an image triggers, the next one gets its chance
                if self.context.ok():  # else the node is being ended, and nothing can be published
                    self._fail(f"{type(error).__name__}: {error}")

    def _process(self, image: Image | CompressedImage, info: CameraInfo) -> None:
        assert self._estimator is not None
        begin = time.perf_counter()
        if not image.header.frame_id:
            raise ValueError("image.header.frame_id: expected the camera's optical frame, got nothing")
        camera = conversions.camera_from_message(info, self.get_parameter("rectified").value)
        rgb = conversions.rgb_from_image(image)
        decoded = time.perf_counter()
        if self._reset_requested:
            self._reset_requested = False
            self._estimator.reset()
        estimates = self._estimator.estimate(rgb, camera, conversions.seconds(image.header.stamp))
        stages = {stage: value for stage, value in estimates[0].latency.items() if stage != "total"}
        latency = {"decode": decoded - begin, **stages, "total": time.perf_counter() - begin}
        self._publish(image.header, estimates, latency)
        if self._overlay.get_subscription_count():
            self._publish_overlay(image.header, rgb, camera, estimates)
        age = 1e-9 * (self.get_clock().now().nanoseconds - conversions.nanoseconds(image.header.stamp))
        self._health.processed(latency, age)

    def _publish(self, header: Header, estimates: list[ObjectEstimate], latency: dict[str, float]) -> None:
        assert self._estimator is not None
        ids = [self._object_frame if i == 0 else f"{self._object_frame}_{i}" for i in range(len(estimates))]
        uncertain = self.get_parameter("publish_uncertain").value
        for object_id, found in zip(ids, estimates):
            shown = found.state is ObjectState.VALID or (uncertain and found.state is ObjectState.UNCERTAIN)
            if found.estimate is not None and shown:
                self._pose.publish(conversions.stamped_pose(header, found.estimate))
                if self.get_parameter("publish_tf").value:
                    self._tf.sendTransform(conversions.transform(header, object_id, found.estimate.pose))
            if found.correspondences is not None and self._correspondences.get_subscription_count():
                message = conversions.correspondences_message(header, object_id, found.correspondences, found.estimate)
                self._correspondences.publish(message)
        objects = [conversions.object_pose(found, object_id) for object_id, found in zip(ids, estimates)]
        self._objects.publish(conversions.object_poses(header, objects, latency))
        bounds = self._estimator.package.mesh.bounds
        if self._detections is not None:
            good = [item for item in objects if item.state == ObjectPose.VALID]
            self._detections.publish(conversions.detections(header, good, bounds))
        if self._markers.get_subscription_count():
            markers = [conversions.box_marker(header, name, bounds, found) for name, found in zip(ids, estimates)]
            self._markers.publish(MarkerArray(markers=markers))

    def _publish_overlay(self, header: Header, rgb: Any, camera: Camera, estimates: list[ObjectEstimate]) -> None:
        assert self._drawing is not None
        for found in estimates:
            if found.estimate is not None:
                rgb = self._drawing.draw(rgb, found.estimate.pose, camera, _COLOURS[found.state])
        self._overlay.publish(conversions.image_from_rgb(header, rgb))

    # --- services and diagnostics -------------------------------------------------------------------------------------

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._reset_requested = True
        response.success, response.message = True, "the next image is searched anew"
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        response.success, response.message = True, "enabled" if request.data else "disabled"
        return response

    def _on_detect_once(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._state == "active"
        response.message = "the next image is searched anew" if response.success else f"not active: {self._state}"
        self._reset_requested = self._once_requested = response.success
        return response

    def _fail(self, error: str) -> None:
        self._health.failed(error)
        self.get_logger().error(error, throttle_duration_sec=5.0)

    def _publish_diagnostics(self) -> None:
        counts = self._frames.counts
        figures = {
            "weights": self._weights.description if self._weights else describe(0),
            "weights refused": self._weights.reason if self._weights else "",
            "images received": counts.received,
            "images taken up": counts.taken,
            "images dropped for newer ones": counts.dropped,
            "images without CameraInfo": counts.unpaired,
            "messages lost on the way": counts.lost,
        }
        state = self._state if self._enabled or self._state != "active" else "disabled"
        if counts.received and not counts.paired:
            state += ", but no CameraInfo has the stamp of an image"
        message = DiagnosticArray(status=[self._health.status(state, figures, self._fault)])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def main(args: list[str] | None = None) -> None:
    """Run the node."""
    run(PoseEstimatorNode, args)


if __name__ == "__main__":
    main()
