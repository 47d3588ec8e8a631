"""What rosbag2 asks of a bag, checked in the files: so that ``ros2 bag`` plays what this package writes.

The demands are those of rosbag2's own readers (metadata's YAML decoder and quality-of-service decoder, the mcap and the
sqlite3 storage plugin) as of ROS 2 Jazzy; the mcap records are those of mcap.dev/spec.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pnp_ros.io.bag_messages import message_types
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.camera_info import CameraInfo
from pnp_ros.io.resources import resource

INFO = CameraInfo(4, 6, "plumb_bob", (0.0,) * 5, (6.0, 0.0, 3.0, 0.0, 6.0, 2.0, 0.0, 0.0, 1.0))
TOPICS = {
    "/camera/camera_info": "sensor_msgs/msg/CameraInfo",
    "/tf_static": "tf2_msgs/msg/TFMessage",
    "/pose_estimator/objects": "pnp_ros/msg/ObjectPoseArray",
}
SHARE = Path(sys.prefix) / "share"
QOS_INTEGERS = ("history", "depth", "reliability", "durability", "liveliness")
STORAGES = pytest.mark.parametrize("storage", ["mcap", "sqlite3"])


def write(path: Path, storage: str) -> Path:
    with BagWriter(path, storage, message_types(resource("msg"))) as writer:  # type: ignore[arg-type]
        writer.write_camera_info("/camera/camera_info", INFO, 5, "camera")
        writer.write("/tf_static", writer.message("tf2_msgs/msg/TFMessage", transforms=[]), 6, latched=True)
        stamp = writer.message("builtin_interfaces/msg/Time", sec=0, nanosec=7)
        header = writer.message("std_msgs/msg/Header", stamp=stamp, frame_id="camera")
        array = writer.message("pnp_ros/msg/ObjectPoseArray", header=header, objects=[], latency=[])
        writer.write("/pose_estimator/objects", array, 8)
    return path


def records(data: bytes, begin: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """Opcode, place and content of each record of an mcap file or chunk."""
    place = begin
    while place + 9 <= len(data):
        opcode, length = struct.unpack_from("<BQ", data, place)
        yield opcode, place, data[place + 9 : place + 9 + length]
        place += 9 + length


def strings(content: bytes, place: int, count: int) -> tuple[list[str], int]:
    found = []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", content, place)
        found.append(content[place + 4 : place + 4 + length].decode())
        place += 4 + length
    return found, place


def mapping(content: bytes, place: int) -> dict[str, str]:
    (length,) = struct.unpack_from("<I", content, place)
    place, end = place + 4, place + 4 + length
    found = {}
    while place < end:
        (key, value), place = strings(content, place, 2)
        found[key] = value
    return found


def check_information(information: dict[str, Any], storage: str, files: list[str]) -> None:
    """The fields that rosbag2 decodes at version 8, with their types."""
    assert information["version"] == 8
    assert information["storage_identifier"] == storage
    assert information["duration"] == {"nanoseconds": 3}
    assert information["starting_time"] == {"nanoseconds_since_epoch": 5}
    assert information["message_count"] == 3
    assert information["compression_format"] == information["compression_mode"] == ""
    assert information["relative_file_paths"] == files
    assert [file["path"] for file in information["files"]] == files
    assert {"duration", "message_count", "path", "starting_time"} <= information["files"][0].keys()
    assert "custom_data" in information
    assert isinstance(information["ros_distro"], str)
    for entry in information["topics_with_message_count"]:
        topic = entry["topic_metadata"]
        assert entry["message_count"] == 1
        assert topic["type"] == TOPICS[topic["name"]]
        assert topic["serialization_format"] == "cdr"
        assert topic["type_description_hash"].startswith("RIHS01_")
        check_qos(topic["offered_qos_profiles"], topic["name"])


def check_qos(text: str, topic: str) -> None:
    """Up to version 8 it is YAML in a string, with rmw's numbers."""
    (profile,) = yaml.safe_load(text)
    assert all(isinstance(profile[name], int) for name in QOS_INTEGERS)
    assert profile["reliability"] == profile["history"] == profile["liveliness"] == 1  # reliable, keep last, automatic
    assert profile["durability"] == (1 if topic == "/tf_static" else 2)  # transient local, volatile
    for name in ("deadline", "lifespan", "liveliness_lease_duration"):
        assert profile[name] == {"sec": 9223372036, "nsec": 854775807}  # RMW_DURATION_INFINITE
    assert profile["avoid_ros_namespace_conventions"] is False


def check_definition(kind: str, text: str) -> None:
    """The message's own text, then every nested message under a line of 80 = and its name."""
    assert "MSG: " not in text.split("=" * 80)[0]
    nested = [part.split("\n")[1].removeprefix("MSG: ") for part in text.split("=" * 80)[1:]]
    wanted = {
        "sensor_msgs/msg/CameraInfo": {"std_msgs/Header", "builtin_interfaces/Time", "sensor_msgs/RegionOfInterest"},
        "tf2_msgs/msg/TFMessage": {"geometry_msgs/TransformStamped", "geometry_msgs/Transform", "std_msgs/Header"},
        "pnp_ros/msg/ObjectPoseArray": {
            "pnp_ros/ObjectPose",
            "pnp_ros/Hypothesis",
            "pnp_ros/StageLatency",
            "std_msgs/Header",
        },
    }
    assert {name.replace("/msg/", "/") for name in nested} >= wanted[kind]


