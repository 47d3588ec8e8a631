"""Nodes end when they are asked to: soon, whatever they are doing, with one line at most."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from pnp_ros.io.resources import resource
from synthetic.busy_machine import busy

_BUSY = """
import atexit, ctypes, sys, threading, time
import rclpy
from rclpy.lifecycle import LifecycleNode
from pnp_ros.nodes.priority import work_less_urgently
from pnp_ros.nodes.ros_compat import run

atexit.register(print, "an interpreter taken apart, which with torch costs a second of CPU time")

class Busy(LifecycleNode):
    def __init__(self):
        super().__init__("busy")
        self.itself = self
        print("up", flush=True)
        if sys.argv[1] == "beginning":
            time.sleep(0.6)
        elif sys.argv[1] == "callback":
            self.create_timer(0.0, lambda: time.sleep(60.0))
        elif sys.argv[1] == "compiling":
            self.create_timer(0.0, lambda: ctypes.CDLL(None).sleep(60))
        elif sys.argv[1] == "worker":
            self.worker = threading.Thread(target=work)
            self.worker.start()

memory = bytearray(300_000_000) if sys.argv[1] == "worker" else b""  # as networks take
for page in range(0, len(memory), 4096):
    memory[page] = 1

def work():  # and hold the interpreter's lock
    work_less_urgently()
    while True:
        sum(range(10_000))

run(Busy)
"""
PATIENCE_S, LONGEST_S = 1.5, 2.0
_WAITS = f"""
import os, signal, time
signal.signal(signal.SIGINT, lambda *_: (time.sleep({PATIENCE_S}), os._exit(0)))
print("up", flush=True)
time.sleep(60.0)
"""


class Ended:
    """When two processes have ended, asked at one time: the one in question, and one that just waits and ends.

    The second says how late this machine is with what takes no time.
    """

    def __init__(self, process: subprocess.Popen[str], number: signal.Signals) -> None:
        self.seconds: dict[int, float] = {}
        with subprocess.Popen([sys.executable, "-c", _WAITS], stdout=-1, text=True) as waits:
            assert waits.stdout is not None
            assert waits.stdout.readline() == "up\n"
            watchers = [threading.Thread(target=self._watch, args=(each,)) for each in (process, waits)]
            self._begin = time.monotonic()
            for watcher in watchers:
                watcher.start()
            waits.send_signal(signal.SIGINT)
            for _ in range(3):  # a user who is in a hurry
                process.send_signal(number)
                time.sleep(0.05)
            for watcher in watchers:
                watcher.join()
        late = self.seconds[waits.pid] - PATIENCE_S
        self.took, self.allowed = self.seconds[process.pid], PATIENCE_S + max(LONGEST_S - PATIENCE_S, 3.0 * late)

    def _watch(self, process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30.0)
        self.seconds[process.pid] = time.monotonic() - self._begin


@pytest.fixture
def one_core() -> Iterator[None]:
    """What is started has one core, the same."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


@pytest.mark.usefixtures("ros", "one_core")
@pytest.mark.parametrize(
    ("doing", "number", "loops"),
    [
        ("nothing", signal.SIGINT, 0),
        ("nothing", signal.SIGTERM, 0),
        ("beginning", signal.SIGINT, 0),
        ("callback", signal.SIGINT, 0),
        ("compiling", signal.SIGTERM, 0),
        ("worker", signal.SIGINT, 2),
    ],
)
def test_it_ends_within_two_seconds_and_in_silence(doing: str, number: signal.Signals, loops: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", _BUSY, doing], stdout=-1, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    with busy(loops):
        time.sleep(0.3)
        ended = Ended(process, number)
    assert ended.took <= ended.allowed
    assert process.returncode == 0
    assert process.stdout.read() == ""


@pytest.mark.parametrize("doing", ["nothing", "compiling"])  # the second has to be ended
def test_its_shared_memory_goes_with_it(ros: None, doing: str) -> None:
    environment = os.environ | {"ROS_DOMAIN_ID": "83"}  # where nobody else is
    with subprocess.Popen([sys.executable, "-c", _BUSY, doing], stdout=-1, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        mapped = set(re.findall(r"/dev/shm/fastrtps_[0-9a-f]{16}", Path(f"/proc/{process.pid}/maps").read_text()))
        assert mapped
        process.send_signal(signal.SIGINT)
    assert not [name for name in mapped if Path(name).exists()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("node", "parameters"),
    [
        ("pose_estimator", {"object": resource("config/objects/demo")}),
        ("fine_tuning", {"object": resource("config/objects/demo"), "versions": "versions"}),
        ("simulated_camera", {"object": resource("config/objects/demo")}),
        ("bag_recorder", {"output": "bag", "topics": "[/rosout]"}),
        ("pose_fusion", {"poses": "[/a, /b]", "fixed_frame": "cell", "object_frame": "object"}),
    ],
)
def test_each_node_ends_while_others_calculate(
    probe: Any, node: str, parameters: dict[str, object], tmp_path: Path
) -> None:
    words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    command = [sys.executable, "-m", "pnp_ros.cli.entry", f"pnp_ros.nodes.{node}_node", "--ros-args", *words]
    with busy(4), (tmp_path / "said").open("w+") as said:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=said, stderr=said, text=True)
        probe.wait(lambda: node in probe.node.get_node_names(), 300.0, "the node")
        time.sleep(1.0)
        ended = Ended(process, signal.SIGINT)
    assert process.returncode == 0
    writes = 6.5 if node == "bag_recorder" else 0.0  # what waits is written, for eight seconds in all
    assert ended.took <= ended.allowed + writes, (tmp_path / "said").read_text()


def _executable(module: str, folder: Path) -> dict[str, Any]:
    """What starts a module of a folder as launch starts a node."""
    paths = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"args": [sys.executable, "-m", "pnp_ros.cli.entry", module], "env": os.environ | {"PYTHONPATH": paths}}


def test_no_garbage_is_looked_for_while_an_executable_imports(tmp_path: Path) -> None:
    (tmp_path / "many.py").write_text(
        "import gc\n"
        "before = gc.get_stats()[0]['collections']\n"
        "kept = [[] for _ in range(10_000)]\n"
        "assert gc.get_stats()[0]['collections'] == before\n"
        "def main(): assert gc.isenabled()\n"
    )
    assert subprocess.run(**_executable("many", tmp_path)).returncode == 0


def test_an_interrupted_command_is_not_taken_apart(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(
        "import atexit\n"
        "atexit.register(print, 'tidied up')\n"
        "class Slow:\n    def __del__(self): print('taken apart')\n"
        "slow = Slow()\n"
        "def main(): return 130\n"
    )
    done = subprocess.run(**_executable("interrupted", tmp_path), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "tidied up\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_executable_that_still_imports_ends_in_silence(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "imports_long.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(60.0)\n")
    process = subprocess.Popen(**_executable("imports_long", tmp_path), stdout=-1, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    assert process.wait(timeout=30.0) == 128 + number
    assert process.stdout.read() == ""
