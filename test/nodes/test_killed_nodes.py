"""Either node is killed at random moments while weights change: what is used next is always the newest good version.

``UPDATES=20`` makes it quick.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

pytest.importorskip("rclpy")
pytest.importorskip("moderngl")

from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.io.resources import resource
from pnp_ros.msg import AdaptationStatus
from pnp_ros.nodes import conversions
from pnp_ros.nodes.ros_compat import LATCHED
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator

pytestmark = pytest.mark.slow
UPDATES = int(os.environ.get("UPDATES", "200"))
START_S = 300.0  # as the other tests have: the machine may be busy
_WRITER = """
import itertools, sys, time
import rclpy
from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.io.checkpoints import read_tensors
from pnp_ros.msg import AdaptationStatus
from pnp_ros.nodes.ros_compat import LATCHED
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.pipeline.calibration import CovarianceCalibration

rclpy.init()
package = load_object_package(sys.argv[1])
store = VersionStore(sys.argv[2], package)
own = read_tensors(package.weights_path)
publisher = rclpy.create_node("fine_tuning").create_publisher(AdaptationStatus, "/fine_tuning/status", LATCHED)
while True:
    factor = 1.0 + 1e-3 * store.next_number()
    moved = {name: tensor * factor if tensor.is_floating_point() else tensor for name, tensor in own.items()}
    number = store.write(moved, CovarianceCalibration(factor, 0.0), {"reason": "test"}).number
    publisher.publish(AdaptationStatus(object_name=package.name, active_version=number))
    time.sleep(0.02)
"""


class _Killed:
    """A context that ends a started node by SIGKILL, where :func:`start_estimator` would end it well."""

    def __init__(self, started: Any) -> None:
        self._started = started

    def __enter__(self) -> subprocess.Popen[str]:
        self.process: subprocess.Popen[str] = self._started.__enter__()
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def test_both_killed_during_many_updates(
    start_estimator: Any, probe: Any, package: ObjectPackage, open_gates: EstimatorConfig, tmp_path: Path
) -> None:
    chance, folder = random.Random(0), tmp_path / "versions"
    store, kills = VersionStore(folder, package), 0
    while store.next_number() <= UPDATES:
        with _Killed(start_estimator(package.root, versions=str(folder))) as estimator:
            _check(probe, 1000 * kills, store, package, open_gates)
            for _ in range(3):
                with _writer(package, folder) as writer:
                    before = store.next_number()
                    probe.wait(lambda count=before: store.next_number() > count, START_S, "an update")
                    _stay(probe, chance.uniform(0.0, 1.0))
                    writer.send_signal(signal.SIGKILL)
                newest = store.newest()
                assert newest is not None
                assert safetensors.torch.load_file(newest.path)
                kills += 1
            with _writer(package, folder) as writer:
                before = store.next_number()
                probe.wait(lambda count=before: store.next_number() > count, START_S, "an update")
                _stay(probe, chance.uniform(0.0, 1.0))
                assert estimator.poll() is None
                estimator.kill()  # while it loads one, or between two
                writer.send_signal(signal.SIGKILL)
        kills += 2
    assert kills >= 5
    with start_estimator(package.root, versions=str(folder)):
        _check(probe, 1000 * kills, store, package, open_gates)


def _writer(package: ObjectPackage, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _WRITER, str(package.root), str(folder)], text=True)


def _stay(probe: Any, seconds: float) -> None:
    """Send images meanwhile."""
    end, index = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        probe.send(probe.image(index), probe.camera_info(index))
        probe.wait(lambda: True)
        time.sleep(0.05)
        index += 1


def _check(probe: Any, index: int, store: VersionStore, package: ObjectPackage, config: EstimatorConfig) -> None:
    """The estimator that was started has the newest good version's weights: its first pose is the library's."""
    header = probe.header(index)

    def answers() -> list[Any]:
        probe.send(probe.image(index), probe.camera_info(index))
        time.sleep(0.2)
        return [message for message in probe.received["objects"] if message.header == header]

    probe.wait(answers, START_S, "the estimator")
    newest = store.newest()
    adapted = newest.applied_to(package) if newest else package
    camera = conversions.camera_from_message(probe.camera_info(index))
    expected = PoseEstimator(adapted, config).estimate(probe.pixels(index), camera, 0.0)
    assert answers()[0].objects == [conversions.object_pose(expected, package.name)]


@pytest.mark.usefixtures("ros")
def test_a_real_fine_tuning_node_goes_on_from_the_newest_version(probe: Any, tmp_path: Path) -> None:
    demo, folder, chance = resource("config/objects/demo"), tmp_path / "versions", random.Random(1)
    store, said = VersionStore(folder, load_object_package(demo)), []
    probe.node.create_subscription(AdaptationStatus, "/fine_tuning/status", said.append, LATCHED)
    lenient = {"min_images": 8, "min_held_back": 4, "check_steps": 8, "anchors": 20, "min_gain": 0.0}
    lenient |= {"anchor_margin": 1.0, "max_nees": 1e6}
    parameters = {f"adaptation.{name}": value for name, value in lenient.items()}
    parameters |= {"object": demo, "versions": folder, "reference": "tf:object_truth", "cpu_share": 2.0, "nice": False}
    camera = _start("simulated_camera", {"object": demo, "rate": 10.0, "shift": 1}, "__ns:=/camera")
    estimator = _start("pose_estimator", {"object": demo, "versions": folder, "threads": 1})
    try:
        for longest_s in (2.0, 20.0, 20.0, 5.0):
            said.clear()
            node = _start("fine_tuning", parameters)
            try:
                probe.wait(lambda: said, START_S, "its status")
                newest = store.newest()
                assert said[0].active_version == (newest.number if newest else 0)
                if newest is None:  # the first time: until there is something to go on from
                    probe.wait(lambda: said[-1].active_version == 1, START_S, "an update")
                _idle(probe, chance.uniform(0.0, longest_s))
                assert node.poll() is None
            finally:
                node.kill()
                node.wait()
            newest = store.newest()
            assert newest is not None
            assert newest.number == len(store.history())
        probe.wait(lambda: _weights_of_estimator(probe) == f"version {newest.number}", START_S, "the newest version")
        assert estimator.poll() is None
    finally:
        for process in (camera, estimator):
            process.kill()
            process.wait()


def _start(node: str, parameters: dict[str, Any], *remaps: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"pnp_ros.nodes.{node}_node", "--ros-args"]
    command += ["-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    for remap in remaps:
        command += ["-r", remap]
    return subprocess.Popen(command, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def _idle(probe: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    probe.wait(lambda: time.monotonic() > end)


def _weights_of_estimator(probe: Any) -> str:
    for message in reversed(probe.received["diagnostics"]):
        for status in message.status:
            if status.name.startswith("pose_estimator"):
                return {pair.key: pair.value for pair in status.values}["weights"]
    return ""
