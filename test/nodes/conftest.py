"""Real processes: nodes started as users start them, and a probe in this process that talks to them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

rclpy = pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from forked_node import ForkedNode
from pnp_ros.io.resources import resource
from pnp_ros.msg import Correspondences, ObjectPoseArray
from pnp_ros.nodes import conversions
from pnp_ros.nodes.ros_compat import use_image_profile
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.config import EstimatorConfig

WIDTH, HEIGHT = 320, 240
_DIFFERENT_IMAGES = 8
# Gates that let every solvable pose pass: these tests are about the way of the messages, not about accuracy.
OPEN_GATES = EstimatorConfig(
    align=False,
    detector_threshold=0.0,
    lost_presence=0.0,
    valid_presence=0.0,
    min_inliers=4,
    valid_inliers=0.0,
    max_chi_square=1e12,
    max_rotation_sigma=1e12,
    max_translation_sigma=1e12,
    min_distance=1e-6,
    max_distance=1e12,
)
START_S, ANSWER_S = 300.0, 60.0  # the machine may be busy, and the kernel may have to be compiled first


@pytest.fixture(scope="session")
def package() -> ObjectPackage:
    """The demo's: networks that know nothing give no pose."""
    return load_object_package(resource("config/objects/demo"))


@functools.lru_cache
def _rendered() -> tuple[np.ndarray, ...]:
    """Images (240, 320, 3) of the demo's object on its way, in steps of a second."""
    pytest.importorskip("moderngl")
    from pnp_ros.rendering.simulation import SimulatedScene, SimulationConfig

    camera = conversions.camera_from_message(Probe.camera_info(0))
    scene = SimulatedScene(
        load_object_package(resource("config/objects/demo")).mesh, camera, SimulationConfig(occlusion=0.0)
    )
    frames = (scene.frame(index, 2.0) for index in range(100))
    return tuple(frame.rgb for frame in frames if frame.visible > 0.9)[:_DIFFERENT_IMAGES]


@pytest.fixture(scope="session")
def ros() -> Iterator[None]:
    """A ROS domain of this test process's own, on this machine alone; its children inherit it."""
    os.environ |= {"ROS_DOMAIN_ID": str(os.getpid() % 100 + 1), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    use_image_profile()
    rclpy.init()
    yield
    rclpy.try_shutdown()


class Probe:
    """Sends images to an estimator and keeps what it publishes."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("probe")
        reliable = QoSProfile(depth=100)
        self._image = self.node.create_publisher(Image, "/camera/image_raw", reliable)
        self._info = self.node.create_publisher(CameraInfo, "/camera/camera_info", reliable)
        self.received: dict[str, list[Any]] = {}
        for name, kind, topic in (
            ("poses", PoseWithCovarianceStamped, "/pose_estimator/pose"),
            ("objects", ObjectPoseArray, "/pose_estimator/objects"),
            ("correspondences", Correspondences, "/pose_estimator/correspondences"),
            ("tf", TFMessage, "/tf"),
            ("diagnostics", DiagnosticArray, "/diagnostics"),
        ):
            self.received[name] = []
            self.node.create_subscription(kind, topic, self.received[name].append, 100)

    @staticmethod
    def pixels(index: int) -> np.ndarray:
        """(240, 320, 3) the object in view."""
        return _rendered()[index % _DIFFERENT_IMAGES]

    @staticmethod
    def header(index: int) -> Header:
        """A header whose stamp says which image it is."""
        made = Header(frame_id="camera_optical_frame")
        made.stamp.sec, made.stamp.nanosec = 1000 + index, 123_456_789
        return made

    def image(self, index: int) -> Image:
        """The message of image ``index``."""
        return conversions.image_from_rgb(self.header(index), self.pixels(index))

    @staticmethod
    def camera_info(index: int) -> CameraInfo:
        """Its CameraInfo."""
        info = CameraInfo(header=Probe.header(index), width=WIDTH, height=HEIGHT, distortion_model="plumb_bob")
        info.d = [0.0] * 5
        info.k = [300.0, 0.0, 160.0, 0.0, 300.0, 120.0, 0.0, 0.0, 1.0]
        info.p = [300.0, 0.0, 160.0, 0.0, 0.0, 300.0, 120.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        return info

    def send(self, image: Image, info: CameraInfo) -> None:
        """Publish a pair."""
        self._image.publish(image)
        self._info.publish(info)

    def send_image(self, image: Image) -> None:
        """Publish an image alone."""
        self._image.publish(image)

    def wait(self, condition: Callable[[], object], seconds: float = ANSWER_S, what: str = "") -> None:
        """Handle messages until the condition holds; fail if it does not in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds} s for {what or 'the condition'}"
            rclpy.spin_once(self.node, timeout_sec=0.05)

    def wait_until_connected(self) -> None:
        """Until an active estimator listens to both topics."""
        topics = (self._image, self._info)
        self.wait(lambda: all(t.get_subscription_count() for t in topics), START_S, "an active estimator")
        self.wait(lambda: self.node.count_publishers("/pose_estimator/objects"), START_S, "its publishers")
        self.wait(lambda: self.received["diagnostics"], START_S, "its diagnostics")

    def call(self, kind: type, name: str, request: Any, node: str = "pose_estimator") -> Any:
        """Call a service of the estimator, or of another node."""
        client = self.node.create_client(kind, f"/{node}/{name}")
        assert client.wait_for_service(timeout_sec=ANSWER_S)
        answer = client.call_async(request)
        self.wait(answer.done, what=name)
        self.node.destroy_client(client)
        return answer.result()

    def status(self) -> DiagnosticStatus:
        """The estimator's next report."""
        self.received["diagnostics"].clear()
        self.wait(lambda: self.received["diagnostics"], what="diagnostics")
        return self.received["diagnostics"][-1].status[0]


