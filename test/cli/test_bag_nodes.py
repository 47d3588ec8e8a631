"""``pnp-ros bag record`` and ``bag play`` as a user types them: what is played and recorded is what was in the bag."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pnp_ros.cli.main import main
from pnp_ros.io.bags import BagReader

pytest.importorskip("rclpy")
TOPICS = ["/camera/image_raw/compressed", "/camera/camera_info", "/estimator/objects", "/tf_static"]
START_S = 120.0


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
