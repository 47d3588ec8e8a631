import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

import torch
import yaml
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, TransformStamped
from nav_msgs.msg import Odometry
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from pnp_ros.adaptation.observation import Observation
from pnp_ros.adaptation.references.reference import Reference
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.io.stamps import nanoseconds
from pnp_ros.nodes import conversions
from pnp_ros.nodes.references import TransformReference, make_reference
from pnp_ros.nodes.transform_history import TransformHistory
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.types import Pose

CAMERA, OBJECT = "camera_optical_frame", "mug_truth"


@pytest.fixture
def node(ros: None) -> Iterator[Node]:
    made = rclpy.create_node("listener")
    yield made
    made.destroy_node()


def _pose(seed: int) -> Pose:
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(6, generator=generator, dtype=torch.float64)
    return Pose(so3.exp(vector[:3]), vector[3:] + torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64))


def _header(milliseconds: int, frame: str) -> Header:
    made = Header(frame_id=frame)
    made.stamp.sec, made.stamp.nanosec = 1000 + milliseconds // 1000, milliseconds % 1000 * 1_000_000
    return made


def _transform(milliseconds: int, parent: str, child: str, pose: Pose) -> TransformStamped:
    return conversions.transform(_header(milliseconds, parent), child, pose)


def _told(reference: Reference, milliseconds: int, own: str = "mug") -> Pose | None:
    """What it says of an image of that time; ``own`` is what the estimator publishes."""
    stamp_ns, camera = nanoseconds(_header(milliseconds, CAMERA).stamp), Camera.pinhole(9, 9, 4, 4, 8, 8)
    image = 0, stamp_ns, np.zeros((8, 8, 3), np.uint8), camera, CAMERA
    told = list(reference.confirmed(Observation(*image, state=ObjectState.LOST, estimate=None, object_id=own)))
    assert bool(told) is not bool(reference.problem)
    return told[0].reference if told else None


def _same(found: Pose | None, expected: Pose) -> None:
    assert found is not None
    torch.testing.assert_close(found.matrix(), expected.matrix(), atol=1e-9, rtol=0.0)


def test_transforms_are_chained_and_interpolated(node: Node) -> None:
    history = TransformHistory(node)
    T_camera_base, start = _pose(0), _pose(1)
    step = torch.tensor([0.02, 0.0, 0.01, 0.1, 0.05, 0.0], dtype=torch.float64)
    history.add(_transform(0, "base", CAMERA, se3.inverse(T_camera_base)), static=True)
    for index in range(4):
        history.add(_transform(50 * index, "base", f"/{OBJECT}", se3.retract(start, index * step)))
    reference = TransformReference(history, OBJECT, "tf:mug_truth")
    _same(_told(reference, 50), se3.compose(T_camera_base, se3.retract(start, step)))
    _same(_told(reference, 75), se3.compose(T_camera_base, se3.retract(start, 1.5 * step)))
    assert _told(reference, 175) is None
    assert "at the time of the image" in reference.problem
    assert _told(TransformReference(history, "elsewhere", "tf:elsewhere"), 50) is None


def test_what_the_estimator_publishes_is_no_reference(node: Node) -> None:
    history = TransformHistory(node)
    history.add(_transform(0, CAMERA, "mug", _pose(0)))
    history.add(_transform(0, "mug", "handle", _pose(1)), static=True)
    own = TransformReference(history, "mug", "tf:mug")
    assert _told(own, 0) is None
    assert "use the reference self" in own.problem
    assert _told(TransformReference(history, "handle", "tf:handle"), 0) is None
    assert _told(TransformReference(history, "handle", "tf:handle"), 0, own="cup") is not None


def _nan_position(pose: Any) -> None:
    pose.position.y = math.nan


def _infinite_position(pose: Any) -> None:
    pose.position.x = math.inf


def _zero_quaternion(pose: Any) -> None:
    pose.orientation.x = pose.orientation.y = pose.orientation.z = pose.orientation.w = 0.0


