"""What the fine-tuning node takes of the machine, while it really trains."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("moderngl")

from pnp_ros.io.resources import resource
from pnp_ros.msg import AdaptationStatus
from pnp_ros.nodes.ros_compat import LATCHED

pytestmark = pytest.mark.slow
START_S, MEASURED_S, SHARE = 240.0, 30.0, 0.3


@pytest.fixture
def camera(ros: None) -> Iterator[None]:
    """A simulated camera that looks at the demo's object."""
    command = [sys.executable, "-m", "pnp_ros.nodes.simulated_camera_node", "--ros-args", "-r", "__ns:=/camera"]
    command += ["-p", f"object:={resource('config/objects/demo')}", "-p", "rate:=8.0"]
    process = subprocess.Popen(command)
    yield
    process.kill()
    process.wait()


@pytest.mark.usefixtures("camera")
def test_cpu_share_and_priority(start_estimator: Any, start_fine_tuning: Any, probe: Any, tmp_path: Path) -> None:
    if os.getloadavg()[0] > len(os.sched_getaffinity(0)):
        pytest.skip("others use all of the machine, and little is left for what works at a low priority")
    demo, said = resource("config/objects/demo"), []
    probe.node.create_subscription(AdaptationStatus, "/fine_tuning/status", said.append, LATCHED)
    limits = {
        "cpu_share": SHARE,
        "threads": 1,
        "nice": True,
        "adaptation.min_images": 8,
        "adaptation.min_held_back": 4,
    }
    sources = {"versions": str(tmp_path / "versions"), "reference": "tf:object_truth"}
    with start_estimator(demo, keep_all=False), start_fine_tuning(demo, **sources, **limits) as node:
        probe.wait(lambda: said and said[-1].state == AdaptationStatus.TRAINING, START_S, "the training")
        probe.wait(lambda: said[-1].steps >= 3, START_S, "a few steps")
        begin, used, steps = time.monotonic(), _cpu_seconds(node.pid), said[-1].steps
        probe.wait(lambda: time.monotonic() > begin + MEASURED_S, 2 * MEASURED_S)
        share = (_cpu_seconds(node.pid) - used) / (time.monotonic() - begin)
        assert said[-1].steps > steps
        assert 0.02 < share < 1.3 * SHARE  # units of work last some seconds
        threads = [int(task.name) for task in Path(f"/proc/{node.pid}/task").iterdir()]
        busiest = max(threads, key=lambda thread: _cpu_seconds(f"{node.pid}/task/{thread}"))
        nices = [os.getpriority(os.PRIO_PROCESS, thread) for thread in (busiest, node.pid)]
        assert nices == [10, 5]  # what answers on a busy machine goes first


def _cpu_seconds(process: int | str) -> float:
    """User and system time of a process, with all its threads, or of one ``PID/task/THREAD``."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
