"""A slow disk costs memory up to a bound, and what is lost then is counted."""

import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from pnp_ros.io.bag_reader import BagReader
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.nodes.write_behind import WriteBehind


class Disk:
    """Pauses until it is let go."""

    def __init__(self) -> None:
        self.go, self.written = threading.Event(), []

    def write(self, message: str) -> None:
        self.go.wait(30.0)
        if message == "the last that fits":
            raise OSError("disk full")
        self.written.append(message)


def test_as_much_waits_as_there_is_room_for() -> None:
    disk = Disk()
    behind = WriteBehind(disk.write, limit=100)
    assert [behind.put(30, f"{index}") for index in range(5)] == [True, True, True, False, False]
    assert behind.put(10, "small")
    assert behind.refused == 2
    disk.go.set()
    behind.close()
    assert disk.written == ["0", "1", "2", "small"]
    assert behind.failure is None


def test_a_single_message_is_never_too_large() -> None:
    disk = Disk()
    disk.go.set()
    behind = WriteBehind(disk.write, limit=100)
    assert behind.put(1000, "large")
    behind.close()
    assert disk.written == ["large"]
    assert not behind.put(1, "too late")


def test_after_a_failure_nothing_is_kept() -> None:
    disk = Disk()
    behind = WriteBehind(disk.write, limit=100)
    for message in ("first", "the last that fits", "waits"):
        behind.put(10, message)
    disk.go.set()
    behind.close()
    assert disk.written == ["first"]
    assert str(behind.failure) == "disk full"
    assert behind.refused == 2
    assert not behind.put(10, "more")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_can_be_written_on_that_thread(storage: Any, tmp_path: Path) -> None:
    bag = BagWriter(tmp_path / "bag", storage)
    header = bag.types.serialize_cdr(bag.header(1, "camera"), "std_msgs/msg/Header")
    behind = WriteBehind(bag.write_serialized, limit=1000)
    for stamp_ns in range(3):
        assert behind.put(len(header), "/header", "std_msgs/msg/Header", bytes(header), stamp_ns)
    behind.close()
    bag.close()
    assert behind.failure is None
    with BagReader(bag.path) as reader:
        assert reader.counts == {"/header": 3}
