"""Three cameras around a cell, one process that fuses them."""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

rclpy = pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovariance, PoseWithCovarianceStamped
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from node_here import node_here
from pnp_ros.geometry import covariance, se3, so3
from pnp_ros.msg import Hypothesis, ObjectPose, ObjectPoseArray
from pnp_ros.nodes import conversions
from pnp_ros.nodes.pose_fusion_node import PoseFusionNode
from pnp_ros.types import Pose, PoseEstimate

TRUTH = Pose(so3.exp(torch.tensor([0.4, -0.9, 1.3], dtype=torch.float64)), torch.tensor([0.1, 0.05, 0.02]).double())
SIGMA = torch.tensor([0.001, 0.001, 0.006, 0.02, 0.02, 0.008], dtype=torch.float64)
RATE, IMAGES = 20.0, 400


def _place(index: int) -> Pose:
    """Of a camera 0.8 m away that looks at the cell's middle."""
    eye = 0.8 * torch.tensor([math.cos(2.1 * index), math.sin(2.1 * index), 0.6], dtype=torch.float64)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    return se3.look_at(eye, torch.zeros(3, dtype=torch.float64), up).inverse()


class Cameras:
    """Three sources of poses, of which one may be turned."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("cameras")
        self.places = [_place(index) for index in range(3)]
        self._outputs = [
            self.node.create_publisher(PoseWithCovarianceStamped, f"/cam{index}/pose", 10) for index in range(3)
        ]
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._static = self.node.create_publisher(TFMessage, "/tf_static", latched)
        self._static.publish(
            TFMessage(
                transforms=[
                    conversions.transform(Header(frame_id="cell"), f"cam{index}", place)
                    for index, place in enumerate(self.places)
                ]
            )
        )
        self._generator = torch.Generator().manual_seed(0)
        self.fused: list[PoseWithCovarianceStamped] = []
        self.reports: list[DiagnosticStatus] = []
        self.node.create_subscription(PoseWithCovarianceStamped, "/pose_fusion/pose", self.fused.append, 100)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", lambda m: self.reports.extend(m.status), 10)
        self.sent = 0

    def send(self, turned: int = -1) -> None:
        """One image of each camera."""
        for index, output in enumerate(self._outputs):
            noise = SIGMA * torch.randn(6, generator=self._generator, dtype=torch.float64)
            place = self.places[index]
            if index == turned:
                place = place @ Pose(
                    so3.exp(torch.tensor([0.0, math.radians(2.0), 0.0]).double()), torch.zeros(3).double()
                )
            seen = se3.retract(place.inverse() @ TRUTH, noise)
            header = Header(frame_id=f"cam{index}", stamp=conversions.stamp_of(1000.0 + self.sent / RATE))
            output.publish(conversions.stamped_pose(header, PoseEstimate.of(seen, torch.diag(SIGMA**2))))
        self.sent += 1
        deadline = time.monotonic() + 1.0 / RATE
        while (left := deadline - time.monotonic()) > 0.0:
            rclpy.spin_once(self.node, timeout_sec=left)

    def wait(self, condition: Any, what: str) -> None:
        """For what needs no images."""
        deadline = time.monotonic() + 120.0
        while not condition():
            assert time.monotonic() < deadline, f"waited for {what}"
            rclpy.spin_once(self.node, timeout_sec=0.05)

    def send_until(self, condition: Any, what: str, turned: int = -1) -> None:
        """Send until the condition holds; fail after 20 s of images."""
        for _ in range(IMAGES):
            self.send(turned)
            if condition():
                return
        pytest.fail(f"waited for {what}")


@pytest.fixture
def cameras(ros: None) -> Iterator[Cameras]:
    made = Cameras()
    yield made
    made.node.destroy_node()


def test_three_cameras_are_fused_and_a_turned_one_is_named(start_node: Any, cameras: Cameras) -> None:
    topics = [f"/cam{index}/pose" for index in range(3)]
    with start_node("pose_fusion", poses=topics, fixed_frame="cell"):
        cameras.wait(lambda: cameras.reports, "the node")
        cameras.send_until(lambda: len(cameras.fused) >= 90, "fused poses")
        assert {m.header.frame_id for m in cameras.fused} == {"cell"}
        squares = []
        for message in cameras.fused[30:]:
            pose = conversions.pose_from_message(message.pose.pose)
            told = torch.tensor(message.pose.covariance, dtype=torch.float64).reshape(6, 6)
            squares.append(covariance.nees(se3.local(TRUTH, pose), told))
            assert (
                float((pose.translation - TRUTH.translation).norm()) < 0.006
            )  # one camera's depth alone: 6 mm, 1 sigma
        assert float(torch.stack(squares).mean()) < 12.0
        cameras.reports.clear()
        cameras.send_until(lambda: cameras.reports, "a report")
        assert cameras.reports[0].level == DiagnosticStatus.OK
        cameras.reports.clear()
        named = "/cam1/pose contradicts the others"
        cameras.send_until(
            lambda: any(named in r.message for r in cameras.reports), "the turned camera's name", turned=1
        )
        told = next(k for k, report in enumerate(cameras.reports) if named in report.message)
        assert told <= 5  # reports, one a second


def test_instances_of_three_cameras_are_fused_and_an_open_pose_is_decided(start_node: Any, cameras: Cameras) -> None:
    """Each camera numbers the two instances for itself; the third one cannot tell the first from its reversal."""
    others = [Pose(TRUTH.rotation, TRUTH.translation + torch.tensor([x, 0.0, 0.0]).double()) for x in (0.0, 0.3)]
    half = Pose(so3.exp(torch.tensor([0.0, 0.0, math.pi]).double()), torch.zeros(3).double())
    outputs = [cameras.node.create_publisher(ObjectPoseArray, f"/cam{index}/objects", 10) for index in range(3)]
    told: list[ObjectPoseArray] = []
    cameras.node.create_subscription(ObjectPoseArray, "/pose_fusion/objects", told.append, 100)

    def send(k: int) -> None:
        for index, (output, place) in enumerate(zip(outputs, cameras.places)):
            header = Header(frame_id=f"cam{index}", stamp=conversions.stamp_of(1000.0 + k / RATE))
            items = []
            for number, truth in enumerate(others if index % 2 else others[::-1]):
                seen = PoseEstimate.of(place.inverse() @ truth, torch.diag(SIGMA**2))
                message = ObjectPose(object_name="mug", object_id=f"mug_{number}", state=ObjectPose.VALID)
                message.pose = conversions.pose_with_covariance(seen)
                if index == 2 and truth is others[0]:
                    wrong = PoseEstimate.of(place.inverse() @ truth @ half, torch.diag(SIGMA**2))
                    message.state = ObjectPose.UNCERTAIN
                    message.hypotheses = [
                        Hypothesis(probability=0.5, pose=conversions.pose_with_covariance(each))
                        for each in (wrong, seen)
                    ]
                items.append(message)
            output.publish(conversions.object_poses(header, items, {}))
        rclpy.spin_once(cameras.node, timeout_sec=0.05)

    topics = [f"/cam{index}/objects" for index in range(3)]
    with start_node("pose_fusion", object_topics=topics, fixed_frame="cell"):
        cameras.wait(lambda: cameras.reports, "the node")
        for round_ in range(200):
            send(round_)
            if len(told) >= 30:
                break
    items = {item.object_id: item for message in told[6:] for item in message.objects}
    assert {message.header.frame_id for message in told} == {"cell"}
    assert set(items) == {"mug_0", "mug_1"}
    for item in items.values():
        assert item.state == ObjectPose.VALID
        pose = conversions.pose_from_message(item.pose.pose)
        assert min(float(se3.local(truth, pose).norm()) for truth in others) < 1e-3


@pytest.fixture
def fusing(ros: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes a fusion node in this process; what it publishes and reports is kept."""
    nodes: list[PoseFusionNode] = []

    def make(**values: Any) -> tuple[PoseFusionNode, list[Any], list[DiagnosticStatus]]:
        nodes.append(node_here(PoseFusionNode, **({"fixed_frame": "cell"} | values)))
        fused: list[Any] = []
        reports: list[DiagnosticStatus] = []
        monkeypatch.setattr(nodes[-1]._output, "publish", fused.append)
        monkeypatch.setattr(nodes[-1]._diagnostics, "publish", lambda message: reports.extend(message.status))
        return nodes[-1], fused, reports

    yield make
    for node in nodes:
        node.destroy_node()


