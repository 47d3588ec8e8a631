"""Each node is killed twenty times at random moments, while starting too: the next one works, and nothing is lost.

The fine-tuning node and its weights have a file of their own, ``test_killed_nodes.py``. ``KILLS=3`` makes it quick.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("moderngl")

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from pnp_ros.io.bag_messages import BagError
from pnp_ros.io.bag_reader import BagReader
from pnp_ros.objects.object_package import ObjectPackage

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("KILLS", "20"))
LATEST_S, WORKS_S = 6.0, 120.0  # a node is killed up to so long after it was started


@contextmanager
def _started(node: str, **parameters: object) -> Iterator[subprocess.Popen[str]]:
    """A node, killed at the end."""
    command = [sys.executable, "-m", f"pnp_ros.nodes.{node}_node", "--ros-args"]
    command += ["-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    process = subprocess.Popen(command, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _kill_often(node: str, chance: random.Random, meanwhile: Any = lambda: None, **parameters: object) -> None:
    for _ in range(KILLS):
        with _started(node, **parameters) as process:
            end = time.monotonic() + chance.uniform(0.0, LATEST_S)
            while time.monotonic() < end:
                meanwhile()
                time.sleep(0.05)
            assert process.poll() is None, "the node ended by itself"


def test_the_estimator(start_estimator: Any, package: ObjectPackage, probe: Any) -> None:
    sent = iter(range(10**6))

    def send() -> None:
        index = next(sent)
        probe.send(probe.image(index), probe.camera_info(index))

    _kill_often("pose_estimator", random.Random(1), send, object=package.root)
    first = next(sent)

    def posed() -> bool:  # by the last node: what the killed ones said may arrive late, and they still seem connected
        send()
        return any(pose.header.stamp.sec > probe.header(first).stamp.sec for pose in probe.received["poses"])

    with start_estimator(package.root):
        probe.wait(posed, WORKS_S, "a pose")


def test_the_simulated_camera(package: ObjectPackage, probe: Any) -> None:
    parameters = {"object": package.root, "rate": 5.0}
    _kill_often("simulated_camera", random.Random(2), **parameters)
    images: list[Image] = []
    probe.node.create_subscription(Image, "/image_raw", images.append, qos_profile_sensor_data)
    with _started("simulated_camera", **parameters):
        probe.wait(lambda: images, WORKS_S, "an image")


def test_the_recorder_loses_nothing_that_was_written(probe: Any, tmp_path: Path) -> None:
    chance, sent = random.Random(3), iter(range(10**6))

    def send() -> None:
        index = next(sent)
        probe.send(probe.image(index), probe.camera_info(index))

    recorded, refused = 0, []
    for kill in range(KILLS):
        folder = tmp_path / f"bag{kill}"
        topics = "['/camera/image_raw', '/camera/camera_info']"
        with _started("bag_recorder", output=folder, topics=topics) as process:
            probe.wait(lambda place=folder: any(place.glob("*.mcap")), WORKS_S, "the recorder's file")  # type: ignore[misc]
            end = time.monotonic() + chance.uniform(0.0, LATEST_S)
            while time.monotonic() < end:
                send()
                time.sleep(0.02)
            assert process.poll() is None
        try:
            with BagReader(folder) as reader:
                recorded += sum(1 for _ in reader.images())
        except BagError as error:
            refused.append(str(error))
    assert recorded > KILLS  # those that were killed before the first block was full hold none
    assert all("empty" in reason for reason in refused)


def test_the_player(probe: Any, tmp_path: Path) -> None:
    from pnp_ros.io.bag_writer import BagWriter

    bag = tmp_path / "bag"
    with BagWriter(bag) as writer:
        for index in range(20):
            writer.write_image("/played/image_raw", probe.pixels(index), index * 100_000_000, "camera")
    whole = {file.name: file.read_bytes() for file in bag.iterdir()}
    for _ in range(KILLS):
        with _started("bag_player", bag=bag):
            time.sleep(random.Random(4).uniform(0.0, 3.0))
    assert {file.name: file.read_bytes() for file in bag.iterdir()} == whole
    images: list[Image] = []
    probe.node.create_subscription(Image, "/played/image_raw", images.append, 100)
    with _started("bag_player", bag=bag):
        probe.wait(lambda: images, WORKS_S, "an image")
