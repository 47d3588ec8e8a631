"""``pnp-ros demo``: a simulated camera, the estimator and a recorder as ROS 2 processes, and what came of it."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from pnp_ros.cli.demo_report import evaluate_run, write_pictures
from pnp_ros.evaluation.report import table
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import load_object_package

IMAGE, CAMERA_INFO, TRUTH = "/camera/image_raw", "/camera/camera_info", "/camera/simulated_camera/truth"
POSE, OBJECTS = "/pose_estimator/pose", "/pose_estimator/objects"
TOPICS = [IMAGE, CAMERA_INFO, TRUTH, POSE, OBJECTS, "/tf", "/diagnostics"]
_ERRORS = ("[ERROR]", "[FATAL]")  # how such a line of a node's log begins
_SETTLE_S = 1.0  # for the last picture to become a pose, and the pose to reach the bag
_START_S = 300.0  # for the processes to import, load the object, compile the solver (once a machine), find each other


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--object", type=Path, help="object package (default: the demo's own)")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="default %(default)s")
    parser.add_argument("--frames", type=int, default=300, help="pictures (default %(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, help="pictures a second (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the object's path (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="of the networks: cpu or cuda (default cpu)")


def run(arguments: argparse.Namespace) -> int:
    """Run the nodes, evaluate their bag, leave bag, video, contact sheet and report.

    Returns:
        0; 1 if no pose was published.

    Raises:
        ValueError: if ROS is absent, an argument is wrong, or a node failed.
    """
    if importlib.util.find_spec("rclpy") is None:
        raise ValueError(
            "the demo needs ROS 2: source its setup file, or install the extra: pip install 'pnp-ros[ros]'"
        )
    if arguments.frames < 1 or arguments.rate <= 0:
        raise ValueError("--frames, --rate: expected more than 0")
    folder = arguments.object or resource("config/objects/demo")
    package = load_object_package(folder)
    out: Path = arguments.out
    bag = out / "bag"
    shutil.rmtree(bag, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    print(f"object {package.name}: {package.mesh.describe()}")
    _run_nodes(arguments, folder.resolve(), bag.resolve())

    print("evaluating the bag", flush=True)
    result = evaluate_run(bag, package, TOPICS[:5])
    (out / "report.json").write_text(json.dumps(result.summary, indent=1))
    write_pictures(result, package, bag, IMAGE, arguments.rate, out)
    print(f"\n{table(result.summary)}\n")
    print(f"{out}: bag/, overlay.mp4, contact_sheet.png, report.json")
    return 0 if result.summary["run"]["poses_published"] else 1


def _run_nodes(arguments: argparse.Namespace, folder: Path, bag: Path) -> None:
    """The three processes, from start to a finished bag."""
    settings: dict[str, dict[str, Any]] = {
        "pose_estimator": {"object": str(folder), "device": arguments.device, "threads": 1},
        "bag_recorder": {"output": str(bag), "topics": TOPICS},
        "simulated_camera": {
            "object": str(folder),
            "frames": arguments.frames,
            "rate": arguments.rate,
            "seed": arguments.seed,
            "wait_for_subscribers": 2,
        },
    }
    parameters = bag.parent / "parameters.yaml"
    content = {f"/**/{node}": {"ros__parameters": values} for node, values in settings.items()}
    parameters.write_text(yaml.safe_dump(content, sort_keys=False))
    remap = {
        "pose_estimator": ["-r", f"image:={IMAGE}", "-r", f"camera_info:={CAMERA_INFO}"],
        "bag_recorder": [],
        "simulated_camera": ["-r", "__ns:=/camera"],
    }
    with contextlib.ExitStack() as stack:
        nodes = {}
        for name in settings:
            nodes[name] = _Node(name, ["--params-file", str(parameters), *remap[name]])
            stack.enter_context(nodes[name])
        _wait_for_camera(nodes, _START_S + 3.0 * arguments.frames / arguments.rate)
        time.sleep(_SETTLE_S)


def _wait_for_camera(nodes: dict[str, _Node], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    camera = nodes["simulated_camera"].process
    while camera.poll() is None:
        for name, node in nodes.items():
            if node.error or node.process.poll() not in (None, 0):
                raise ValueError(f"{name} failed: {node.error or 'what it said is above'}")
        if time.monotonic() > deadline:
            raise ValueError(f"the camera has not come to its end within {patience_s:.0f} s")
        time.sleep(0.1)
    if camera.returncode != 0:
        raise ValueError("simulated_camera failed: what it said is above")


class _Node:
    """A node as a process of its own: what it says is shown under its name, and leaving the context ends it."""

    def __init__(self, name: str, ros_arguments: list[str]) -> None:
        environment = os.environ | {
            "ROS_DOMAIN_ID": str(os.getpid() % 100 + 1),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "RCUTILS_CONSOLE_OUTPUT_FORMAT": "[{severity}] {message}",
            "RCUTILS_COLORIZED_OUTPUT": "0",
        }
        self.error = ""
        self._name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"pnp_ros.nodes.{name}_node", "--ros-args", *ros_arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._relay = threading.Thread(target=self._show, daemon=True)

    def _show(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(_ERRORS):
                self.error = line.partition("] ")[2].strip()
            print(f"{self._name}: {line.removeprefix('[INFO] ')}", end="", flush=True)

    def __enter__(self) -> _Node:
        self._relay.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=10.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._relay.join(timeout=1.0)