def _nan_quaternion(pose: Any) -> None:
    pose.orientation.w = math.nan


def _long_quaternion(pose: Any) -> None:
    pose.orientation.x, pose.orientation.w = 1.0, 1.0


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_nan_position, "position is not finite"),
        (_infinite_position, "position is not finite"),
        (_zero_quaternion, "length is 0, expected 1"),
        (_nan_quaternion, "length is nan, expected 1"),
        (_long_quaternion, "expected 1"),
    ],
)
def test_values_that_are_no_pose_are_counted_and_named(node: Node, spoil: Any, expected: str) -> None:
    history = TransformHistory(node)
    message = PoseStamped(header=_header(0, CAMERA))
    spoil(message.pose)
    transform = TransformStamped(header=message.header, child_frame_id=OBJECT)
    position, translation = message.pose.position, transform.transform.translation
    translation.x, translation.y, translation.z = position.x, position.y, position.z
    transform.transform.rotation = message.pose.orientation
    history.add(transform)
    reference = TransformReference(history, OBJECT, "tf:mug_truth")
    assert _told(reference, 0) is None
    assert reference.refused == 1
    assert expected in reference.problem
    history.add(_transform(0, CAMERA, OBJECT, _pose(0)))
    _same(_told(reference, 0), _pose(0))
    assert reference.problem == ""


def _odometry(header: Header, pose: Any) -> Odometry:
    message = Odometry(header=header)
    message.pose.pose = pose
    return message


def _with_covariance(header: Header, pose: Any) -> PoseWithCovarianceStamped:
    message = PoseWithCovarianceStamped(header=header)
    message.pose.pose = pose
    return message


def _as_transform(header: Header, pose: Any) -> TransformStamped:
    return conversions.transform(header, "whatever", conversions.pose_from_message(pose))


@pytest.mark.parametrize(
    "make", [lambda h, p: PoseStamped(header=h, pose=p), _with_covariance, _odometry, _as_transform]
)
def test_poses_of_a_topic_come_in_any_of_four_types(node: Node, make: Any) -> None:
    message = make(_header(0, CAMERA), conversions.message_from_pose(_pose(2)))
    reference = make_reference(node, "topic:/mocap/mug", 0.5)
    assert _told(reference, 0) is None
    assert "nobody publishes it" in reference.problem
    publisher = node.create_publisher(type(message), "/mocap/mug", 10)
    for _ in range(200):
        publisher.publish(message)
        rclpy.spin_once(node, timeout_sec=0.05)
        if (found := _told(reference, 0)) is not None:
            break
    _same(found, _pose(2))


def test_a_topic_of_another_type_is_said(node: Node) -> None:
    reference = make_reference(node, "topic:/images", 0.5)
    node.create_publisher(Image, "/images", 10)
    for _ in range(100):
        rclpy.spin_once(node, timeout_sec=0.05)
        assert _told(reference, 0) is None
        if "got sensor_msgs/msg/Image" in reference.problem:
            break
    assert "expected one of PoseStamped" in reference.problem


def test_what_a_late_reference_needs_is_still_there(node: Node) -> None:
    history = TransformHistory(node, late_s=30.0)  # a motion capture that tells its poses half a minute later
    reference = TransformReference(history, OBJECT, "tf:mug_truth")
    for second in range(200):
        history.add(_transform(1000 * second, "base", CAMERA, _pose(0)))
    history.add(_transform(161_000, "base", OBJECT, _pose(1)))
    _same(_told(reference, 161_000), se3.compose(se3.inverse(_pose(0)), _pose(1)))


def test_old_transforms_are_forgotten_and_time_may_jump_back(node: Node) -> None:
    history = TransformHistory(node)
    reference = TransformReference(history, OBJECT, "tf:mug_truth")
    for second in range(200):
        history.add(_transform(1000 * second, CAMERA, OBJECT, _pose(second)))
    assert len(history._tree.series((CAMERA, OBJECT))) <= 21
    _same(_told(reference, 195_000), _pose(195))
    assert _told(reference, 100_000) is None
    history.add(_transform(100_000, CAMERA, OBJECT, _pose(7)))
    history.add(_transform(100_050, CAMERA, OBJECT, _pose(8)))
    _same(_told(reference, 100_050), _pose(8))
    assert _told(reference, 195_000) is None


