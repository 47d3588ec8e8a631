"""A bag played by the real process reaches the estimator, every image once, twice with the same bytes."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosgraph_msgs.msg import Clock

from forked_node import ForkedNode
from pnp_ros.io.bag_messages import message_types
from pnp_ros.io.bag_reader import BagReader
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.camera_info import CameraInfo

FRAMES, RATE = 12, 10
K = (300.0, 0.0, 160.0, 0.0, 300.0, 120.0, 0.0, 0.0, 1.0)
START_NS = 1000 * 1_000_000_000


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "bag"
    info = CameraInfo(240, 320, "plumb_bob", (0.0,) * 5, K)
    with BagWriter(path) as writer:
        for i in range(FRAMES):
            stamp = START_NS + i * 1_000_000_000 // RATE
            rgb = np.random.default_rng(i).integers(0, 255, (240, 320, 3), np.uint8)
            writer.write_camera_info("/camera/camera_info", info, stamp, "camera_optical_frame")
            writer.write_image("/camera/image_raw", rgb, stamp, "camera_optical_frame")
    return path


@contextlib.contextmanager
def play(bag: Path, **parameters: str) -> Iterator[ForkedNode]:
    """A player as a process of its own, which does not outlive the context."""
    words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    process = ForkedNode("bag_player", "--ros-args", "-p", f"bag:={bag}", "-p", "wait_for_subscribers:=1", *words)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=20.0)


def test_a_bag_played_twice_gives_the_same_bytes(probe: Any, start_estimator: Any, package: Any, bag: Path) -> None:
    runs, clocks = [], []
    probe.node.create_subscription(Clock, "/clock", clocks.append, 1000)
    for _ in range(2):
        with start_estimator(package.root, use_sim_time=True):
            # not for its diagnostics: without a /clock its timers stand still
            probe.wait(lambda: probe.node.count_publishers("/pose_estimator/objects"), 60.0, "its publishers")
            for name in ("objects", "poses"):
                probe.received[name].clear()
            with play(bag, clock="100.0", rate="2.0") as player:
                probe.wait(lambda: len(probe.received["objects"]) == FRAMES, 120.0, "an answer to every image")
                assert player.wait(timeout=30.0) == 0
        runs.append([
            (m.header.stamp.sec, m.header.stamp.nanosec, o.state, o.pose.pose, o.pose.covariance.tobytes())
            for m in probe.received["objects"]
            for o in m.objects
        ])  # fmt: skip
    assert runs[0] == runs[1]
    stamps = [sec * 1_000_000_000 + nanosec for sec, nanosec, *_ in runs[0]]
    assert stamps == [START_NS + i * 1_000_000_000 // RATE for i in range(FRAMES)]
    told = [c.clock.sec + 1e-9 * c.clock.nanosec for c in clocks]
    assert min(told) >= 1000.0 - 0.1
    assert 1000.0 + (FRAMES - 1) / RATE <= max(told) < 1000.0 + (FRAMES - 1) / RATE + 4.0
    assert len(told) > 2 * FRAMES


def test_a_loop_goes_on_until_it_is_interrupted(probe: Any, bag: Path) -> None:
    from sensor_msgs.msg import CameraInfo as CameraInfoMsg

    received: list[Any] = []
    probe.node.create_subscription(CameraInfoMsg, "/camera/camera_info", received.append, 100)
    with play(bag, topics="[/camera/camera_info]", loop="true", rate="20.0") as player:
        probe.wait(lambda: len(received) > 3 * FRAMES, 120.0, "the third time around")
    assert player.poll() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_end_while_it_tells_the_time_it_says_no_more(probe: Any, bag: Path, number: int) -> None:
    clocks: list[Clock] = []
    listening = probe.node.create_subscription(Clock, "/clock", clocks.append, 100)
    words = ["-p", f"bag:={bag}", "-p", "clock:=1000.0", "-p", "rate:=0.01"]
    command = [sys.executable, "-m", "pnp_ros.nodes.bag_player_node", "--ros-args", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as player:
        probe.wait(lambda: clocks, 120.0, "the time")
        player.send_signal(number)
        assert "Traceback" not in player.communicate(timeout=60.0)[1]
        assert player.returncode == 0
    probe.node.destroy_subscription(listening)


def test_it_ends_where_time_is_simulated_and_nobody_tells_it(probe: Any, bag: Path) -> None:
    with play(bag, rate="20.0", use_sim_time="true", wait_for_subscribers="0") as player:
        assert player.wait(timeout=60.0) == 0


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A bag of a camera and of a message type that this system does not know."""
    (tmp_path / "msg").mkdir()
    (tmp_path / "msg" / "Foo.msg").write_text("float64 x\n")
    info = CameraInfo(240, 320, "plumb_bob", (0.0,) * 5, K)
    with BagWriter(tmp_path / "bag", types=message_types(tmp_path / "msg", "my_msgs")) as writer:
        writer.write("/foo", writer.message("my_msgs/msg/Foo", x=1.0), START_NS)
        writer.write_camera_info("/camera/camera_info", info, START_NS, "camera_optical_frame")
        writer.write("/clock", writer.message("rosgraph_msgs/msg/Clock", clock=writer.header(1, "").stamp), START_NS)
    return tmp_path / "bag"


@pytest.mark.parametrize(
    ("held", "topics", "said"),
    [
        (["/foo", "/camera/camera_info"], "[/foo]", "no such message type here: /foo (my_msgs/msg/Foo)"),
        (["/foo"], "['']", "no such message type here: /foo (my_msgs/msg/Foo)"),
        (["/clock"], "['']", "no topic to play beside /clock"),
    ],
)
def test_a_bag_of_which_nothing_can_be_played_is_refused(
    strange: Path, tmp_path: Path, held: list[str], topics: str, said: str
) -> None:
    part = tmp_path / "part"
    with BagReader(strange) as reader, BagWriter(part, types=reader.types) as writer:
        for topic, kind, stamp_ns, cdr in reader.serialized(*held):
            writer.write_serialized(topic, kind, cdr, stamp_ns)
    words = ["-p", f"bag:={part}", "-p", f"topics:={topics}", "-p", "clock:=100.0"]
    command = [sys.executable, "-m", "pnp_ros.nodes.bag_player_node", "--ros-args", *words]
    player = subprocess.run(command, timeout=60.0, capture_output=True, text=True, check=False)
    assert player.returncode == 1
    assert f"{part}: {said}" in player.stderr
    assert "Traceback" not in player.stderr


def test_of_a_whole_bag_what_can_be_played_is_played(probe: Any, strange: Path) -> None:
    from sensor_msgs.msg import CameraInfo as CameraInfoMsg

    received: list[Any] = []
    probe.node.create_subscription(CameraInfoMsg, "/camera/camera_info", received.append, 100)
    with play(strange, clock="100.0") as player:
        probe.wait(lambda: len(received) == 1, 60.0, "the camera's message")
        assert player.wait(timeout=60.0) == 0
