"""Does a node that runs for long grow? Memory, threads and file handles of the estimator, a row a minute.

Three printed boxes turn before a camera that comes and goes; one of them is removed and added again all the time. The
node is a process of its own, as users start it.

    PYTHONPATH=test python test/benchmark/bench_soak.py [--minutes 30] [--rate 10]

Exit status 1: something grew after the first third of the time.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import torch
import yaml
from bench_scene import CAMERA, path
from nav_msgs.msg import Odometry
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from pnp_ros.msg import ObjectPose, ObjectPoseArray
from pnp_ros.nodes import conversions
from pnp_ros.nodes.ros_compat import use_image_profile
from pnp_ros.pipeline.onboarding import onboard
from pnp_ros.rendering.backgrounds import random_background
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.srv import AddObject, RemoveObject
from synthetic.printed_box import printed_box

_KINDS = 3
_IMAGES = 60  # different ones, there and back again
_CAMERA_S, _AWAY_S = 17.0, 3.0  # a camera is there, and away
_OBJECT_S = 11.0  # between two changes of the objects
_GROWTH = {"MiB": 15.0, "threads": 0.0, "handles": 0.0}  # by which the last third may exceed the second


def rendered(folder: Path) -> list[np.ndarray]:
    """Images of three boxes, whose packages are made in the folder."""
    with Renderer() as renderer:
        handles = [renderer.add(printed_box(seed)) for seed in range(_KINDS)]
        background = random_background(640, 480, np.random.default_rng(0))
        shots = []
        for k in range(_IMAGES):
            items = [(handle, path(i, k / 30.0)) for i, handle in enumerate(handles)]
            shots.append(renderer.render(items, CAMERA, background=background).rgb)
    for seed in range(_KINDS):
        onboard(folder / f"box{seed}", f"box{seed}", printed_box(seed))
    return shots


class Camera:
    """Publishes images and CameraInfos while it is there."""

    def __init__(self, node: Any, shots: list[np.ndarray]) -> None:
        self._node, self._publishers = node, list[Any]()
        order = [*range(len(shots)), *range(len(shots) - 2, 0, -1)]
        self._messages = itertools.cycle([conversions.image_from_rgb(Header(), shots[k]) for k in order])
        self._info = CameraInfo(width=640, height=480, distortion_model="plumb_bob", d=[0.0] * 5)
        fx, fy, cx, cy = map(float, CAMERA.intrinsics)
        self._info.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
        self._info.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]

    def come(self) -> None:
        profile = QoSProfile(depth=2)
        topics = ((Image, "/camera/image_raw"), (CameraInfo, "/camera/camera_info"))
        self._publishers = [self._node.create_publisher(kind, topic, profile) for kind, topic in topics]

    def go(self) -> None:
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)
        self._publishers.clear()

    def shoot(self) -> None:
        if self._publishers:
            image = next(self._messages)
            image.header = self._info.header = Header(
                stamp=self._node.get_clock().now().to_msg(), frame_id="camera_optical_frame"
            )
            for publisher, message in zip(self._publishers, (image, self._info)):
                publisher.publish(message)


class Objects:
    """Takes the last object away and brings it again, waiting for each answer."""

    def __init__(self, node: Any, folder: Path, name: str) -> None:
        self._add = node.create_client(AddObject, "/pose_estimator/add_object")
        self._remove = node.create_client(RemoveObject, "/pose_estimator/remove_object")
        self._folder, self._name, self._there, self._answer = folder, name, False, None
        self.changes = self.refused = 0

    def change(self) -> None:
        if self._answer is not None:
            if not self._answer.done():
                return
            self.changes += 1
            if not self._answer.result().success:
                self.refused += 1
                print(self._answer.result().message)
            self._there = not self._there
        if self._there:
            self._answer = self._remove.call_async(RemoveObject.Request(object_name=self._name))
        else:
            self._answer = self._add.call_async(AddObject.Request(folder=str(self._folder / self._name)))


def measured(pid: int) -> dict[str, float]:
    """Memory, threads and file handles of a process."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    handles = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return {"MiB": int(fields["VmRSS"].split()[0]) / 1024, "threads": int(fields["Threads"]), "handles": handles}