def test_poses_wait_for_the_transform_of_a_camera_that_moves(fusing: Any) -> None:
    node, fused, _ = fusing(poses=["/cam0/pose", "/cam1/pose"])
    for k in range(4):
        place, header = _place(k), Header(frame_id="cam0", stamp=conversions.stamp_of(1000.0 + k / RATE))
        seen = PoseEstimate.of(place.inverse() @ TRUTH, torch.diag(SIGMA**2))
        node._on_pose("/cam0/pose", conversions.stamped_pose(header, seen))
        assert len(fused) == k
        at = Header(frame_id="cell", stamp=header.stamp)
        node._waiting["/cam0/pose"].transforms.add(conversions.transform(at, "cam0", place))
    for message in fused:
        pose = conversions.pose_from_message(message.pose.pose)
        assert float(se3.local(TRUTH, pose).norm()) < 1e-6


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (("poses:=[/a, /b]",), "parameter fixed_frame: expected a TF frame"),
        (("poses:=[/a, /tür]", "fixed_frame:=cell"), "parameter poses: expected names of topics, got '/tür'"),
    ],
)
def test_a_wrong_parameter_ends_the_node_with_words(ros: None, parameters: tuple[str, ...], expected: str) -> None:
    settings = [word for parameter in parameters for word in ("-p", parameter)]
    command = [sys.executable, "-m", "pnp_ros.nodes.pose_fusion_node", "--ros-args", *settings]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert expected in ended.stderr
    assert "Traceback" not in ended.stderr


