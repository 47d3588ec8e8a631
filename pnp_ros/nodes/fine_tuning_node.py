"""The node that adapts an object's networks to the robot's own camera. All of it is :mod:`pnp_ros.adaptation`'s work.

It learns from images and a reference for the object's true pose, checks the outcome, and only what passes every gate
becomes a version of the weights that the estimator then uses. It may be ended at any moment: it goes on from the newest
good version.

Subscribes: ``image`` (or ``image/compressed``), ``camera_info``, ``pose_estimator/objects``; for references ``/tf``,
``/tf_static`` or a topic of poses. Publishes: ``~/status`` (latched), ``/diagnostics``.
Services: ``~/rollback``, ``~/reset``, ``~/pause``.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool, Trigger

from pnp_ros.adaptation.adapter import Adapter
from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.observation import Observation
from pnp_ros.adaptation.status import AdaptationState, AdaptationStatus, Outcome
from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.io.stamps import nanoseconds
from pnp_ros.msg import AdaptationStatus as AdaptationStatusMsg
from pnp_ros.msg import ObjectPoseArray
from pnp_ros.nodes import conversions
from pnp_ros.nodes.arrivals import STANDING_STAMPS
from pnp_ros.nodes.health import Health
from pnp_ros.nodes.observation_queue import ObservationQueue, Sample
from pnp_ros.nodes.parameters import Parameters, device_of
from pnp_ros.nodes.priority import receive_less_urgently, work_less_urgently
from pnp_ros.nodes.references import make_reference
from pnp_ros.nodes.ros_compat import LATCHED, STEADY_CLOCK, run, wall_time
from pnp_ros.nodes.weights import describe
from pnp_ros.objects.object_package import load_object_package

_IDLE_S = 0.05  # between two looks for something to do
_AFTER_FAULT_S = 10.0
_PROBLEM_SHOWN_S = 5.0  # an image that could not be used is the reason that is shown for this long
_REASONS_SHOWN = 5  # kinds of refusals in the diagnostics
_WORKER, _PATIENCE_S = "adaptation", 0.3


class FineTuningNode(Node):
    """Receives on the executor's thread and works on another, of a lower priority."""

    def __init__(self) -> None:
        super().__init__("fine_tuning")
        self.settings = Parameters(self)
        self._declare_parameters()
        self.settings.settle()
        self._health = Health(f"{self.get_fully_qualified_name()}: adaptation")
        package = load_object_package(self._needed("object", "folder of an object package"))
        store = VersionStore(self._needed("versions", "folder for the adapted weights"), package)
        self._package, self._device = package, self._checked_device()
        if self.get_parameter("nice").value:
            receive_less_urgently()
        self._delay_s = self.get_parameter("reference_delay").value
        self._reference = make_reference(self, self.get_parameter("reference").value, self._delay_s)
        config = self.settings.read_config("adaptation", AdaptationConfig)
        self._adapter = Adapter(package, config, store, self._device, supervision=self._reference.supervision)
        self._queue = ObservationQueue(
            self.get_parameter("max_rate").value,
            self.get_parameter("rectified").value,
            estimates_between=self._reference.every_estimate,
            delay_s=self._delay_s if self._reference.late else 0.0,
        )
        self._unknown, self._fault = 0, ""
        self._problem, self._problem_time = "", -_PROBLEM_SHOWN_S
        self._said, self._publishing = "", threading.Lock()
        self._stopped = threading.Event()
        self._worker = threading.Thread(target=self._work, name=_WORKER, daemon=True)
        self._connect()
        self._worker.start()
        active = self._adapter.status().active_version
        self.get_logger().info(f"object {package.name}, reference {self.get_parameter('reference').value}")
        self.get_logger().info(f"weights: {describe(active)}")

    def _declare_parameters(self) -> None:
        declare = self.settings.declare
        declare("object", "", "Folder of the object package")
        declare("versions", "", "Folder of the adapted weights; the estimator gets the same")
        declare("reference", "self", "Where true poses come from: self, tf:FRAME, topic:/NAME or board:FILE (YAML)")
        declare("reference_delay", 0.5, "Seconds an image waits for its reference", low=0.0, high=60.0)
        declare("image_transport", "raw", "How images arrive", choices=("raw", "compressed"))
        declare("rectified", False, "The images are rectified: P of the CameraInfo holds, not K and D")
        declare("device", "cpu", "Where it learns: cpu, cuda, cuda:1, ...", check=device_of)
        declare("threads", 1, "CPU threads that it computes with", low=1, high=256)
        declare("cpu_share", 0.8, "Share of one CPU core that it takes at most, on average", low=0.01, high=256.0)
        declare("nice", True, "Work at a low priority: beside others, 10 % of a core that they want, too")
        declare("gpu_memory_share", 0.25, "Share of the GPU's memory that it takes at most", low=0.01, high=1.0)
        declare("max_rate", 4.0, "Images a second that are looked at, at most", low=0.01, high=200.0)
        self.settings.declare_config("adaptation", AdaptationConfig)

    def _needed(self, name: str, what: str) -> str:
        value: str = self.get_parameter(name).value
        if not value:
            raise ValueError(f"parameter {name}: expected the {what}, got nothing")
        return value

    def _checked_device(self) -> torch.device:
        device = device_of(self.get_parameter("device").value)
        if device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(self.get_parameter("gpu_memory_share").value, device.index)
        return device

    def _connect(self) -> None:
        compressed = self.get_parameter("image_transport").value == "compressed"
        topic = self.resolve_topic_name("image") + ("/compressed" if compressed else "")
        for kind, name, put, quality in (
            (CompressedImage if compressed else Image, topic, self._queue.put_image, qos_profile_sensor_data),
            (CameraInfo, "camera_info", self._queue.put_info, qos_profile_sensor_data),
            (ObjectPoseArray, "pose_estimator/objects", self._queue.put_objects, QoSProfile(depth=100)),
        ):
            options = QoSOverridingOptions.with_default_policies()
            self.create_subscription(kind, name, _by_stamp(put), quality, qos_overriding_options=options)
        self._status = self.create_publisher(AdaptationStatusMsg, "~/status", LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(Trigger, "~/rollback", lambda _, answer: self._answer(answer, self._adapter.rollback))
        self.create_service(Trigger, "~/reset", lambda _, answer: self._answer(answer, self._adapter.reset))
        self.create_service(SetBool, "~/pause", self._on_pause)
        self.create_timer(1.0, self._report, clock=STEADY_CLOCK)

    def destroy_node(self) -> None:
        """Stop the worker before what it publishes on is gone; a check in hand is not waited for."""
        self._stopped.set()
        self._worker.join(_PATIENCE_S)
        super().destroy_node()

    # --- the working thread -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        torch.set_num_threads(self.get_parameter("threads").value)
        if self.get_parameter("nice").value:
            work_less_urgently()
        share = self.get_parameter("cpu_share").value
        while not self._stopped.is_set():
            begin, used = time.monotonic(), time.process_time()
            try:
                self._take_up()
                busy = self._adapter.work()
                self._fault = ""
            except Exception as error:  # whatever it is, the estimator goes on, and the user can still go back
                self._fault = f"{type(error).__name__}: {error}"
                self.get_logger().error(self._fault, throttle_duration_sec=60.0)
                self._stopped.wait(_AFTER_FAULT_S)
                busy = False
            if self._stopped.is_set() or not self.context.ok():
                return
            self._publish_status(only_changes=True)
            rest = (time.process_time() - used) / share - (time.monotonic() - begin)
            self._stopped.wait(max(rest, 0.0 if busy else _IDLE_S))

    def _take_up(self) -> None:
        """Look at the images that wait, as far as their references have arrived."""
        while (sample := self._queue.first()) is not None and not self._stopped.is_set():
            self._health.hardware_id = sample.frame_id
            try:
                if not self._look(sample):
                    return
            except ValueError as error:  # the image or the CameraInfo: it names the field
                self._refuse(str(error))
            self._queue.remove(sample)

    def _look(self, sample: Sample) -> bool:
        """Show one image to the adapter. False: its reference may still come."""
        begin = time.perf_counter()
        found = next((item for item in sample.objects.objects if item.object_name == self._package.name), None)
        if found is None:
            raise ValueError(f"estimates: expected the object {self._package.name}, got none of that name")
        state, estimate = conversions.estimate_from_message(found)
        image = 0, sample.stamp_ns, sample.rgb, sample.camera, sample.frame_id
        observation = Observation(*image, state=state, estimate=estimate, object_id=found.object_id)
        confirmed = self._reference.confirmed(observation)
        if self._reference.problem:
            if self._reference.late and time.monotonic() - sample.arrived < self._delay_s:
                return False
            self._refuse(self._reference.problem)
        for each in confirmed:
            if each.rgb.size:
                self._adapter.observe(each)
                age = 1e-9 * (self.get_clock().now().nanoseconds - each.stamp_ns)
                self._health.processed({"take up": time.perf_counter() - begin}, age)
        return True

    def _refuse(self, problem: str) -> None:
        self._unknown += 1
        self._problem, self._problem_time = problem, time.monotonic()
        self.get_logger().warning(f"image refused: {problem}", throttle_duration_sec=10.0)

    # --- services, status and diagnostics -----------------------------------------------------------------------------

    def _answer(self, answer: Trigger.Response, act: Callable[[], Outcome]) -> Trigger.Response:
        answer.success, answer.message = True, act().message  # in effect at once, whatever the disk does
        self.get_logger().info(answer.message)
        self._publish_status()  # the estimator goes back at once
        return answer

    def _on_pause(self, request: SetBool.Request, answer: SetBool.Response) -> SetBool.Response:
        self._adapter.pause(request.data)
        answer.success, answer.message = True, "paused" if request.data else "going on"
        return answer

    def _current(self) -> AdaptationStatus:
        """The adapter's status, with what keeps images from reaching it."""
        status = self._adapter.status()
        status = dataclasses.replace(status, refused=status.refused + self._unknown)
        if self._fault:
            return dataclasses.replace(status, state=AdaptationState.FAULT, reason=self._fault)
        problem = self._input_problem()
        if problem and status.state is AdaptationState.COLLECTING:
            return dataclasses.replace(status, reason=problem)
        return status

    def _input_problem(self) -> str:
        counts = self._queue.counts
        if time.monotonic() - self._problem_time < _PROBLEM_SHOWN_S:
            return f"image refused: {self._problem}"
        if not counts.received:
            return "no image has arrived"
        if time.monotonic() - self._queue.repeated_at < _PROBLEM_SHOWN_S:
            return STANDING_STAMPS
        if time.monotonic() - self._queue.crowded_at < _PROBLEM_SHOWN_S:
            return "more images than may wait for their references: lower max_rate or reference_delay"
        return "" if counts.estimated else "no image has arrived together with its CameraInfo and its estimate"

    def _publish_status(self, only_changes: bool = False) -> None:
        status = self._current()
        said = repr((status.state, status.reason, status.active_version, status.candidate_version, status.gates))
        with self._publishing:
            if only_changes and said == self._said:
                return
            self._said = said
            stamp = self.get_clock().now().to_msg()
            self._status.publish(conversions.adaptation_status(stamp, self._package.name, status))

    def _report(self) -> None:
        self._publish_status()
        status, counts = self._current(), self._queue.counts
        refusals = sorted(self._adapter.refusals().items(), key=lambda entry: -entry[1])[:_REASONS_SHOWN]
        figures = {
            "weights": describe(status.active_version),
            "reason": status.reason,
            "steps": status.steps,
            "images received": counts.received,
            "images with an estimate": counts.estimated,
            "images above the highest rate": counts.skipped,
            "images without an estimate": counts.unmatched,
            "images dropped for newer ones": counts.dropped,
            "images with no room to wait": counts.crowded,
            "images with the stamp of the one before": counts.repeated,
            "images without a reference": self._unknown,
            "invalid references": self._reference.refused,
            "images kept": status.buffered,
            "focal length to be corrected by": f"{self._adapter.focal_error:+.1%}",
            **{f"refused: {reason}": count for reason, count in refusals},
        }
        fault = status.reason if status.state is AdaptationState.FAULT else ""
        message = DiagnosticArray(status=[self._health.status(status.state.name.lower(), figures, fault)])
        message.header.stamp = wall_time()
        self._diagnostics.publish(message)


def _by_stamp(put: Callable[[int, Any], None]) -> Callable[[Any], None]:
    return lambda message: put(nanoseconds(message.header.stamp), message)


def main(args: list[str] | None = None) -> None:
    """Run the node."""
    run(FineTuningNode, args, patience_s=2 * _PATIENCE_S)


if __name__ == "__main__":
    main()
