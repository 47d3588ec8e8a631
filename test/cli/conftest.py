"""A small recorded run whose errors are drawn from a known Gaussian, and a package whose networks know nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pnp_ros.geometry import se3, so3
from pnp_ros.io.bag_messages import message_types
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.camera_info import CameraInfo
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.types import Pose

torch.set_num_threads(1)
WIDTH, HEIGHT, FRAMES, RATE = 160, 120, 60, 30
ABSENT = range(40, 45)  # images without the object; in the first of them a pose is claimed
K = (150.0, 0.0, 80.0, 0.0, 150.0, 60.0, 0.0, 0.0, 1.0)
INFO = CameraInfo(HEIGHT, WIDTH, "plumb_bob", (0.0,) * 5, K)
SIGMA = torch.tensor([0.001, 0.001, 0.004, 0.02, 0.02, 0.01], dtype=torch.float64)  # m, rad
CAMERA_FRAME = "camera_optical_frame"
TOPICS = {"truth": "/camera/truth", "objects": "/estimator/objects", "pose": "/estimator/pose", "world": "/mocap/pose"}


@pytest.fixture(scope="session")
def package(untrained_package: Callable[..., ObjectPackage], tmp_path_factory: pytest.TempPathFactory) -> ObjectPackage:
    """Loads and runs quickly."""
    return untrained_package(tmp_path_factory.mktemp("objects") / "tetrahedron")


class RecordedRun:
    """Writes a bag: noise images, their CameraInfo, the truth in three forms, and poses with Gaussian errors.

    Args:
        claimed: what the poses' covariance claims, over the true one.
    """

    def __init__(self, path: Path, claimed: float = 1.0, storage: str = "mcap", with_info: bool = True) -> None:
        self.path, self.claimed, self.with_info = path, claimed, with_info
        generator = torch.Generator().manual_seed(3)
        self.noise = torch.randn(FRAMES, 6, generator=generator, dtype=torch.float64) * SIGMA
        self.camera_in_world = Pose(
            so3.exp(torch.tensor([0.1, -0.7, 0.4], dtype=torch.float64)), torch.tensor([1.0, 2.0, 0.5]).double()
        )
        with BagWriter(path, storage, message_types(resource("msg"))) as writer:  # type: ignore[arg-type]
            self.writer = writer
            self._write_static()
            for i in range(FRAMES):
                self._write_frame(i)

    @staticmethod
    def stamp_ns(i: int) -> int:
        """Of image ``i``."""
        return 1_700_000_000_000_000_000 + i * 1_000_000_000 // RATE

    @staticmethod
    def truth(i: int) -> Pose:
        """Of image ``i``: a slow turn and approach."""
        time = torch.tensor(i / RATE, dtype=torch.float64)
        turn = torch.stack([0.3 * time, 0.2 * time, torch.sin(time)])
        zero = torch.zeros((), dtype=torch.float64)
        return Pose(so3.exp(turn), torch.stack([0.05 * torch.sin(time), zero, 0.5 + 0.05 * time]))

    def estimate(self, i: int) -> Pose:
        """Truth and noise."""
        return se3.retract(self.truth(i), self.noise[i])

    def _header(self, i: int, frame_id: str = CAMERA_FRAME) -> Any:
        sec, nanosec = divmod(self.stamp_ns(i), 1_000_000_000)
        stamp = self.writer.message("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
        return self.writer.message("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def _pose(self, pose: Pose) -> Any:
        w, x, y, z = so3.quat_wxyz_from_matrix(pose.rotation).tolist()
        orientation = self.writer.message("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
        x, y, z = pose.translation.tolist()
        position = self.writer.message("geometry_msgs/msg/Point", x=x, y=y, z=z)
        return self.writer.message("geometry_msgs/msg/Pose", position=position, orientation=orientation)

    def _transform(self, i: int, parent: str, child: str, pose: Pose) -> Any:
        placed = self._pose(pose)
        x, y, z = pose.translation.tolist()
        translation = self.writer.message("geometry_msgs/msg/Vector3", x=x, y=y, z=z)
        transform = self.writer.message(
            "geometry_msgs/msg/Transform", translation=translation, rotation=placed.orientation
        )
        header = self._header(i, parent)
        stamped = self.writer.message(
            "geometry_msgs/msg/TransformStamped", header=header, child_frame_id=child, transform=transform
        )
        return self.writer.message("tf2_msgs/msg/TFMessage", transforms=[stamped])

    def _object(self, pose: Pose | None, covariance: np.ndarray, score: float) -> Any:
        state = 2 if pose is not None else 0
        if pose is None:
            pose = Pose(torch.eye(3).double(), torch.zeros(3).double())
        with_covariance = self.writer.message(
            "geometry_msgs/msg/PoseWithCovariance", pose=self._pose(pose), covariance=covariance
        )
        fields = {
            "object_name": "tetrahedron",
            "object_id": "tetrahedron",
            "reason": "",
            "score": score,
            "hypotheses": [],
        }
        box = np.zeros(4, np.float32)
        return self.writer.message("pnp_ros/msg/ObjectPose", state=state, pose=with_covariance, box=box, **fields)

    def _write_static(self) -> None:
        message = self._transform(0, "world", CAMERA_FRAME, self.camera_in_world)
        self.writer.write("/tf_static", message, self.stamp_ns(0), latched=True)

    def _write_frame(self, i: int) -> None:
        write, stamp = self.writer.write, self.stamp_ns(i)
        rgb = np.random.default_rng(i).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        self.writer.write_image("/camera/image_raw", rgb, stamp, CAMERA_FRAME)
        if self.with_info:
            self.writer.write_camera_info("/camera/camera_info", INFO, stamp, CAMERA_FRAME)
        present = i not in ABSENT
        covariance = torch.diag(self.claimed * SIGMA**2).reshape(-1).numpy()
        truth = self._object(self.truth(i) if present else None, np.zeros(36), float(present))
        latency: list[Any] = [self.writer.message("pnp_ros/msg/StageLatency", stage="total", seconds=0.01 + 1e-5 * i)]
        array = {"header": self._header(i), "latency": latency}
        write(TOPICS["truth"], self.writer.message("pnp_ros/msg/ObjectPoseArray", objects=[truth], **array), stamp)
        claimed = present or i == ABSENT[0]
        found = self._object(self.estimate(i) if claimed else None, covariance, 0.9)
        write(TOPICS["objects"], self.writer.message("pnp_ros/msg/ObjectPoseArray", objects=[found], **array), stamp)
        if present:
            write("/tf", self._transform(i, CAMERA_FRAME, "object_truth", self.truth(i)), stamp)
            in_world = se3.compose(self.camera_in_world, self.truth(i))
            stamped = self.writer.message(
                "geometry_msgs/msg/PoseStamped", header=self._header(i, "world"), pose=self._pose(in_world)
            )
            write(TOPICS["world"], stamped, stamp)


MakeRun = Callable[..., RecordedRun]


@pytest.fixture(scope="session")
def recorded_run(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """With covariances that tell the truth."""
    return RecordedRun(tmp_path_factory.mktemp("run") / "bag")


@pytest.fixture(scope="session")
def make_run() -> MakeRun:
    """Another one."""
    return RecordedRun
