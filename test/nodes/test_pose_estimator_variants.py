from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage

from pnp_ros.msg import ObjectPose
from pnp_ros.nodes import conversions
from pnp_ros.objects.object_package import ObjectPackage

START_S = 300.0


def test_closed_gates_give_a_state_but_no_pose(start_estimator: Any, probe: Any, package: ObjectPackage) -> None:
    with start_estimator(package.root, **{"estimator.detector_threshold": 1.0}):
        probe.wait_until_connected()
        probe.send(probe.image(0), probe.camera_info(0))
        probe.wait(lambda: probe.received["objects"], what="the state")
        (lost,) = probe.received["objects"][0].objects
        assert lost.state == ObjectPose.LOST
        assert "not found" in lost.reason
        probe.status()
        assert not probe.received["poses"]
        assert not probe.received["tf"]


def test_a_configuration_that_fails_halfway_is_said_and_undone(
    start_estimator: Any, probe: Any, package: ObjectPackage, tmp_path: Path
) -> None:
    wrong = "qos_overrides./fine_tuning/status.subscription.depth"
    with start_estimator(package.root, versions=str(tmp_path), **{wrong: "deep"}):
        for _ in range(2):
            probe.wait(lambda: wrong in probe.status().message, START_S, "the fault")
            request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
            assert not probe.call(ChangeState, "change_state", request).success
            assert probe.call(GetState, "get_state", GetState.Request()).current_state.label == "unconfigured"


def test_compressed_images_give_poses(start_estimator: Any, probe: Any, package: ObjectPackage) -> None:
    jpegs = probe.node.create_publisher(CompressedImage, "/camera/image_raw/compressed", 10)
    with start_estimator(package.root, image_transport="compressed"):
        probe.wait(jpegs.get_subscription_count, START_S, "an active estimator")
        probe.wait(lambda: probe.received["diagnostics"])
        jpegs.publish(conversions.jpeg_from_rgb(probe.header(0), probe.pixels(0)))
        probe.send(probe.image(0), probe.camera_info(0))  # the raw image finds no subscriber
        probe.wait(lambda: probe.received["poses"], what="the pose")
        assert probe.received["poses"][0].header == probe.header(0)
        broken = conversions.jpeg_from_rgb(probe.header(1), probe.pixels(1))
        broken.data = broken.data[:2000]
        jpegs.publish(broken)
        probe.send(probe.image(1), probe.camera_info(1))
        probe.wait(lambda: "truncated JPEG" in probe.status().message)
        assert len(probe.received["poses"]) == 1


def test_several_instances_have_names_and_topics_of_their_own(
    start_estimator: Any, probe: Any, package: ObjectPackage
) -> None:
    heard: dict[str, list[PoseWithCovarianceStamped]] = {f"{package.name}_{k}": [] for k in range(2)}
    for name, poses in heard.items():
        probe.node.create_subscription(PoseWithCovarianceStamped, f"/pose_estimator/{name}/pose", poses.append, 10)
    with start_estimator("", objects=[str(package.root)], max_instances=2, **{"estimator.align": True}):
        probe.wait_until_connected()
        for index in range(4):
            probe.send(probe.image(0), probe.camera_info(0))
            probe.wait(lambda: len(probe.received["objects"]) > index, what="an image")  # noqa: B023
        for message in probe.received["objects"]:
            assert [item.object_id for item in message.objects] == list(heard)
        states = [item.state for item in probe.received["objects"][-1].objects]
        assert states.count(ObjectPose.VALID) == 1
        probe.wait(lambda: len(heard[f"{package.name}_0"]) >= 1, what="a pose on its own topic")
        assert not probe.received["poses"]
        assert {t.child_frame_id for m in probe.received["tf"] for t in m.transforms} <= set(heard)


def test_camera_without_camera_info_is_said(start_estimator: Any, probe: Any, package: ObjectPackage) -> None:
    with start_estimator(package.root):
        probe.wait_until_connected()
        probe.send(probe.image(0), probe.camera_info(1))
        probe.wait(lambda: "no CameraInfo has the stamp of an image" in probe.status().message)
        assert not probe.received["objects"]


def test_missing_object_package_is_said(start_estimator: Any, probe: Any) -> None:
    with start_estimator("/nowhere/mug"):
        probe.wait(lambda: probe.received["diagnostics"] and "/nowhere/mug" in probe.status().message, START_S)
        assert probe.status().level == DiagnosticStatus.ERROR


def test_corrupted_weights_are_said(start_estimator: Any, probe: Any, package: ObjectPackage, tmp_path: Any) -> None:
    for file in package.root.iterdir():
        data = file.read_bytes()
        if file.name == "weights.safetensors":
            data = data[:5000] + bytes(byte ^ 255 for byte in data[5000:5100]) + data[5100:]
        (tmp_path / file.name).write_bytes(data)
    with start_estimator(tmp_path):
        probe.wait(lambda: probe.received["diagnostics"] and "weights.safetensors" in probe.status().message, START_S)
        status = probe.status()
        assert status.level == DiagnosticStatus.ERROR
        assert "sha256" in status.message


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [({"estimator.min_inliers": 1}, "min_inliers: expected 4 to"), ({"device": "cuda:9"}, "device")],
)
def test_wrong_parameters_are_said(
    start_estimator: Any, probe: Any, package: ObjectPackage, parameter: dict[str, Any], expected: str
) -> None:
    with start_estimator(package.root, **parameter):
        probe.wait(lambda: probe.received["diagnostics"] and expected in probe.status().message, START_S)


def test_a_camera_info_published_once_can_be_kept(start_estimator: Any, probe: Any, package: ObjectPackage) -> None:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    once = probe.node.create_publisher(CameraInfo, "/camera/camera_info", latched)
    once.publish(probe.camera_info(0))  # before the estimator is there
    with start_estimator(package.root, keep_camera_info=True):
        probe.wait_until_connected()
        for index in range(1, 4):
            probe.send_image(probe.image(index))
        probe.wait(lambda: len(probe.received["poses"]) == 3, what="three poses")
        other = probe.image(4)
        other.header.frame_id = "another_camera"
        probe.send_image(other)
        probe.wait(lambda: "'another_camera', got 'camera_optical_frame'" in probe.status().message, what="both frames")


def test_diagnostics_go_on_and_tell_robots_apart_while_the_clock_stands_still(
    start_estimator: Any, probe: Any, package: ObjectPackage
) -> None:
    with start_estimator(package.root, namespace="/robot1", use_sim_time=True):  # and nobody publishes /clock
        probe.wait(lambda: probe.received["diagnostics"], START_S, "diagnostics")
        probe.wait(lambda: "active" in probe.status().message, what="an active node")
        assert probe.status().name == "robot1/pose_estimator: pose"
        assert probe.received["diagnostics"][-1].header.stamp.sec > 1_700_000_000