def test_a_reset_within_seconds_does_not_mix_two_runs(node: Node) -> None:
    history = TransformHistory(node)
    reference = TransformReference(history, OBJECT, "tf:mug_truth")
    for k in range(400):
        history.add(_transform(20 * k, CAMERA, OBJECT, _pose(1)))
    for k in range(100):
        history.add(_transform(20 * k + 7, CAMERA, OBJECT, _pose(2)))
    for milliseconds in (1000, 1500, 1985):
        _same(_told(reference, milliseconds), _pose(2))
    assert _told(reference, 2500) is None


def test_a_message_that_was_long_on_its_way_forgets_nothing(node: Node) -> None:
    history = TransformHistory(node)
    reference = TransformReference(history, OBJECT, "tf:mug_truth")
    for k in range(400):
        history.add(_transform(20 * k, CAMERA, OBJECT, _pose(1)))
        if k % 2:  # slightly out of order, and of a second publisher that is always late
            history.add(_transform(20 * k - 50, CAMERA, OBJECT, _pose(1)))
        if k % 50 == 0:
            history.add(_transform(20 * k - 3000, CAMERA, OBJECT, _pose(2)))
    for milliseconds in (100, 4005, 7970):
        _same(_told(reference, milliseconds), _pose(1))


def test_a_clock_that_jumps_back_forgets_what_moves_and_keeps_what_is_fixed(node: Node) -> None:
    history = TransformHistory(node)
    node.set_parameters([Parameter("use_sim_time", value=True)])
    reference, clock = TransformReference(history, OBJECT, "tf:mug_truth"), node.get_clock()
    clock.set_ros_time_override(Time(seconds=1000, clock_type=ClockType.ROS_TIME))
    history.add(_transform(0, CAMERA, "rig", _pose(0)), static=True)
    history.add(_transform(500, "rig", OBJECT, _pose(1)))
    clock.set_ros_time_override(Time(seconds=1001, clock_type=ClockType.ROS_TIME))
    _same(_told(reference, 500), se3.compose(_pose(0), _pose(1)))
    clock.set_ros_time_override(Time(seconds=1000, clock_type=ClockType.ROS_TIME))
    assert _told(reference, 500) is None
    history.add(_transform(100, "rig", OBJECT, _pose(2)))
    _same(_told(reference, 100), se3.compose(_pose(0), _pose(2)))


@pytest.mark.parametrize("text", ["", "tf:", "topic:", "board:", "mocap:x", "selfish", "file:poses.json"])
def test_unknown_references_are_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match="parameter reference: expected self, tf:FRAME, topic:/NAME or board:FILE, got"
    ):
        make_reference(SimpleNamespace(), text, 0.5)  # type: ignore[arg-type]


def test_a_missing_board_is_named(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=r"board\.yaml"):
        make_reference(SimpleNamespace(), f"board:{tmp_path}/board.yaml", 0.5)  # type: ignore[arg-type]


def test_a_board_that_is_not_seen_is_said(tmp_path: Path) -> None:
    here = {"translation": [0, 0, 0], "quat_wxyz": [1, 0, 0, 0]}
    board = {"type": "aruco", "dictionary": "DICT_4X4_50", "markers": [{"id": 1, "side": 0.05}], "T_board_object": here}
    (tmp_path / "board.yaml").write_text(yaml.safe_dump(board))
    reference = make_reference(SimpleNamespace(), f"board:{tmp_path}/board.yaml", 0.5)  # type: ignore[arg-type]
    assert _told(reference, 0) is None
    assert reference.problem.startswith(f"board:{tmp_path}/board.yaml: not seen")