SPOILT: dict[str, Callable[[PoseWithCovariance], object]] = {
    "covariance of zeros": lambda m: setattr(m, "covariance", [0.0] * 36),
    "infinite covariance": lambda m: setattr(m, "covariance", [math.inf] * 36),
    "covariance with a negative variance": lambda m: m.covariance.__setitem__(0, -1.0),
    "lopsided covariance": lambda m: m.covariance.__setitem__(1, 5.0),
    "denormal covariance": lambda m: setattr(m, "covariance", (1e-320 * torch.eye(6).double()).flatten().tolist()),
    "position": lambda m: setattr(m.pose.position, "x", math.nan),
    "quaternion of zeros": lambda m: setattr(m.pose.orientation, "w", 0.0),
}


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize("topics", ["poses", "object_topics"])
def test_what_is_no_measured_pose_is_named_and_survived(fusing: Any, topics: str, spoilt: str) -> None:
    node, fused, reports = fusing(**{topics: ["/a", "/b"]})
    right, wrong = (
        conversions.pose_with_covariance(PoseEstimate.of(Pose.identity().to(dtype=torch.float64), torch.eye(6)))
        for _ in range(2)
    )
    SPOILT[spoilt](wrong)

    def send(camera: str, message: PoseWithCovariance, k: int) -> None:
        header = Header(frame_id="cell", stamp=conversions.stamp_of(1000.0 + 0.01 * k))
        if topics == "poses":
            node._on_pose(camera, PoseWithCovarianceStamped(header=header, pose=message))
        else:
            item = ObjectPose(object_name="mug", state=ObjectPose.VALID, pose=message)
            node._on_objects(camera, ObjectPoseArray(header=header, objects=[item]))

    send("/a", wrong, 0)
    node._report()
    for k in range(1, 5):
        send("/b", right, k)
        send("/a", wrong, k)
    node._report()
    field = "pose.covariance" if "covariance" in spoilt else "pose.pose"
    assert f"/a: {field}: expected" in reports[0].message
    assert reports[0].level == DiagnosticStatus.ERROR
    assert "nothing told by /a" in reports[1].message
    assert f"/a: {field}: expected" in reports[1].message
    poses = [m.pose if topics == "poses" else m.objects[0].pose for m in fused]
    assert len(poses) == 4
    for posed in poses:
        assert all(map(math.isfinite, [*posed.covariance, posed.pose.position.x, posed.pose.orientation.w]))


def test_parameters_are_settled_when_it_starts(fusing: Any) -> None:
    node, _, _ = fusing(poses=["/a", "/b"])
    (result,) = node.set_parameters([Parameter("gate", value=5.0)])
    assert "is read when the node starts" in result.reason
