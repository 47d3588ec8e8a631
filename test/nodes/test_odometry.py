"""The filtered motion in the node: frames, velocities, times, and a camera that moves."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

pytest.importorskip("rclpy")

from nav_msgs.msg import Odometry
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from std_msgs.msg import Header

from pnp_ros.filtering.pose_filter import FilteredPose
from pnp_ros.geometry import so3
from pnp_ros.nodes import conversions
from pnp_ros.nodes.odometry import OdometryOutput
from pnp_ros.nodes.parameters import Parameters
from pnp_ros.nodes.transform_queue import TransformQueue
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.types import Pose, PoseEstimate

SIGMA = torch.tensor([0.001, 0.001, 0.003, 0.01, 0.01, 0.01], dtype=torch.float64)


def _vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _header(stamp: float) -> Header:
    header = Header(frame_id="camera")
    header.stamp.sec, header.stamp.nanosec = int(stamp), round(1e9 * (stamp % 1.0))
    return header


def _found(pose: Pose | None) -> ObjectEstimate:
    state = ObjectState.LOST if pose is None else ObjectState.VALID
    estimate = None if pose is None else PoseEstimate.of(pose, torch.diag(SIGMA**2))
    return ObjectEstimate(state, estimate, name="mug")


class Heard:
    """An output in this process, and what it published."""

    def __init__(self, **parameters: Any) -> None:
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = LifecycleNode("odometry_test", parameter_overrides=overrides, enable_communication_interface=False)
        self.output = OdometryOutput(self.node, Parameters(self.node))
        self.messages: list[Odometry] = []
        self.output._publishers[""] = self  # in place of the one of rclpy
        self.output.configure({"mug": ""})

    def get_subscription_count(self) -> int:
        return 1

    def publish(self, message: Odometry) -> None:
        self.messages.append(message)


@pytest.fixture
def heard(ros: None) -> Iterator[Any]:
    made: list[Heard] = []

    def make(**parameters: Any) -> Heard:
        made.append(Heard(**parameters))
        return made[-1]

    yield make
    for item in made:
        item.node.destroy_node()


def test_velocity_is_told_in_the_objects_axes() -> None:
    turned = Pose(so3.exp(_vector(0.0, 0.0, math.pi / 2)), _vector(0.1, 0.2, 0.9))
    covariance = torch.diag(_vector(1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    motion = FilteredPose(5.0, turned, covariance, _vector(1.0, 0.0, 0.5, 0.0, 2.0, 0.0), covariance, 0.0)
    message = conversions.odometry(_header(5.0), "mug", motion)
    assert (message.header.frame_id, message.child_frame_id) == ("camera", "mug")
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    assert [linear.x, linear.y, linear.z] == pytest.approx([0.0, -1.0, 0.5], abs=1e-12)
    assert [angular.x, angular.y, angular.z] == pytest.approx([2.0, 0.0, 0.0], abs=1e-12)
    assert message.pose.covariance[::7] == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert message.twist.covariance[::7] == pytest.approx([2.0, 1.0, 3.0, 5.0, 4.0, 6.0])


def test_a_lost_object_is_predicted_for_a_while_at_the_images_time(heard: Any) -> None:
    told = heard()
    noise = 0.5 * SIGMA * torch.randn(30, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for k in range(30):
        seen = Pose(so3.exp(noise[k, 3:]), _vector(0.01 * k, 0, 1) + noise[k, :3])
        told.output.publish(_header(1000.0 + k / 30), "mug", _found(seen))
    assert len(told.messages) == 30
    assert told.messages[-1].header.stamp == _header(1000.0 + 29 / 30).stamp  # the images are of long ago
    assert told.messages[-1].twist.twist.linear.x == pytest.approx(0.3, abs=0.02)
    for k in range(30, 60):
        told.output.publish(_header(1000.0 + k / 30), "mug", _found(None))
    assert 40 <= len(told.messages) <= 45  # half a second
    assert told.messages[-1].pose.pose.position.x == pytest.approx(0.01 * (len(told.messages) - 1), abs=0.02)
    assert told.messages[-1].pose.covariance[0] > 3.0 * told.messages[29].pose.covariance[0]
    told.output.reset()
    told.output.publish(_header(1002.0), "mug", _found(None))
    assert len(told.messages) <= 45


def test_the_time_of_processing_is_made_up_for(heard: Any) -> None:
    told = heard(**{"filter.patience": 60.0})  # the machine may be busy
    now = 1e-9 * told.node.get_clock().now().nanoseconds
    for k in range(30):
        seen = Pose(torch.eye(3).double(), _vector(0.01 * k, 0, 1))
        told.output.publish(_header(now - 0.2 + (k - 29) / 30), "mug", _found(seen))
    last = told.messages[-1]
    ahead = conversions.seconds(last.header.stamp) - (now - 0.2)
    assert ahead >= 0.2
    assert last.pose.pose.position.x == pytest.approx(0.29 + 0.3 * ahead, abs=0.01)


def test_seen_from_a_moving_camera_a_still_object_stands_still(heard: Any) -> None:
    told = heard(fixed_frame="odom")
    world = Pose(so3.exp(_vector(0.3, 0.0, 0.2)), _vector(0.5, 0.1, 1.2))
    generator = torch.Generator().manual_seed(0)
    raw = []
    for k in range(120):
        stamp = 1000.0 + k / 30
        camera = Pose(so3.exp(_vector(0.0, 0.3 * math.sin(k / 20), 0.0)), _vector(0.2 * math.sin(k / 15), 0.0, 0.0))
        transform = conversions.transform(Header(frame_id="odom", stamp=_header(stamp).stamp), "camera", camera)
        told.output._transforms.add(transform)
        noise = SIGMA * torch.randn(6, generator=generator, dtype=torch.float64)
        seen = camera.inverse() @ world
        seen = Pose(so3.exp(noise[3:]) @ seen.rotation, seen.translation + noise[:3])
        raw.append((camera @ seen).translation)
        told.output.publish(_header(stamp), "mug", _found(seen))
    assert {m.header.frame_id for m in told.messages} == {"odom"}
    positions = [m.pose.pose.position for m in told.messages[30:]]
    filtered = torch.tensor([[p.x, p.y, p.z] for p in positions], dtype=torch.float64)
    single = torch.stack(raw[30:])
    assert float(filtered.std(0).norm()) < 0.45 * float(single.std(0).norm())  # told for now, not for the image's time
    assert float((filtered - world.translation).norm(dim=-1).mean()) < 0.01


def test_what_a_moving_camera_has_wrong_is_learnt_in_the_fixed_frame(heard: Any) -> None:
    """Each pose is off by the same in the camera's axes, and says by how much it may be."""
    told = heard(fixed_frame="odom", odometry_for="image")
    world, off = Pose(torch.eye(3).double(), _vector(0.0, 0.0, 1.0)), _vector(0.004, 0.0, 0.006, 0.0, 0.0, 0.0)
    common = torch.diag(_vector(0.005, 0.005, 0.008, 1e-4, 1e-4, 1e-4))
    for k in range(90):
        stamp, turn = 1000.0 + k / 30, Pose(so3.exp(_vector(0.0, k / 60, 0.0)), torch.zeros(3).double())
        camera = world @ turn @ world.inverse()  # around the object
        transform = conversions.transform(Header(frame_id="odom", stamp=_header(stamp).stamp), "camera", camera)
        told.output._transforms.add(transform)
        seen = camera.inverse() @ world
        found = _found(Pose(seen.rotation, seen.translation + off[:3]))
        spread = PoseEstimate.of(found.estimate.pose, torch.diag((0.1 * SIGMA) ** 2) + common @ common.mT)
        found = ObjectEstimate(ObjectState.VALID, spread, name="mug", systematic=common.float())
        told.output.publish(_header(stamp), "mug", found)
    place = told.messages[-1].pose.pose.position
    assert [place.x, place.y, place.z] == pytest.approx([0.0, 0.0, 1.0], abs=0.001)


