"""What the fine-tuning node costs the estimator: its latency with that node off and on, in real processes.

Run as ``python test/benchmark/bench_fine_tuning_latency.py [--seconds 40] [--rounds 3] [--rate 15]``. Images of the
simulated camera are rendered beforehand and played; the reference is the truth on a topic; both nodes have their
default limits, the estimator one thread. "On" is measured while the node trains and checks. Rounds alternate, since
whatever else the machine does changes meanwhile; how much that was is in the table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from pnp_ros.io.camera_info import read_camera_info
from pnp_ros.io.resources import resource
from pnp_ros.io.stamps import nanoseconds
from pnp_ros.msg import AdaptationStatus, ObjectPoseArray
from pnp_ros.nodes import conversions
from pnp_ros.nodes.ros_compat import LATCHED, use_image_profile
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.rendering.simulation import SimulatedScene

OUT = Path("out/bench")
IMAGES = 150  # played forth and back
SETTLE_S = 3.0
PATIENCE_S = 300.0
REMAPS = ("image:=/camera/image_raw", "camera_info:=/camera/camera_info")


class Bench:
    """Plays images at a steady rate and notes when their estimates come."""

    def __init__(self, rate: float) -> None:
        self.node = rclpy.create_node("bench")
        self._image = self.node.create_publisher(Image, "/camera/image_raw", qos_profile_sensor_data)
        self._info = self.node.create_publisher(CameraInfo, "/camera/camera_info", qos_profile_sensor_data)
        self._truth = self.node.create_publisher(PoseStamped, "/truth", 10)
        self.node.create_subscription(PoseWithCovarianceStamped, "/pose_estimator/pose", self._on_pose, 100)
        self.node.create_subscription(ObjectPoseArray, "/pose_estimator/objects", self._on_objects, 100)
        self.node.create_subscription(AdaptationStatus, "/fine_tuning/status", self._on_status, LATCHED)
        self.status = AdaptationStatus()
        self.statuses: list[AdaptationStatus] = []
        self.sent: dict[int, float] = {}
        self.inside: dict[int, float] = {}
        self.across: dict[int, float] = {}
        self._rate, self._stopped = rate, threading.Event()
        info = read_camera_info(resource("config/recording/camera_info.yaml"))
        self._info_message = conversions.message_from_camera_info(Header(), info)
        self._frames = list(self._rendered())
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._threads = [threading.Thread(target=each) for each in (self._spin, self._play)]
        for thread in self._threads:
            thread.start()

    def _rendered(self) -> Iterator[tuple[Image, PoseStamped | None]]:
        package = load_object_package(resource("config/objects/demo"))
        scene = SimulatedScene(package.mesh, conversions.camera_from_message(self._info_message))
        for index in range(IMAGES):
            frame = scene.frame(index, self._rate)
            pose = None if frame.pose is None else PoseStamped(pose=conversions.message_from_pose(frame.pose))
            yield conversions.image_from_rgb(Header(), frame.rgb), pose

    def _spin(self) -> None:
        while not self._stopped.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def _play(self) -> None:
        index, due = 0, time.monotonic()
        while not self._stopped.is_set():
            place = index % (2 * IMAGES - 2)
            image, pose = self._frames[min(place, 2 * IMAGES - 2 - place)]
            header = Header(stamp=self.node.get_clock().now().to_msg(), frame_id="camera_optical_frame")
            image.header = self._info_message.header = header
            if pose is not None:
                pose.header = header
                self._truth.publish(pose)
            self.sent[nanoseconds(header.stamp)] = time.monotonic()
            self._image.publish(image)
            self._info.publish(self._info_message)
            index, due = index + 1, due + 1.0 / self._rate
            self._stopped.wait(max(0.0, due - time.monotonic()))

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        stamp = nanoseconds(message.header.stamp)
        self.across[stamp] = time.monotonic() - self.sent[stamp]

    def _on_objects(self, message: ObjectPoseArray) -> None:
        stamp = nanoseconds(message.header.stamp)
        self.across.setdefault(stamp, time.monotonic() - self.sent[stamp])  # where there is no valid pose
        self.inside[stamp] = next(entry.seconds for entry in message.latency if entry.stage == "total")

    def _on_status(self, message: AdaptationStatus) -> None:
        self.status = message
        self.statuses.append(message)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Until the condition holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                self.stop()
                raise SystemExit(f"waited {PATIENCE_S} s for {what}")
            time.sleep(0.1)

    def measure(self, seconds: float, processes: list[subprocess.Popen[bytes]]) -> dict[str, Any]:
        """One row: milliseconds inside of the node and across processes."""
        begin, busy, own = time.monotonic(), _busy_seconds(), _cpu_seconds(processes)
        first_status = len(self.statuses)
        time.sleep(seconds)
        end = time.monotonic()
        own = {pid: used - own[pid] for pid, used in _cpu_seconds(processes).items()}
        others = (_busy_seconds() - busy - sum(own.values())) / (end - begin)
        time.sleep(1.0)
        stamps = [stamp for stamp, sent in self.sent.items() if begin <= sent < end]
        came = [stamp for stamp in stamps if stamp in self.across]
        said = self.statuses[first_status:]
        return {
            "images": len(stamps),
            "estimated": len(came),
            "inside_ms": [1e3 * self.inside[stamp] for stamp in came],
            "across_ms": [1e3 * self.across[stamp] for stamp in came],
            "fine_tuning_cores": own.get(processes[1].pid, 0.0) / (end - begin) if len(processes) > 1 else 0.0,
            "other_cores": others,
            "states": sorted({int(status.state) for status in said}),
            "version": int(self.status.active_version) if said else None,
        }

    def stop(self) -> None:
        """End the playing."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()


