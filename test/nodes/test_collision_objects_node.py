"""MoveIt's planning scene. There is no wheel of moveit_msgs: stand-ins here have the fields that are used."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch

pytest.importorskip("rclpy")

from geometry_msgs.msg import Pose as PoseMsg
from std_msgs.msg import Header

from node_here import node_here
from pnp_ros.geometry import so3
from pnp_ros.msg import ObjectPose, ObjectPoseArray
from pnp_ros.nodes import collision_objects_node, conversions
from pnp_ros.nodes.collision_objects_node import CollisionObjectsNode, Placement
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.types import Pose


@dataclass
class CollisionObject:
    """moveit_msgs/CollisionObject, as far as it is used."""

    ADD: ClassVar[bytes] = b"\x00"
    REMOVE: ClassVar[bytes] = b"\x01"
    MOVE: ClassVar[bytes] = b"\x03"
    id: str = ""
    operation: bytes = b""
    header: Header = field(default_factory=Header)
    pose: PoseMsg = field(default_factory=PoseMsg)
    meshes: list[Any] = field(default_factory=list)
    mesh_poses: list[Any] = field(default_factory=list)


@dataclass
class Mesh:
    """shape_msgs/Mesh."""

    triangles: list[Any]
    vertices: list[Any]


@dataclass
class MeshTriangle:
    """shape_msgs/MeshTriangle."""

    vertex_indices: list[int]


class Heard(list[CollisionObject]):
    """A publisher in this process."""

    listeners = 1
    publish = list.append

    def get_subscription_count(self) -> int:
        return self.listeners


@pytest.fixture
def node(ros: None, package: ObjectPackage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    classes = {kind.__name__: kind for kind in (CollisionObject, Mesh, MeshTriangle)}
    monkeypatch.setattr(collision_objects_node, "message_class", lambda kind: classes[kind.rpartition("/")[2]])
    real, heard = CollisionObjectsNode.create_publisher, Heard()

    def create_publisher(self: Any, kind: type, *args: Any, **options: Any) -> Any:
        return heard if kind is CollisionObject else real(self, kind, *args, **options)

    monkeypatch.setattr(CollisionObjectsNode, "create_publisher", create_publisher)
    made: Any = node_here(CollisionObjectsNode, objects=[str(package.root)], fixed_frame="world")
    made.heard = heard
    yield made
    made.destroy_node()


def _seen(x: float, state: int = ObjectPose.VALID, name: str = "demo") -> ObjectPoseArray:
    header = Header(frame_id="camera")
    header.stamp.sec = 1000
    item = ObjectPose(object_name=name, object_id=f"{name}_0", state=state)
    item.pose.pose = conversions.message_from_pose(Pose.from_rvec([0.1, 0.2, 0.3], [x, 0.0, 0.8]))
    return ObjectPoseArray(header=header, objects=[item])


def test_objects_are_added_moved_and_removed(node: Any, package: ObjectPackage) -> None:
    node._on_objects(_seen(0.0))
    assert not node.heard  # where the camera is nobody knows yet
    camera = Pose(
        so3.exp(torch.tensor([math.pi, 0.0, 0.0], dtype=torch.float64)), torch.tensor([0.0, 0.0, 2.0]).double()
    )
    stamp = _seen(0.0).header.stamp
    node._waiting.transforms.add(conversions.transform(Header(frame_id="world", stamp=stamp), "camera", camera))
    node._on_objects(_seen(0.0, ObjectPose.UNCERTAIN))  # what waited is told
    (added,) = node.heard
    node._on_objects(_seen(0.5, ObjectPose.UNCERTAIN))
    node._on_objects(_seen(0.0, name="stranger"))
    assert len(node.heard) == 1
    assert (added.id, added.operation, added.header.frame_id) == ("demo_0", CollisionObject.ADD, "world")
    assert added.pose.position.z == pytest.approx(1.2)
    (mesh,) = added.meshes
    assert added.mesh_poses == [PoseMsg()]
    assert 4 <= len(mesh.triangles) <= 500
    points = torch.tensor([[p.x, p.y, p.z] for p in mesh.vertices])
    assert (points.amax(0) - torch.from_numpy(package.mesh.bounds[1])).abs().max() < 0.05 * package.diameter
    node._on_objects(_seen(0.001))
    assert len(node.heard) == 1  # hardly moved
    node._on_objects(_seen(0.02))
    assert (node.heard[-1].operation, node.heard[-1].meshes) == (CollisionObject.MOVE, [])
    node.heard.listeners = 2  # a planner that starts later hears of all
    node._on_objects(_seen(0.02))
    assert node.heard[-1].operation == CollisionObject.ADD
    node._remove_old()
    assert len(node.heard) == 3
    node._placement._lives = 0.0
    node._remove_old()
    assert (node.heard[-1].id, node.heard[-1].operation) == ("demo_0", CollisionObject.REMOVE)


def test_what_is_not_seen_expires() -> None:
    placement, place = Placement(2.0, 0.005, 0.03), Pose.identity().to(dtype=torch.float64)
    turned = Pose(so3.exp(torch.tensor([0.0, 0.05, 0.0], dtype=torch.float64)), place.translation)
    assert placement.seen("a", place, "world", 10.0) == "add"
    assert placement.seen("b", place, "world", 10.0) == "add"
    assert placement.seen("b", place, "world", 11.5) == ""
    assert placement.seen("b", turned, "world", 11.6) == "move"
    assert placement.expired(12.5) == ["a"]
    assert placement.expired(12.5) == []
    assert placement.seen("a", place, "world", 12.6) == "add"
    assert placement.seen("a", place, "other", 12.6) == "add"  # another camera's frame
    assert sorted(placement.expired(1.0)) == ["a", "b"]  # time jumped back


def test_a_pose_that_is_none_does_not_reach_the_planning_scene(node: Any) -> None:
    spoilt = _seen(0.1)
    spoilt.objects[0].pose.pose.position.x = math.nan
    node._waiting = None
    node._on_objects(spoilt)
    assert not node.heard
    node._on_objects(_seen(0.1))
    assert [order.operation for order in node.heard] == [CollisionObject.ADD]