@STORAGES
def test_metadata_is_what_rosbag2_decodes(tmp_path: Path, storage: str) -> None:
    bag = write(tmp_path / "bag", storage)
    content = yaml.safe_load((bag / "metadata.yaml").read_text())
    assert list(content) == ["rosbag2_bagfile_information"]
    (file,) = (f.name for f in bag.iterdir() if f.suffix in (".mcap", ".db3"))
    check_information(content["rosbag2_bagfile_information"], storage, [file])


def test_mcap_holds_what_the_storage_plugin_reads(tmp_path: Path) -> None:
    data = (write(tmp_path / "bag", "mcap") / "bag_0.mcap").read_bytes()
    magic = b"\x89MCAP0\r\n"
    assert data.startswith(magic)
    assert data.endswith(magic)
    found = list(records(data[: -len(magic)], len(magic)))
    header, footer = found[0], found[-1]
    assert (header[0], footer[0]) == (0x01, 0x02)
    assert strings(header[2], 0, 1)[0] == ["ros2"]
    (summary,) = struct.unpack_from("<Q", footer[2])
    summarised = [record for record in found if record[1] >= summary]
    schemas: dict[int, str] = {}
    for _, _, content in (r for r in summarised if r[0] == 0x03):
        (name, encoding), place = strings(content, 2, 2)
        assert encoding == "ros2msg"
        check_definition(name, content[place + 4 :].decode())
        schemas[struct.unpack_from("<H", content)[0]] = name
    topics = {}
    for _, _, content in (r for r in summarised if r[0] == 0x04):
        (topic, encoding), place = strings(content, 4, 2)
        assert encoding == "cdr"
        check_qos(mapping(content, place)["offered_qos_profiles"], topic)
        topics[topic] = schemas[struct.unpack_from("<HH", content)[1]]
    assert topics == TOPICS
    (metadata,) = (content for opcode, _, content in found if opcode == 0x0C)
    (name,), place = strings(metadata, 0, 1)
    assert name == "rosbag2"
    check_information(yaml.safe_load(mapping(metadata, place)["serialized_metadata"]), "mcap", ["bag_0.mcap"])
    opcodes = {record[0] for record in summarised}
    assert {0x08, 0x0B, 0x0D, 0x0E} <= opcodes  # chunk index, statistics, metadata index, summary offset


def test_sqlite3_holds_what_the_storage_plugin_reads(tmp_path: Path) -> None:
    with sqlite3.connect(write(tmp_path / "bag", "sqlite3") / "bag_0.db3") as database:
        assert database.execute("SELECT schema_version FROM schema").fetchall() == [(4,)]
        ((version, text),) = database.execute("SELECT metadata_version, metadata FROM metadata").fetchall()
        assert version == 8
        check_information(yaml.safe_load(text), "sqlite3", ["bag_0.db3"])
        rows = database.execute("SELECT id, name, type, serialization_format, offered_qos_profiles FROM topics")
        names = {}
        for number, name, kind, encoding, qos in rows.fetchall():
            assert (kind, encoding) == (TOPICS[name], "cdr")
            check_qos(qos, name)
            names[number] = name
        definitions = database.execute(
            "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
        )
        for kind, encoding, definition in definitions.fetchall():
            assert encoding == "ros2msg"
            check_definition(kind, definition)
        messages = database.execute("SELECT topic_id, timestamp, data FROM messages ORDER BY timestamp").fetchall()
    assert [(names[topic], stamp) for topic, stamp, _ in messages] == list(zip(TOPICS, (5, 6, 8)))
    assert all(data[:2] == b"\x00\x01" for *_, data in messages)  # CDR, little endian


def test_type_hashes_are_those_of_the_ros_generators(tmp_path: Path) -> None:
    """rosbag2 warns of, and bridges refuse, a topic whose hash is not that of the type they know."""
    content = yaml.safe_load((write(tmp_path / "bag", "mcap") / "metadata.yaml").read_text())
    compared = 0
    for entry in content["rosbag2_bagfile_information"]["topics_with_message_count"]:
        topic = entry["topic_metadata"]
        file = SHARE / f"{topic['type']}.json"
        if file.is_file():
            hashes = {h["type_name"]: h["hash_string"] for h in json.loads(file.read_text())["type_hashes"]}
            assert topic["type_description_hash"] == hashes[topic["type"]]
            compared += 1
        if topic["name"] == "/tf_static":  # of the stock tf2_msgs
            assert topic["type_description_hash"].startswith("RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf2")
    if not compared:
        pytest.skip("the ROS message packages are not installed here")
