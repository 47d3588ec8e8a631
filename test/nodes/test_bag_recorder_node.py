"""What the recorder refuses; what it records is tested with the command."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import rclpy
from builtin_interfaces.msg import Time
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from tf2_msgs.msg import TFMessage

from node_here import node_here
from pnp_ros.io.bag_reader import BagReader
from pnp_ros.nodes import bag_recorder_node, ros_compat

_LATCHED = DurabilityPolicy.TRANSIENT_LOCAL


def _recorder(folder: Path, topics: list[str], **more: Any) -> bag_recorder_node.BagRecorderNode:
    return node_here(bag_recorder_node.BagRecorderNode, output=str(folder), topics=topics, **more)


def test_a_topic_of_an_unknown_type_ends_the_recorder_in_words(
    probe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def unknown(kind: str) -> type:
        raise ModuleNotFoundError(kind)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ros_compat, "message_class", unknown)
    publisher = probe.node.create_publisher(TFMessage, "/tf", 1)
    recorder = bag_recorder_node.BagRecorderNode()
    try:
        with pytest.raises(SystemExit) as ended:
            rclpy.spin(recorder)
        assert ended.value.code == 1
    finally:
        recorder.destroy_node()
        probe.node.destroy_publisher(publisher)
    assert "/tf: no such message type here: tf2_msgs/msg/TFMessage" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        (["foo bar"], "parameter topics: expected names of topics, got 'foo bar'"),
        ([""], "parameter topics: expected one topic or more"),
    ],
)
def test_what_cannot_be_recorded_leaves_no_bag(ros: None, tmp_path: Path, topics: list[str], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        _recorder(tmp_path / "bag", topics)
    assert not (tmp_path / "bag").exists()


def test_a_bag_holds_full_names(probe: Any, tmp_path: Path) -> None:
    publisher = probe.node.create_publisher(TFMessage, "/chatter", QoSProfile(depth=1, durability=_LATCHED))
    publisher.publish(TFMessage())
    recorder = _recorder(tmp_path / "bag", ["chatter"])
    try:
        deadline = time.monotonic() + 60.0
        while not recorder._recorded and time.monotonic() < deadline:
            rclpy.spin_once(recorder, timeout_sec=0.05)
    finally:
        recorder.destroy_node()
        probe.node.destroy_publisher(publisher)
    with BagReader(tmp_path / "bag") as bag:
        assert bag.counts == {"/chatter": 1}


def test_where_time_is_simulated_it_waits_for_the_time_and_says_so(
    probe: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What came before would be stored at 0."""
    publisher = probe.node.create_publisher(TFMessage, "/chatter", QoSProfile(depth=1, durability=_LATCHED))
    publisher.publish(TFMessage())
    clock = probe.node.create_publisher(Clock, "/clock", 10)
    recorder = _recorder(tmp_path / "bag", ["/chatter"], use_sim_time=True)
    said = ""
    try:
        deadline = time.monotonic() + 60.0
        while "/clock" not in said and time.monotonic() < deadline:
            rclpy.spin_once(recorder, timeout_sec=0.05)
            said += capfd.readouterr().err
        assert "waiting for " in said
        assert "/clock" in said
        while not recorder._recorded and time.monotonic() < deadline:
            clock.publish(Clock(clock=Time(sec=7)))
            rclpy.spin_once(recorder, timeout_sec=0.05)
    finally:
        recorder.destroy_node()
        probe.node.destroy_publisher(publisher)
        probe.node.destroy_publisher(clock)
    with BagReader(tmp_path / "bag") as bag:
        assert bag.span_ns == (7_000_000_000, 7_000_000_000)


def test_a_home_that_no_shell_wrote_out_is_no_folder_of_that_name(
    ros: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    _recorder(Path("~/bag"), ["/tf"]).destroy_node()
    assert (tmp_path / "bag").is_dir()
    assert not (tmp_path / "~").exists()
