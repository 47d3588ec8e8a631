"""Objects in MoveIt's planning scene: what an estimator sees is in the robot's way, for as long as it is seen.

Subscribes: ``pose_estimator/objects``; with ``fixed_frame`` also ``/tf`` and ``/tf_static``. Publishes:
``collision_object`` (moveit_msgs/CollisionObject), which move_group listens to: a mesh when an object is first seen,
its pose when it has moved, and its removal ``time_to_live`` after it was last valid. Needs moveit_msgs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from geometry_msgs.msg import Point
from geometry_msgs.msg import Pose as PoseMsg
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import Header

from pnp_ros.geometry import so3
from pnp_ros.msg import ObjectPose, ObjectPoseArray
from pnp_ros.nodes import conversions
from pnp_ros.nodes.parameters import Parameters
from pnp_ros.nodes.ros_compat import message_class, run
from pnp_ros.nodes.transform_history import TransformHistory
from pnp_ros.nodes.transform_queue import TransformQueue
from pnp_ros.objects.decimation import decimated
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.types import Pose

_LOOK_S = 0.2
_PATIENCE_S = 0.5  # for which an image's objects wait for the transform of its time


@dataclass(eq=False)
class _Placed:
    """An object that the planning scene knows of, where it is there and when it was last seen."""

    pose: Pose
    frame: str
    seen: float


class Placement:
    """What the planning scene holds, and what has to be said to keep it right.

    Args:
        time_to_live: seconds after its last valid pose for which an object stays.
        moved: metres that it must have moved to be told again.
        turned: radians, likewise.
    """

    def __init__(self, time_to_live: float, moved: float, turned: float) -> None:
        self._lives, self._moved, self._turned = time_to_live, moved, turned
        self._placed: dict[str, _Placed] = {}

    def seen(self, name: str, pose: Pose, frame: str, now: float) -> str:
        """What to say of an object that is valid: ``add``, ``move`` or nothing."""
        known = self._placed.get(name)
        if known is not None and known.frame == frame:
            known.seen = now
            shift = float((pose.translation - known.pose.translation).norm())
            if shift < self._moved and float(so3.angle_between(pose.rotation, known.pose.rotation)) < self._turned:
                return ""
            known.pose = pose
            return "move"
        self._placed[name] = _Placed(pose, frame, now)
        return "add"

    def forget(self) -> None:
        """Begin anew: all are told again when they are seen."""
        self._placed.clear()

    def expired(self, now: float) -> list[str]:
        """Those that were last seen too long ago, or later than now (time jumped back); they are forgotten."""
        gone = [name for name, placed in self._placed.items() if not 0.0 <= now - placed.seen <= self._lives]
        for name in gone:
            del self._placed[name]
        return gone


class CollisionObjectsNode(Node):
    """Tells move_group of the objects."""

    def __init__(self) -> None:
        super().__init__("collision_objects")
        self.settings = Parameters(self)
        declare = self.settings.declare
        folders = declare(
            "objects", [""], "Folders of the object packages whose meshes are put into the planning scene"
        )
        self._fixed = declare(
            "fixed_frame", "", "TF frame in which the poses are told, such as the planning frame; empty: the camera's"
        ).lstrip("/")
        lives = declare("time_to_live", 2.0, "Seconds for which an object stays unseen", low=0.05, high=1e6)
        moved = declare("moved", 0.005, "Metres that an object must move to be told again", low=0.0, high=10.0)
        turned = declare("turned", 2.0, "Degrees, likewise", low=0.0, high=180.0)
        faces = declare("max_faces", 500, "Triangles of a mesh in the planning scene", low=4, high=1_000_000)
        self.settings.settle()
        packages = [load_object_package(folder) for folder in folders if folder]
        if not packages:
            raise ValueError("parameter objects: expected folders of object packages, got nothing")
        try:
            self._message = message_class("moveit_msgs/msg/CollisionObject")
            mesh_class = message_class("shape_msgs/msg/Mesh")
            triangle_class = message_class("shape_msgs/msg/MeshTriangle")
        except ImportError as error:
            raise ValueError(
                f"{error}: install moveit_msgs (ros-jazzy-moveit-msgs) to have a planning scene"
            ) from error
        self._meshes = {
            package.name: mesh_message(_plain(package.mesh, faces), mesh_class, triangle_class) for package in packages
        }
        self._placement, self._listeners = Placement(lives, moved, math.radians(turned)), 0
        self._waiting: TransformQueue[ObjectPoseArray] | None = None
        if self._fixed:
            self._waiting = TransformQueue(TransformHistory(self), self._fixed, _PATIENCE_S)
        options = QoSOverridingOptions.with_default_policies()
        self._publisher = self.create_publisher(
            self._message, "collision_object", QoSProfile(depth=100), qos_overriding_options=options
        )
        self.create_subscription(
            ObjectPoseArray, "pose_estimator/objects", self._on_objects, 10, qos_overriding_options=options
        )
        self.create_timer(_LOOK_S, self._remove_old)

    @property
    def _now(self) -> float:
        return 1e-9 * float(self.get_clock().now().nanoseconds)

    def _on_objects(self, message: ObjectPoseArray) -> None:
        if (listeners := self._publisher.get_subscription_count()) > self._listeners:
            self._placement.forget()  # a move_group that starts knows of nothing
        self._listeners = listeners
        if self._waiting is None:
            self._place(message, Pose.identity().to(dtype=torch.float64), message.header.frame_id)
            return
        self._waiting.put(message.header, message)
        for _, camera, seen in self._waiting.get(message.header):
            self._place(seen, camera, self._fixed)
        if problem := self._waiting.problem():
            self.get_logger().warning(problem, throttle_duration_sec=10.0)

    def _place(self, message: ObjectPoseArray, camera: Pose, frame: str) -> None:
        """Tell what one image showed, with the camera's place in a frame."""
        for item in message.objects:
            if item.state != ObjectPose.VALID:
                continue
            if item.object_name not in self._meshes:
                self.get_logger().warning(
                    f"{item.object_name}: not one of the parameter objects", throttle_duration_sec=30.0
                )
                continue
            try:
                _, seen = conversions.estimate_from_message(item)
            except ValueError as error:
                self.get_logger().warning(f"{item.object_id}: {error}", throttle_duration_sec=10.0)
                continue
            assert seen is not None
            pose = camera @ seen
            if order := self._placement.seen(item.object_id, pose, frame, self._now):
                told = self._order(item.object_id, "ADD" if order == "add" else "MOVE")
                told.header = Header(stamp=message.header.stamp, frame_id=frame)
                told.pose = conversions.message_from_pose(pose)
                if order == "add":
                    told.meshes, told.mesh_poses = [self._meshes[item.object_name]], [PoseMsg()]
                self._publisher.publish(told)

    def _order(self, name: str, operation: str) -> Any:
        return self._message(id=name, operation=getattr(self._message, operation))

    def _remove_old(self) -> None:
        for name in self._placement.expired(self._now):
            self._publisher.publish(self._order(name, "REMOVE"))


def _plain(mesh: TriangleMesh, faces: int) -> TriangleMesh:
    """The shape without colours, of few triangles where they can be made fewer."""
    return decimated(replace(mesh, uv=None, texture=None, vertex_colors=None), faces)[0]


def mesh_message(mesh: TriangleMesh, mesh_class: Any, triangle_class: Any) -> Any:
    """A ``shape_msgs/Mesh``, in metres."""
    return mesh_class(
        triangles=[triangle_class(vertex_indices=[int(index) for index in face]) for face in mesh.faces],
        vertices=[Point(x=float(x), y=float(y), z=float(z)) for x, y, z in mesh.vertices],
    )


def main(args: list[str] | None = None) -> None:
    """Run the node."""
    run(CollisionObjectsNode, args)


if __name__ == "__main__":
    main()
