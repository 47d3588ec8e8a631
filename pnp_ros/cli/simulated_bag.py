"""A simulated camera's images and truth as a bag, made in this process: what the demo's nodes record, without ROS.

The images are rendered, the same as the simulated camera publishes. Where nothing can be rendered, a recording of one
cycle of them that comes with the package serves. ``python -m pnp_ros.cli.simulated_bag FOLDER`` makes that recording.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pnp_ros.evaluation.pose_source import DEFAULT_TRUTH_FRAME, truth_frame
from pnp_ros.geometry import so3
from pnp_ros.io.bag_messages import message_types
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.camera_info import CameraInfo, read_camera_info
from pnp_ros.io.images import VideoWriter, read_images
from pnp_ros.io.resources import resource
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.rendering.crowd import CrowdFrame, Seen, SimulatedCrowd
from pnp_ros.rendering.simulation import CYCLE_S, SimulatedFrame, SimulatedScene, SimulationConfig
from pnp_ros.types import Pose

IMAGE, CAMERA_INFO, TRUTH = "/camera/image_raw", "/camera/camera_info", "/camera/simulated_camera/truth"
RECORDED_RATE = 5.0  # of the recording, images a second
_FRAME_ID = "camera_optical_frame"
_START_NS = 1_000_000_000  # a stamp of 0 means: none


def rendered_frames(mesh: TriangleMesh, seed: int, rate: float, count: int) -> Iterator[SimulatedFrame]:
    """The simulated camera's images, rendered.

    Raises:
        RendererError: if there is no OpenGL.
    """
    scene = SimulatedScene(mesh, simulated_camera().camera(), SimulationConfig(seed=seed))
    return (scene.frame(index, rate) for index in range(count))


def crowd_frames(
    meshes: Mapping[str, TriangleMesh], instances: int, seed: int, rate: float, count: int
) -> Iterator[CrowdFrame]:
    """The same of many objects.

    Raises:
        RendererError: if there is no OpenGL.
    """
    crowd = SimulatedCrowd(meshes, instances, simulated_camera().camera(), SimulationConfig(seed=seed))
    return (crowd.frame(index, rate) for index in range(count))


def recorded_frames(count: int) -> Iterator[SimulatedFrame]:
    """The images that come with the package: the demo's object over one cycle, or ``count`` of them."""
    folder = resource("config/recording")
    truths = json.loads((folder / "truth.json").read_text())
    for (_, rgb), truth, _ in zip(read_images(folder / "images.mp4"), truths, range(count)):
        matrix = truth["T_camera_object"]
        pose = None if matrix is None else Pose.from_matrix(torch.tensor(matrix, dtype=torch.float64))
        yield SimulatedFrame(rgb, pose, truth["visible"], None)


def simulated_camera() -> CameraInfo:
    """The camera of the simulation: 640x480, a pinhole."""
    return read_camera_info(resource("config/recording/camera_info.yaml"))


def write_bag(frames: Iterable[CrowdFrame], count: int, rate: float, bag: Path) -> int:
    """Write images, CameraInfo, truth and TF as the demo's nodes do; returns how many images.

    Args:
        frames: of the simulation.
        count: how many there are at most, for the progress bar.
        rate: images a second.
        bag: folder of the new bag.
    """
    info, written = simulated_camera(), 0
    with BagWriter(bag, "mcap", message_types(resource("msg"))) as writer:
        messages = _Messages(writer)
        for frame in tqdm(frames, "simulated camera", total=count, unit=" images"):
            stamp_ns = _START_NS + round(1e9 * written / rate)
            writer.write_image(IMAGE, frame.rgb, stamp_ns, _FRAME_ID)
            writer.write_camera_info(CAMERA_INFO, info, stamp_ns, _FRAME_ID)
            writer.write(TRUTH, messages.truth(frame, stamp_ns), stamp_ns)
            alone = len(frame.seen) == 1
            placed = {
                DEFAULT_TRUTH_FRAME if alone else truth_frame(name): seen.pose
                for name, seen in frame.seen.items()
                if seen.pose is not None
            }
            if placed:
                writer.write("/tf", messages.transforms(placed, stamp_ns), stamp_ns)
            written += 1
    return written


class _Messages:
    """The truth as messages."""

    def __init__(self, writer: BagWriter) -> None:
        self._message, self._header = writer.message, writer.header

    def truth(self, frame: CrowdFrame, stamp_ns: int) -> Any:
        """ObjectPoseArray with all instances; the state is lost while one is absent."""
        objects = [self._object(name, seen) for name, seen in frame.seen.items()]
        header = self._header(stamp_ns, _FRAME_ID)
        return self._message("pnp_ros/msg/ObjectPoseArray", header=header, objects=objects, latency=[])

    def _object(self, name: str, seen: Seen) -> Any:
        placed = seen.pose or Pose(torch.eye(3).double(), torch.zeros(3).double())
        pose = self._message(
            "geometry_msgs/msg/Pose",
            position=self._point("Point", placed),
            orientation=self._quaternion(placed),
        )
        return self._message(
            "pnp_ros/msg/ObjectPose",
            object_name=seen.object_name,
            object_id=name,
            state=0 if seen.pose is None else 2,
            reason="",
            score=seen.visible,
            box=np.asarray(seen.box or (0, 0, 0, 0), np.float32),
            hypotheses=[],
            pose=self._message("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
        )

    def transforms(self, placed: Mapping[str, Pose], stamp_ns: int) -> Any:
        """TFMessage from the camera to the true objects, by their frames."""
        return self._message(
            "tf2_msgs/msg/TFMessage",
            transforms=[self._transform(frame, pose, stamp_ns) for frame, pose in placed.items()],
        )

    def _transform(self, frame: str, pose: Pose, stamp_ns: int) -> Any:
        moved = self._message(
            "geometry_msgs/msg/Transform", translation=self._point("Vector3", pose), rotation=self._quaternion(pose)
        )
        return self._message(
            "geometry_msgs/msg/TransformStamped",
            header=self._header(stamp_ns, _FRAME_ID),
            child_frame_id=frame,
            transform=moved,
        )

    def _point(self, kind: str, pose: Pose) -> Any:
        x, y, z = pose.translation.tolist()
        return self._message(f"geometry_msgs/msg/{kind}", x=x, y=y, z=z)

    def _quaternion(self, pose: Pose) -> Any:
        w, x, y, z = so3.quat_wxyz_from_matrix(pose.rotation).tolist()
        return self._message("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def write_recording(folder: Path) -> None:
    """One cycle of the demo's object: ``images.mp4`` and ``truth.json``."""
    mesh, truths = load_object_package(resource("config/objects/demo")).mesh, []
    with VideoWriter(folder / "images.mp4", RECORDED_RATE, quality=26) as video:
        for frame in rendered_frames(mesh, 0, RECORDED_RATE, round(RECORDED_RATE * CYCLE_S)):
            video.write(frame.rgb)
            matrix = None if frame.pose is None else frame.pose.matrix().tolist()
            truths.append({"T_camera_object": matrix, "visible": frame.visible})
    (folder / "truth.json").write_text(json.dumps(truths, indent=1) + "\n")


if __name__ == "__main__":
    write_recording(Path(sys.argv[1]))
