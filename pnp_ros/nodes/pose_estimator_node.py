"""The lifecycle node that turns images into poses. All of the work is done by :mod:`pnp_ros.pipeline.estimator`.

Subscribes (sensor-data quality of service): ``image`` (or ``image/compressed``), ``camera_info``; with ``versions``
also ``fine_tuning/status``, which says which adapted weights to use.
Publishes: ``~/pose`` (only a pose that may be used), ``/tf``, ``~/objects`` (every processed image, also when the
object is lost), ``~/odometry`` (the motion, filtered), ``~/correspondences``, ``~/overlay`` and ``~/markers`` (while
somebody listens), ``/diagnostics``, and ``~/detections`` where vision_msgs is installed.
Services: ``~/reset``, ``~/enable``, ``~/detect_once``, ``~/add_object``, ``~/remove_object``.
Action: ``~/localize``, one precise pose from several views.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool, Trigger

from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.io.stamps import nanoseconds
from pnp_ros.msg import AdaptationStatus
from pnp_ros.networks.onnx_runtime import BACKENDS, backend_of
from pnp_ros.nodes import camera_input, conversions
from pnp_ros.nodes.arrivals import Arrivals
from pnp_ros.nodes.camera_input import CameraOf
from pnp_ros.nodes.cpu_budget import CpuBudget
from pnp_ros.nodes.frame_queue import FrameQueue
from pnp_ros.nodes.health import Health
from pnp_ros.nodes.lifecycle import ManagedNode
from pnp_ros.nodes.localize import LocalizeAction
from pnp_ros.nodes.object_services import ObjectServices
from pnp_ros.nodes.odometry import OdometryOutput
from pnp_ros.nodes.parameters import device_of
from pnp_ros.nodes.pose_outputs import PoseOutputs, topics_of
from pnp_ros.nodes.ros_compat import LATCHED, STEADY_CLOCK, image_profile, run, wall_time
from pnp_ros.nodes.weights import WeightsFollower, describe
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.rehearsal import rehearse
from pnp_ros.pipeline.scene import Scene

_REPORT_S = 1.0
_PATIENCE_S = 0.6  # for the image in hand, when the node is asked to stop
_WARNED_AGAIN_S = 30.0


class PoseEstimatorNode(ManagedNode):
    """Configuring loads the object package, activating subscribes to the camera."""

    def __init__(self) -> None:
        super().__init__("pose_estimator")
        self._declare_parameters()
        self._health = Health(f"{self.get_fully_qualified_name()}: pose")
        self._scene: Scene | None = None
        self._between_images = threading.Lock()  # held while an image is processed, and while the objects change
        self._weights: WeightsFollower | None = None
        self._adaptation: Any = None  # what tells it which to use
        self._frames = FrameQueue(keep_all=False)
        self._arrivals = Arrivals(image_profile(), keeps_info=False)
        self._worker: threading.Thread | None = None
        self._inputs: list[Any] = []
        self._enabled, self._reset_requested, self._once_requested = True, False, False
        self._outputs = PoseOutputs(self)
        self._odometry = OdometryOutput(self, self.settings)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/detect_once", self._on_detect_once)
        self._object_services = ObjectServices(self, self)
        self._localize = LocalizeAction(self)
        self.create_timer(_REPORT_S, self._publish_diagnostics, clock=STEADY_CLOCK)
        self._unknown = ", ".join(self.settings.unknown())
        if self._unknown:
            self.get_logger().warning(f"unknown parameters: {self._unknown}")
        if self.get_parameter("autostart").value:
            self.autostart()

    def _declare_parameters(self) -> None:
        declare = self.settings.declare
        declare("object", "", "Folder of the object package")
        declare("objects", [""], "Folders of several object packages, in place of object")
        declare("max_instances", 1, "Instances of each object that there may be; name_0, name_1, ...", low=1, high=32)
        declare("object_frame", "", "TF frame of a single object; empty: its name in the object package")
        declare("versions", "", "Folder of the weights that fine_tuning_node adapts; empty: the package's own always")
        declare("image_transport", "raw", "How images arrive", choices=("raw", "compressed"))
        declare("rectified", False, "The images are rectified: P of the CameraInfo holds, not K and D", live=True)
        declare("keep_all", False, "Process every image in order, for replays; off: newest first, counted drops")
        declare(
            "keep_camera_info", False, "Use the last CameraInfo for every image: for cameras that publish it only once"
        )
        declare("autostart", True, "Configure and activate at once, without a lifecycle manager")
        declare("device", "cpu", "Where the networks run: cpu, cuda, cuda:1, ...", check=device_of)
        declare(
            "backend",
            "auto",
            "What calculates the networks; auto: onnxruntime on a CPU where it can be used, else torch",
            choices=BACKENDS,
        )
        declare("threads", 1, "CPU threads of the networks, which wait for each other; 0: one a core", low=0, high=256)
        declare("max_rate", 0.0, "Images a second that are processed at most; 0: all", low=0.0, high=1000.0, live=True)
        declare(
            "cpu_budget",
            0.0,
            "CPU cores that the node takes at most, on average; 0: any",
            low=0.0,
            high=256.0,
            live=True,
        )
        declare("publish_tf", True, "Send the pose as a transform from the camera to the object", live=True)
        declare("publish_uncertain", False, "Publish also poses that failed a check as ~/pose and transform", live=True)
        self.settings.declare_config("estimator", EstimatorConfig)

    # --- lifecycle ----------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Load the object package and compile what needs compiling."""
        folders = [self.get_parameter("object").value, *self.get_parameter("objects").value]
        folders = [folder for folder in folders if folder]
        if not folders:
            raise ValueError("parameter object: expected the folder of an object package, got nothing")
        if self.get_parameter("threads").value:
            torch.set_num_threads(self.get_parameter("threads").value)
        config = self.settings.read_config("estimator", EstimatorConfig)
        packages = [load_object_package(folder) for folder in folders]
        device, backend = device_of(self.get_parameter("device").value), self.get_parameter("backend").value
        self._scene = Scene(packages, config, self.instances, device, backend)
        estimators = self._scene.estimators
        named = self.get_parameter("object_frame").value
        if named and len(estimators) > 1:
            raise ValueError(f"parameter object_frame: expected nothing with {len(estimators)} objects, got {named!r}")
        self._topics = self._describe({})
        self._odometry.configure(self._topics)
        for package in packages:
            self.get_logger().info(f"object {package.name}: {package.mesh.describe()}")
        for estimator in estimators.values():
            if estimator.models is not None:
                self.get_logger().info(f"networks: {backend_of(estimator.models.network)}")
                break
        rehearse(self._scene)
        self._follow_versions()
        self.get_logger().info("ready")

    def _describe(self, before: Mapping[str, str]) -> dict[str, str]:
        """Say what the outputs are of; the topic of each object, by its frame."""
        assert self._scene is not None
        estimators, named = self._scene.estimators, self.get_parameter("object_frame").value
        self._frames_of = {name: named or name for name in estimators}
        topics = topics_of(list(self._frames_of.values()), before)
        self._outputs.describe({self._frames_of[name]: item.package for name, item in estimators.items()}, topics)
        self._localize.describe({self._frames_of[name]: item.package.symmetry for name, item in estimators.items()})
        return topics

    # --- objects that come and go: see object_services ----------------------------------------------------------------

    @property
    def scene(self) -> Scene | None:
        """The objects; None while the node is not configured."""
        return self._scene

    @property
    def instances(self) -> int:
        """Of each object, where nothing else is said."""
        count: int = self.get_parameter("max_instances").value
        return count

    def single(self) -> str:
        """The parameter that only a single object can have, if it is set."""
        return next(
            (f"parameter {name}" for name in ("object_frame", "versions") if self.get_parameter(name).value), ""
        )

    def change(self, how: Callable[[Scene], object], back: Callable[[Scene], object]) -> Mapping[str, str]:
        """Change the scene between two images, or leave it as it is; the topic of each object then."""
        assert self._scene is not None
        with self._between_images:
            how(self._scene)
            try:
                self._topics = self._redescribe()
            except Exception:
                back(self._scene)
                self._redescribe()
                raise
        return self._topics

    def _redescribe(self) -> dict[str, str]:
        topics = self._describe(self._topics)
        self._odometry.describe(topics)
        return topics

    def _follow_versions(self) -> None:
        """Use the newest adapted weights, and those that the fine-tuning says from now on."""
        folder = self.get_parameter("versions").value
        if not folder:
            return
        assert self._scene is not None
        if len(self._scene.estimators) > 1:
            raise ValueError("parameter versions: expected nothing with several objects or instances")
        (estimator,) = self._scene.estimators.values()
        store = VersionStore(folder, estimator.package)
        self._weights = WeightsFollower(estimator, store, self.get_logger(), self._health.failed)
        self._weights.start()
        options = QoSOverridingOptions.with_default_policies()
        self._adaptation = self.create_subscription(
            AdaptationStatus, "fine_tuning/status", self._on_adaptation, LATCHED, qos_overriding_options=options
        )

    def _on_adaptation(self, message: AdaptationStatus) -> None:
        assert self._scene is not None
        assert self._weights is not None
        if message.object_name in {item.package.name for item in self._scene.estimators.values()}:
            self._weights.follow(message.active_version)

    def activate(self) -> None:
        """Subscribe and begin to process."""
        keep_all, keep_info = self.get_parameter("keep_all").value, self.get_parameter("keep_camera_info").value
        self._frames = FrameQueue(keep_all, keep_info)
        self._arrivals = Arrivals(image_profile(), keep_info)
        self._camera_of = CameraOf(self.get_logger().warning, self.resolve_topic_name("image"))
        self._worker = threading.Thread(target=self._work, args=(self._frames,), name="estimator", daemon=True)
        self._worker.start()
        self._inputs = camera_input.subscribe(
            self,
            compressed=self.get_parameter("image_transport").value == "compressed",
            keep_all=keep_all,
            keep_info=keep_info,
            on_image=self._on_image,
            on_info=self._on_info,
            on_lost=self._on_lost,
        )

    def stop(self) -> None:
        """Unsubscribe and finish the image in hand."""
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs.clear()
        self._frames.close()
        if self._worker is not None:
            self._worker.join(None if self.context.ok() else _PATIENCE_S)
            self._worker = None

    def forget(self) -> None:
        """Let go of the object."""
        if self._adaptation is not None:
            self.destroy_subscription(self._adaptation)
        if self._weights is not None:
            self._weights.close()
        self._adaptation = self._weights = self._scene = None
        self._localize.describe({})

    # --- images -----------------------------------------------------------------------------------------------------

    @property
    def _wanted(self) -> bool:
        return self._enabled or self._once_requested

    def _on_image(self, message: Image | CompressedImage) -> None:
        if self._wanted:
            stamp = nanoseconds(message.header.stamp)
            self._frames.put_image(stamp, message, self.get_parameter("max_rate").value)

    def _on_info(self, message: CameraInfo) -> None:
        if self._wanted or self.get_parameter("keep_camera_info").value:
            stamp = nanoseconds(message.header.stamp)
            self._frames.put_info(stamp, message, self.get_parameter("max_rate").value)

    def _on_lost(self, count: int) -> None:
        self._frames.counts.lost += count

    def _work(self, frames: FrameQueue) -> None:
        budget = CpuBudget()
        while (frame := frames.get()) is not None:
            if not self._wanted:
                frames.counts.skipped += 1
                continue
            try:
                with self._between_images:
                    self._process(*frame)
                self._once_requested = False
            except ValueError as error:  # the image or the CameraInfo: it names the field
                self.failed(str(error))
            except Exception as error:  # whatever an image triggers, the next one gets its chance
                if self.context.ok():  # else the node is being ended, and nothing can be published
                    self.failed(f"{type(error).__name__}: {error}")
            if (seconds := budget.rest(self.get_parameter("cpu_budget").value)) > 0.0:
                frames.rest(seconds)

    def _process(self, image: Image | CompressedImage, info: CameraInfo) -> None:
        assert self._scene is not None
        begin = time.perf_counter()
        camera = self._camera_of(image, info, self.get_parameter("rectified").value)
        self._health.hardware_id = image.header.frame_id
        rgb = conversions.rgb_from_image(image, camera)
        decoded = time.perf_counter()
        if self._reset_requested:
            self._reset_requested = False
            self._scene.reset()
            self._odometry.reset()
        found = self._scene.estimate(rgb, camera, conversions.seconds(image.header.stamp))
        estimates = {self._frames_of[name]: item for name, item in found.items()}
        stages = Counter[str]()
        for item in found.values():
            stages.update({stage: value for stage, value in item.latency.items() if stage != "total"})
        latency = {"decode": decoded - begin, **stages, "total": time.perf_counter() - begin}
        self._outputs.publish(image.header, rgb, camera, estimates, latency)
        for frame, item in estimates.items():
            self._odometry.publish(image.header, frame, item)
            self._localize.take(image.header, frame, item)
        age = 1e-9 * (self.get_clock().now().nanoseconds - nanoseconds(image.header.stamp))
        self._health.processed(latency, age)
        self._scene.rest()

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
        active = self.lifecycle_state == "active"
        response.success = active
        response.message = "the next good image is searched anew" if active else f"not active: {self.lifecycle_state}"
        self._reset_requested = self._once_requested = active
        return response

    def failed(self, error: str) -> None:
        """Say it in log and diagnostics."""
        self._health.failed(error)
        self.get_logger().error(error, throttle_duration_sec=5.0)

    def _publish_diagnostics(self) -> None:
        counts = self._frames.counts
        figures = {
            "weights": self._weights.description if self._weights else describe(0),
            "weights refused": self._weights.reason if self._weights else "",
            "unknown parameters": self._unknown,
            "images received": counts.received,
            "images taken up": counts.taken,
            "images waiting": self._frames.waiting,
            "images dropped for newer ones": counts.dropped,
            "images skipped": counts.skipped,
            "images without CameraInfo": counts.unpaired,
            "CameraInfos without image": counts.announced,
            "images with the stamp of the one before": counts.repeated,
            "messages lost on the way": counts.lost,
        }
        state = self.lifecycle_state
        warning = self._arrivals.warning(counts) if state == "active" else ""
        if state == "active" and not self._enabled:
            state = "disabled"
        if warning:
            self.get_logger().warning(warning, throttle_duration_sec=_WARNED_AGAIN_S)
        message = DiagnosticArray(status=[self._health.status(state, figures, self.fault, warning)])
        message.header.stamp = wall_time()
        self._diagnostics.publish(message)


def main(args: list[str] | None = None) -> None:
    """Run the node."""
    run(PoseEstimatorNode, args)


if __name__ == "__main__":
    main()
