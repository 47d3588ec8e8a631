"""``pnp-ros bag record`` and ``bag play`` as a user types them: what is played and recorded is what was in the bag."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pnp_ros.cli.main import main
from pnp_ros.io.bag_reader import BagReader

pytest.importorskip("rclpy")
TOPICS = ["/camera/image_raw/compressed", "/camera/camera_info", "/estimator/objects", "/tf_static"]
START_S = 300.0  # the machine may be busy


def messages(path: Path) -> dict[str, list[tuple[str, bytes]]]:
    found: dict[str, list[tuple[str, bytes]]] = {}
    with BagReader(path) as reader:
        for topic, kind, _, cdr in reader.serialized():
            found.setdefault(topic, []).append((kind, bytes(cdr)))
    return found


@contextlib.contextmanager
def process(*words: Any) -> Iterator[subprocess.Popen[str]]:
    """A command in a ROS domain of this test's own; leaving the context interrupts it."""
    environment = os.environ | {
        "ROS_DOMAIN_ID": str(os.getpid() % 100 + 1),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pnp_ros.cli.main", "bag", *map(str, words)]
    running = subprocess.Popen(command, env=environment, text=True, start_new_session=True)
    try:
        yield running
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGINT)  # as a terminal does with ctrl-C
        try:
            running.wait(timeout=30.0)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            raise


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_what_is_played_is_recorded(recorded_run: Any, tmp_path: Path, storage: str) -> None:
    original = tmp_path / "compressed"
    assert main(["bag", "convert", str(recorded_run.path), str(original), "--compress", "png"]) == 0
    with process("record", tmp_path / "again", *TOPICS, "--storage", storage):
        with process("play", original, *TOPICS, "--wait", "1", "--rate", "4", "--clock") as player:
            assert player.wait(timeout=START_S) == 0
        time.sleep(0.5)
    old, new = messages(original), messages(tmp_path / "again")
    assert new.keys() == set(TOPICS)
    for topic in TOPICS:
        assert [kind for kind, _ in new[topic]] == [kind for kind, _ in old[topic]]
        for (_, sent), (_, received) in zip(old[topic], new[topic]):
            assert received[: len(sent)] == sent
            assert not any(received[len(sent) :])  # DDS fills up to four bytes
    with BagReader(tmp_path / "again") as reader:
        assert reader.latched() == {"/tf_static"}
        begin, end = reader.span_ns
    assert 0.3 < 1e-9 * (end - begin) < 10.0  # two seconds at four times the speed, on a machine that may be busy


@contextlib.contextmanager
def publishing(said: str = "said") -> Iterator[list[Any]]:
    """Publishers of a best-effort and a latched topic of this process, in the commands' domain."""
    import rclpy
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
    from std_msgs.msg import String

    context = rclpy.context.Context()
    rclpy.init(context=context, domain_id=os.getpid() % 100 + 1)
    node = rclpy.create_node("talker", context=context)
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publishers = [node.create_publisher(String, "/fast", best_effort), node.create_publisher(String, "/once", latched)]
    ended = threading.Event()

    def talk() -> None:
        while not ended.wait(0.02):
            for publisher in publishers:
                publisher.publish(String(data=said))

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        yield publishers
    finally:
        ended.set()
        talker.join()
        node.destroy_node()
        context.shutdown()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_command_ends_the_recorder(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the command alone, as a service manager sends it: nobody goes on writing, the bag is whole."""
    path = tmp_path / "run"
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with publishing() as publishers, process("record", path, "/fast", "/once") as recorder:
        deadline = time.monotonic() + START_S
        while not all(publisher.get_subscription_count() for publisher in publishers):
            assert recorder.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(2.0)  # fifty messages a second each; one is enough
        recorder.send_signal(number)
        assert recorder.wait(timeout=START_S) == 0
        with pytest.raises(ProcessLookupError):
            os.killpg(recorder.pid, 0)
    assert {file.name for file in path.iterdir()} == {"run_0.mcap", "metadata.yaml"}
    with BagReader(path) as reader:
        assert reader.counts.keys() == {"/fast", "/once"}
        assert [offer.reliability.name for offer in reader.offered()["/fast"]] == ["BEST_EFFORT"]
        assert [offer.durability.name for offer in reader.offered()["/once"]] == ["TRANSIENT_LOCAL"]
        assert reader.latched() == {"/once"}
    assert main(["bag", "convert", str(path), str(tmp_path / "new"), "--storage", "sqlite3"]) == 0
    with BagReader(tmp_path / "new") as reader:
        assert [offer.reliability.name for offer in reader.offered()["/fast"]] == ["BEST_EFFORT"]
    assert (tmp_path / "new" / "new_0.db3").is_file()


def test_a_full_disk_ends_the_recorder_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run"
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with publishing("x" * 300_000), process("record", path, "/fast") as recorder:
        deadline = time.monotonic() + START_S
        while not path.is_dir():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
        assert recorder.wait(timeout=START_S) == 1
    said = capfd.readouterr().err
    assert f"{path}" in said
    assert "Traceback" not in said
