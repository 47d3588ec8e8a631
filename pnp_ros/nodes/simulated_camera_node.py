"""A camera that is not there: renders moving objects with their true poses, or plays a video or a folder of images.

Publishes ``image_raw`` (or ``image_raw/compressed``) and ``camera_info`` with the same stamps; while it renders also
the truth: ``~/truth`` (every image, all objects; the score is the visible share), ``/tf``, and ``~/truth_pose`` of a
single object. Several objects, or instances of one, pass in front of each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo as CameraInfoMsg
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from pnp_ros.evaluation.pose_source import DEFAULT_TRUTH_FRAME, truth_frame
from pnp_ros.io.camera_info import read_camera_info
from pnp_ros.io.images import read_images
from pnp_ros.io.resources import resource
from pnp_ros.msg import ObjectPose, ObjectPoseArray
from pnp_ros.nodes import conversions
from pnp_ros.nodes.parameters import Parameters
from pnp_ros.nodes.ros_compat import STEADY_CLOCK, run, transform_broadcaster
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.rendering.crowd import CrowdFrame, SimulatedCrowd
from pnp_ros.rendering.domain_shift import ShiftedScene, strong_shift
from pnp_ros.rendering.simulation import SimulatedScene, SimulationConfig

_LINGER_S = 1.0  # the last image lies in this process's memory until its subscribers have read it
_REPORT_S = 2.0


class SimulatedCameraNode(Node):
    """Publishes one image a timer tick, and ends the process after the last one."""

    def __init__(self) -> None:
        super().__init__("simulated_camera")
        self.settings = Parameters(self)
        declare = self.settings.declare
        source = declare("source", "", "Video file, image or folder to play; empty: render the object")
        folder = declare("object", "", "Folder of the object package to render")
        folders = declare("objects", [""], "Folders of several object packages, in place of object")
        instances = declare("instances", 1, "Of each object that is rendered: name_0, name_1, ...", low=1, high=32)
        info_path = declare("camera_info", "", "camera_info YAML of the camera; empty: a 640x480 pinhole")
        self._rate = declare("rate", 15.0, "Images a second", low=0.1, high=200.0)
        self._limit = declare(
            "frames", 0, "End after this many images; 0: never, or at the end of the source", low=0, high=2**31 - 1
        )
        self._wait_for = declare(
            "wait_for_subscribers", 0, "Hold the first image until so many listen", low=0, high=1000
        )
        self._compressed = declare("compressed", False, "Publish JPEG on image_raw/compressed, not raw images")
        reliable = declare("reliable", False, "Resend what a reliable subscriber misses, for lossless tests")
        self._frame_id = declare("frame_id", "camera_optical_frame", "TF frame of the camera")
        self._truth_frame = declare(
            "truth_frame", DEFAULT_TRUTH_FRAME, "TF frame of a single object's true pose; of several it is NAME_truth"
        )
        seed = declare("seed", 0, "Of the path, the background and the noise", low=0, high=2**31 - 1)
        shift = declare(
            "shift",
            -1,
            "Seed of a camera and an object that differ strongly from what was trained for, as fine-tuning has to make "
            "up for: exposure, blur, colours, calibration, wear; -1: they do not differ",
            low=-1,
            high=2**31 - 1,
        )
        self.settings.settle()

        info = read_camera_info(
            Path(info_path).expanduser() if info_path else resource("config/recording/camera_info.yaml")
        )
        self._info = conversions.message_from_camera_info(Header(), info)
        shown = [each for each in (folder, *folders) if each]
        self._frames = _played(Path(source).expanduser()) if source else self._rendered(shown, instances, seed, shift)
        self._published = 0
        self._make_publishers(QoSProfile(depth=100) if reliable else qos_profile_sensor_data)
        self._timer = self.create_timer(1.0 / self._rate, self._tick)
        self._report_every = max(round(self._rate * _REPORT_S), 1)

    def _make_publishers(self, quality: QoSProfile) -> None:
        options = QoSOverridingOptions.with_default_policies()
        kind, topic = (CompressedImage, "image_raw/compressed") if self._compressed else (Image, "image_raw")
        self._image = self.create_publisher(kind, topic, quality, qos_overriding_options=options)
        self._camera_info = self.create_publisher(CameraInfoMsg, "camera_info", quality)
        self._truth = self.create_publisher(ObjectPoseArray, "~/truth", 10)
        self._truth_pose = self.create_publisher(PoseStamped, "~/truth_pose", 10)
        self._tf = transform_broadcaster(self)

    def _rendered(self, folders: Sequence[str], instances: int, seed: int, shift: int) -> Iterator[CrowdFrame]:
        if not folders:
            raise ValueError("parameter object: expected the folder of an object package, got nothing")
        packages = [load_object_package(folder) for folder in folders]
        camera, config = conversions.camera_from_message(self._info), SimulationConfig(seed=seed)
        if len(packages) > 1 or instances > 1:
            if shift >= 0:
                raise ValueError(f"parameter shift: expected -1 with several objects or instances, got {shift}")
            crowd = SimulatedCrowd({package.name: package.mesh for package in packages}, instances, camera, config)
            return (crowd.frame(index, self._rate) for index in itertools.count())
        (package,) = packages
        scene: SimulatedScene | ShiftedScene = (
            SimulatedScene(package.mesh, camera, config)
            if shift < 0
            else ShiftedScene(package.mesh, camera, strong_shift(shift), config)
        )
        return (CrowdFrame.alone(scene.frame(index, self._rate), package.name) for index in itertools.count())

    def _tick(self) -> None:
        listeners = min(self._image.get_subscription_count(), self._camera_info.get_subscription_count())
        if self._published == 0 and listeners < self._wait_for:
            self.get_logger().info(
                f"waiting for {self._wait_for} subscribers, {listeners} so far", throttle_duration_sec=5 * _REPORT_S
            )
            return
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        try:
            frame = None if self._limit and self._published >= self._limit else next(self._frames, None)
        except ValueError as error:  # an image that cannot be read: it names the file
            self.get_logger().fatal(str(error))
            raise SystemExit(1) from error
        if frame is None:
            self._end()
            return
        self._publish(header, frame)
        self._published += 1
        if self._published % self._report_every == 0 or self._published == self._limit:
            self.get_logger().info(f"image {self._published} of {self._limit or 'many'}")

    def _publish(self, header: Header, frame: CrowdFrame) -> None:
        convert = conversions.jpeg_from_rgb if self._compressed else conversions.image_from_rgb
        self._info.header = header
        self._image.publish(convert(header, frame.rgb))
        self._camera_info.publish(self._info)
        if frame.seen:
            self._publish_truth(header, frame)

    def _publish_truth(self, header: Header, frame: CrowdFrame) -> None:
        objects = []
        for name, seen in frame.seen.items():
            truth = ObjectPose(object_name=seen.object_name, object_id=name, score=seen.visible)
            if seen.pose is not None:
                alone = len(frame.seen) == 1
                truth.state, truth.pose.pose = ObjectPose.VALID, conversions.message_from_pose(seen.pose)
                truth.box = np.asarray(seen.box or (0, 0, 0, 0), np.float32)
                if alone:
                    self._truth_pose.publish(PoseStamped(header=header, pose=truth.pose.pose))
                shown = self._truth_frame if alone else truth_frame(name)
                self._tf.sendTransform(conversions.transform(header, shown, seen.pose))
            objects.append(truth)
        self._truth.publish(ObjectPoseArray(header=header, objects=objects))

    def _end(self) -> None:
        self.get_logger().info(f"done: {self._published} images")
        self._timer.cancel()
        self.create_timer(_LINGER_S, self._exit, clock=STEADY_CLOCK)

    def _exit(self) -> None:
        raise SystemExit(0)


def _played(source: Path) -> Iterator[CrowdFrame]:
    """The images of a video, a folder or a file, without truth."""
    if not source.exists():
        raise FileNotFoundError(f"parameter source: no such file or folder: {source}")
    return (CrowdFrame(rgb, {}) for _, rgb in read_images(source))


def main(args: list[str] | None = None) -> None:
    """Run the node."""
    run(SimulatedCameraNode, args)


if __name__ == "__main__":
    main()
