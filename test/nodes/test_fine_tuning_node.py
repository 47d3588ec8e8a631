"""Real processes: what the fine-tuning node says, refuses and survives."""

import copy
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("moderngl")

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from std_srvs.srv import SetBool, Trigger

from pnp_ros.msg import AdaptationStatus, ObjectPose, ObjectPoseArray
from pnp_ros.nodes.ros_compat import LATCHED
from pnp_ros.objects.object_package import ObjectPackage

START_S = 120.0


class _Listener:
    """Shows the node images, estimates and references, and keeps what it says."""

    def __init__(self, probe: Any) -> None:
        self.probe, self.said, self._index = probe, [], 0
        self._objects = probe.node.create_publisher(ObjectPoseArray, "/pose_estimator/objects", 10)
        self._truth = probe.node.create_publisher(PoseStamped, "/truth", 10)
        probe.node.create_subscription(AdaptationStatus, "/fine_tuning/status", self.said.append, LATCHED)

    def wait_until_connected(self) -> None:
        """Until the node listens to everything."""
        publishers = (self.probe._image, self.probe._info, self._objects, self._truth)
        self.probe.wait(lambda: all(p.get_subscription_count() for p in publishers), START_S, "the node")

    def show(self, spoil: Callable[[PoseStamped], object] = lambda _: None, name: str = "demo") -> None:
        """One image with its estimate and its reference, of now."""
        self._index += 1
        header = self.probe.header(self._index)
        header.stamp.sec, header.stamp.nanosec = divmod(time.monotonic_ns(), 10**9)
        truth = PoseStamped(header=copy.deepcopy(header))  # not the estimate's: it may be spoilt
        truth.pose.position.z = 0.5
        spoil(truth)
        self._truth.publish(truth)
        image, info = self.probe.image(self._index), self.probe.camera_info(self._index)
        image.header = info.header = header
        self.probe.send(image, info)
        estimate = ObjectPose(object_name=name, object_id=name, state=ObjectPose.LOST)
        self._objects.publish(ObjectPoseArray(header=header, objects=[estimate]))

    def wait_for(self, reason: str, **show: Any) -> AdaptationStatus:
        """Show images, as often as a camera does, until the node says this reason."""
        due = time.monotonic()

        def told() -> bool:
            nonlocal due
            if time.monotonic() >= due:  # a flood of them would starve the node
                self.show(**show)
                due = time.monotonic() + 0.05
            return any(reason in status.reason for status in self.said)

        self.said.clear()
        self.probe.wait(told, what=reason)
        return next(status for status in self.said if reason in status.reason)

    def call(self, kind: type, name: str, request: Any) -> Any:
        """Call a service of the node."""
        return self.probe.call(kind, name, request, node="fine_tuning")


@pytest.fixture(scope="module")
def fine_tuning(start_fine_tuning: Any, package: ObjectPackage, tmp_path_factory: Any) -> Iterator[None]:
    """One process for the tests of this file."""
    versions = tmp_path_factory.mktemp("store") / "versions"
    with start_fine_tuning(package.root, versions=str(versions), reference="topic:/truth"):
        yield


@pytest.fixture
def listener(fine_tuning: None, probe: Any) -> _Listener:
    made = _Listener(probe)
    made.wait_until_connected()
    return made


def test_status_is_latched_and_says_what_is_waited_for(listener: _Listener) -> None:
    listener.probe.wait(lambda: listener.said, what="a status")
    status = listener.said[0]
    assert status.object_name == "demo"
    assert status.state == AdaptationStatus.COLLECTING
    assert (status.active_version, status.candidate_version) == (0, 1)
    assert "no image has arrived" in status.reason
    assert math.isnan(status.reprojection_loss)


def _nan(message: PoseStamped) -> None:
    message.pose.position.x = math.nan


def _zero_quaternion(message: PoseStamped) -> None:
    message.pose.orientation.w = 0.0


def _no_frame(message: PoseStamped) -> None:
    message.header.frame_id = ""


def _another_time(message: PoseStamped) -> None:
    message.header.stamp.sec += 5000


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_nan, "the position is not finite"),
        (_zero_quaternion, "the quaternion's length is 0, expected 1"),
        (_no_frame, "header.frame_id: expected a frame"),
        (_another_time, "at the time of the image"),
    ],
)
def test_references_that_are_none_are_refused_with_the_reason(
    listener: _Listener, spoil: Callable[[PoseStamped], object], expected: str
) -> None:
    listener.wait_for("the image does not show the object there")  # a good reference reaches the intake
    before = listener.said[-1].refused
    status = listener.wait_for(expected, spoil=spoil)
    assert status.reason.startswith("image refused: topic:/truth")
    assert status.refused > before
    assert status.state == AdaptationStatus.COLLECTING


def test_estimates_of_another_object_are_refused(listener: _Listener) -> None:
    listener.wait_for("expected the object demo", name="cup")


def test_services_answer(listener: _Listener) -> None:
    answer = listener.call(Trigger, "rollback", Trigger.Request())
    assert "nothing to roll back" in answer.message
    assert listener.call(SetBool, "pause", SetBool.Request(data=True)).success
    listener.probe.wait(lambda: listener.said[-1].state == AdaptationStatus.PAUSED, what="the pause")
    assert listener.call(SetBool, "pause", SetBool.Request(data=False)).success
    listener.probe.wait(lambda: listener.said[-1].state == AdaptationStatus.COLLECTING, what="the end of the pause")
    assert listener.call(Trigger, "reset", Trigger.Request()).success


def test_diagnostics_tell_weights_and_counts(listener: _Listener) -> None:
    listener.show()
    status = listener.probe.status()
    values = {pair.key: pair.value for pair in status.values}
    assert status.name == "fine_tuning: adaptation"
    assert status.level in (DiagnosticStatus.OK, DiagnosticStatus.WARN)
    assert values["weights"] == "the object package's own"
    assert values["focal length to be corrected by"] == "+0.0%"
    assert int(values["invalid references"]) > 0
    assert int(values["images without a reference"]) > 0


def test_wrong_parameters_end_it_with_one_line(ros: None, package: ObjectPackage, tmp_path: Path) -> None:
    good = {"object": str(package.root), "versions": str(tmp_path / "versions"), "reference": "self"}
    cases = [
        ({"object": "/nowhere"}, "/nowhere: no such object package"),
        ({"reference": "mocap"}, "parameter reference: expected self"),
        ({"adaptation.min_images": "1"}, "min_images: expected 8"),
    ]
    processes = [_start(good | wrong) for wrong, _ in cases]
    for process, (_, expected) in zip(processes, cases):
        _, errors = process.communicate(timeout=START_S)
        assert process.returncode == 1, errors
        assert expected in errors
        assert "Traceback" not in errors


def _start(parameters: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pnp_ros.nodes.fine_tuning_node", "--ros-args"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