def _busy_seconds() -> float:
    user, nice, system, _idle, _wait, irq, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def _cpu_seconds(processes: list[subprocess.Popen[bytes]]) -> dict[int, float]:
    """CPU time by process, this one included."""
    used = {}
    for pid in (os.getpid(), *(process.pid for process in processes)):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


@contextmanager
def running(node: str, **parameters: object) -> Iterator[subprocess.Popen[bytes]]:
    """A node as a process of its own."""
    command = [sys.executable, "-m", f"pnp_ros.nodes.{node}_node", "--ros-args"]
    for remap in REMAPS:
        command += ["-r", remap]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _percentiles(values: list[float]) -> tuple[float, float]:
    return float(np.percentile(values, 50)), float(np.percentile(values, 99))


def _print(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The table; the ratios of what all rounds have in common."""
    print(
        "fine-tuning  round  images  estimated  in the node p50, p99   across processes p50, p99   cores: its, others"
    )
    pooled: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        shown = [number for key in ("inside_ms", "across_ms") for number in _percentiles(row[key])]
        print(
            f"{row['fine_tuning']:>11}  {row['round']:5d}  {row['images']:8d}  {row['estimated']:9d}"
            f"  {shown[0]:8.1f} ms {shown[1]:6.1f} ms     {shown[2]:8.1f} ms {shown[3]:6.1f} ms"
            f"        {row['fine_tuning_cores']:6.2f} {row['other_cores']:6.2f}"
        )
        for key in ("inside_ms", "across_ms"):
            pooled.setdefault((row["fine_tuning"], key), []).extend(row[key])
    ratios = {}
    for key in ("inside_ms", "across_ms"):
        off, on = (_percentiles(pooled[state, key]) for state in ("off", "on"))
        for name, before, after in zip(("p50", "p99"), off, on):
            ratios[f"{key.removesuffix('_ms')}_{name}"] = after / before
            change = f"off {before:.1f} ms, on {after:.1f} ms, {after / before - 1:+.0%}"
            print(f"{key.removesuffix('_ms'):>11} {name}: {change}")
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=15.0, help="images a second")
    arguments = parser.parse_args()
    os.environ |= {"ROS_DOMAIN_ID": str(os.getpid() % 100 + 1), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    use_image_profile()
    rclpy.init()
    bench = Bench(arguments.rate)
    versions = tempfile.mkdtemp()
    package, rows = resource("config/objects/demo"), []
    load = os.getloadavg()
    with running("pose_estimator", object=package, versions=versions, threads=1) as estimator:
        bench.wait(lambda: bench.across, "the estimator")
        for index in range(arguments.rounds):
            time.sleep(SETTLE_S)
            row = bench.measure(arguments.seconds, [estimator])
            rows.append({"fine_tuning": "off", "round": index, **row})
            bench.status = AdaptationStatus()
            with running("fine_tuning", object=package, versions=versions, reference="topic:/truth") as adapting:
                bench.wait(lambda: bench.status.state == AdaptationStatus.TRAINING, "the training")
                time.sleep(SETTLE_S)
                row = bench.measure(arguments.seconds, [estimator, adapting])
            rows.append({"fine_tuning": "on", "round": index, **row})
        bench.stop()
    shutil.rmtree(versions)
    print(f"fine-tuning beside the estimator, {os.cpu_count()} cores, load {load[0]:.1f} at the start")
    ratios = _print(rows)
    OUT.mkdir(parents=True, exist_ok=True)
    record = {"cores": os.cpu_count(), "load": load, "rate": arguments.rate, "rounds": rows, "ratios": ratios}
    (OUT / "fine_tuning_latency.json").write_text(json.dumps(record, indent=1))
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