def test_poses_wait_for_transforms_that_are_late_or_far_apart(heard: Any) -> None:
    """TF eight times a second, 0.1 s late, of a camera that moves; a still object is where it is."""
    told = heard(fixed_frame="odom", odometry_for="image")
    world, sent = Pose(torch.eye(3).double(), _vector(0.0, 0.0, 1.0)), 0

    def place(stamp: float) -> Pose:
        return Pose(torch.eye(3).double(), _vector(0.3 * (stamp - 1000.0), 0.0, 0.0))

    for k in range(60):
        stamp = 1000.0 + k / 30
        while 1000.0 + sent / 8 <= stamp - 0.1:
            at = Header(frame_id="odom", stamp=_header(1000.0 + sent / 8).stamp)
            told.output._transforms.add(conversions.transform(at, "camera", place(1000.0 + sent / 8)))
            sent += 1
        told.output.publish(_header(stamp), "mug", _found(place(stamp).inverse() @ world))
    assert len(told.messages) >= 50
    last = told.messages[-1].pose.pose.position
    assert [last.x, last.y, last.z] == pytest.approx([0.0, 0.0, 1.0], abs=1e-6)


def test_a_pose_that_waited_in_vain_is_given_up_with_what_is_missing(heard: Any) -> None:
    transforms = heard(fixed_frame="odom").output._transforms
    waiting = TransformQueue[int](transforms, "odom", 0.5)
    at = Header(frame_id="odom", stamp=_header(999.0).stamp)
    transforms.add(conversions.transform(at, "camera", Pose(torch.eye(3).double(), torch.zeros(3).double())))
    for k in range(6):
        waiting.put(_header(1000.0 + k / 10), k)
        assert waiting.get(_header(1000.0 + k / 10)) == []
        problem = waiting.problem()
        assert bool(problem) == (k == 5)
    assert problem == (
        "fixed_frame odom: no pose of camera in odom at the time of the image: "
        "of odom to camera the last one is 1.000 s older"
    )
    for second in (999.4, 999.8, 1000.2, 1000.6):
        at = Header(frame_id="odom", stamp=_header(second).stamp)
        transforms.add(conversions.transform(at, "camera", Pose(torch.eye(3).double(), torch.zeros(3).double())))
    assert [seen for _, _, seen in waiting.get(_header(1000.5))] == [1, 2, 3, 4, 5]
    assert waiting.get(_header(1000.5)) == []


def test_without_transforms_nothing_is_told(heard: Any) -> None:
    told = heard(fixed_frame="odom")
    told.output.publish(_header(1000.0), "mug", _found(Pose(torch.eye(3).double(), _vector(0.0, 0.0, 1.0))))
    assert not told.messages


def test_off_it_tells_nothing(heard: Any) -> None:
    told = heard(odometry_for="off")
    told.output.publish(_header(1000.0), "mug", _found(Pose(torch.eye(3).double(), _vector(0.0, 0.0, 1.0))))
    assert not told.messages