@pytest.fixture
def probe(ros: None) -> Iterator[Probe]:
    """A fresh probe."""
    made = Probe()
    yield made
    made.node.destroy_node()


StartEstimator = Callable[..., contextlib.AbstractContextManager[ForkedNode]]


@pytest.fixture(scope="session")
def start_estimator(ros: None, tmp_path_factory: pytest.TempPathFactory) -> StartEstimator:
    """Starts a pose estimator as a process of its own; leaving the context ends it by SIGINT, with status 0."""

    @contextlib.contextmanager
    def start(folder: Path, namespace: str = "", **parameters: Any) -> Iterator[ForkedNode]:
        gates = {f"estimator.{name}": value for name, value in dataclasses.asdict(OPEN_GATES).items()}
        values = {"object": str(folder), "threads": 1, "publish_uncertain": True, "keep_all": True, **gates}
        with _running("pose_estimator", tmp_path_factory.mktemp("node"), values | parameters, namespace) as process:
            yield process

    return start


@pytest.fixture(scope="session")
def start_node(ros: None, tmp_path_factory: pytest.TempPathFactory) -> StartEstimator:
    """Starts any node in the same way."""

    @contextlib.contextmanager
    def start(node: str, **parameters: Any) -> Iterator[ForkedNode]:
        with _running(node, tmp_path_factory.mktemp("node"), parameters) as process:
            yield process

    return start


@pytest.fixture(scope="session")
def start_fine_tuning(ros: None, tmp_path_factory: pytest.TempPathFactory) -> StartEstimator:
    """Starts a fine-tuning node in the same way; it finds its images where the estimator does."""

    @contextlib.contextmanager
    def start(folder: Path, **parameters: Any) -> Iterator[ForkedNode]:
        values = {"object": str(folder), "max_rate": 100.0, "reference_delay": 0.2, "nice": False, **parameters}
        with _running("fine_tuning", tmp_path_factory.mktemp("node"), values) as process:
            yield process

    return start


@contextlib.contextmanager
def _running(node: str, folder: Path, parameters: dict[str, Any], namespace: str = "") -> Iterator[ForkedNode]:
    file = folder / "parameters.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
    remap = ["-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info"]
    if namespace:
        remap += ["-r", f"__ns:={namespace}"]
    process = ForkedNode(node, "--ros-args", "--params-file", str(file), *remap)
    try:
        yield process
        assert process.poll() is None, "the node ended by itself"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            status = process.wait(timeout=ANSWER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert status == 0


@pytest.fixture(scope="session")
def open_gates() -> EstimatorConfig:
    """The gates that the estimators of these tests have."""
    return OPEN_GATES
