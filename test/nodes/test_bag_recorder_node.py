"""What the recorder refuses; what it records is tested with the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rclpy
from tf2_msgs.msg import TFMessage

from pnp_ros.nodes import bag_recorder_node, ros_compat


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