def soak(process: subprocess.Popen[bytes], folder: Path, shots: list[np.ndarray], minutes: float, rate: float) -> bool:
    """Whether nothing grew; prints a row a minute."""
    node = rclpy.create_node("soak")
    camera, objects = Camera(node, shots), Objects(node, folder, f"box{_KINDS - 1}")
    counts: dict[str, int] = {"images": 0, "valid": 0}

    def on_objects(message: ObjectPoseArray) -> None:
        counts["images"] += 1
        counts["valid"] += sum(item.state == ObjectPose.VALID for item in message.objects)

    node.create_subscription(ObjectPoseArray, "/pose_estimator/objects", on_objects, 10)
    for index in range(_KINDS):
        node.create_subscription(Odometry, f"/pose_estimator/box{index}/odometry", lambda _: None, 10)
    deadline = time.monotonic() + 300.0
    while not node.count_publishers("/pose_estimator/objects") or not node.count_subscribers("/camera/image_raw"):
        rclpy.spin_once(node, timeout_sec=0.2)
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the estimator does not start")
    print("minute | images | valid objects | objects changed | MiB | threads | file handles", flush=True)
    begin = time.monotonic()
    due = {"image": begin, "camera": begin, "object": begin, "row": begin + 60.0}
    rows, there = [], False
    while time.monotonic() < begin + 60.0 * minutes + 1.0:
        now = time.monotonic()
        if now >= due["camera"]:
            (camera.go if there else camera.come)()
            there = not there
            due["camera"] = now + (_CAMERA_S if there else _AWAY_S)
        if now >= due["object"]:
            objects.change()
            due["object"] = now + _OBJECT_S
        if now >= due["image"]:
            camera.shoot()
            due["image"] = now + 1.0 / rate
        if now >= due["row"]:
            due["row"] += 60.0
            rows.append(measured(process.pid))
            cells = [
                counts["images"],
                counts["valid"],
                objects.changes,
                *(f"{value:.0f}" for value in rows[-1].values()),
            ]
            print(f"{len(rows)} | " + " | ".join(map(str, cells)), flush=True)
        rclpy.spin_once(node, timeout_sec=max(0.0, min(0.02, due["image"] - time.monotonic())))
    node.destroy_node()
    third = max(1, len(rows) // 3)
    grown = {
        name: max(row[name] for row in rows[-third:]) - max(row[name] for row in rows[third : 2 * third] or rows[:1])
        for name in _GROWTH
    }
    print("grown in the last third: " + ", ".join(f"{name} {value:+.0f}" for name, value in grown.items()))
    return objects.refused == 0 and counts["valid"] > 0 and all(grown[name] <= _GROWTH[name] for name in grown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=10.0, help="images a second")
    arguments = parser.parse_args()
    if arguments.minutes < 1.0:
        parser.error(f"--minutes: expected at least 1, for one row, got {arguments.minutes}")
    torch.set_num_threads(1)
    os.environ |= {"ROS_DOMAIN_ID": str(os.getpid() % 100 + 1), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    use_image_profile()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shots = rendered(folder)
        values = {"objects": [str(folder / f"box{k}") for k in range(_KINDS - 1)], "threads": 1}
        file = folder / "parameters.yaml"
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
        command = [sys.executable, "-m", "pnp_ros.nodes.pose_estimator_node", "--ros-args", "--params-file", str(file)]
        remap = ["-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info"]
        rclpy.init()
        process = subprocess.Popen([*command, *remap])
        try:
            steady = soak(process, folder, shots, arguments.minutes, arguments.rate)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
            rclpy.try_shutdown()
    sys.exit(0 if steady else 1)


if __name__ == "__main__":
    main()
