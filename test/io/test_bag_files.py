"""A bag is read from its data files, whatever metadata.yaml says; nothing is left out in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from pnp_ros.io.bag_messages import BagError, message_types
from pnp_ros.io.bag_reader import BagReader
from pnp_ros.io.bag_writer import BagWriter

COUNT = 5
TEXT = "std_msgs/msg/String"


def serialised(number: int) -> bytes:
    types = message_types()
    return bytes(types.serialize_cdr(types.types[TEXT](data=f"message {number}"), TEXT))


def write(path: Path, storage: str = "mcap") -> Path:
    with BagWriter(path, storage) as writer:  # type: ignore[arg-type]
        for i in range(COUNT):
            writer.write_serialized("/said", TEXT, serialised(i), 10 + i)
    return path


def said(path: Path) -> list[str]:
    with BagReader(path) as reader:
        return [message.data for _, _, message in reader.messages()]


EVERYTHING = [f"message {i}" for i in range(COUNT)]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("version", [4, 8])
def test_other_quality_of_service_in_the_metadata_costs_no_message(tmp_path: Path, storage: str, version: int) -> None:
    """Bags of ROS 2 Foxy and Galactic describe it differently in the two places."""
    bag = write(tmp_path / "bag", storage)
    content = yaml.safe_load((bag / "metadata.yaml").read_text())
    information = content["rosbag2_bagfile_information"]
    information["version"] = version
    for topic in information["topics_with_message_count"]:
        qos = yaml.safe_load(topic["topic_metadata"]["offered_qos_profiles"])
        qos[0] |= {"history": 3, "depth": 0, "deadline": {"sec": 0, "nsec": 0}}
        topic["topic_metadata"]["offered_qos_profiles"] = yaml.safe_dump(qos)
    (bag / "metadata.yaml").write_text(yaml.safe_dump(content))
    assert said(bag) == EVERYTHING


def test_wrong_metadata_is_passed_over_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bag = write(tmp_path / "bag")
    text = (bag / "metadata.yaml").read_text()
    for wrong in ("", "{", "some: thing", text.replace("bag_0.mcap", "absent.mcap")):
        caplog.clear()
        (bag / "metadata.yaml").write_text(wrong)
        assert said(bag) == EVERYTHING
        assert ("absent.mcap is listed in metadata.yaml but absent" if "absent" in wrong else "cannot be read") in (
            caplog.text
        )


def test_a_bag_in_several_files_is_one(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    bag.mkdir()
    for part in (1, 0):
        with BagWriter(tmp_path / f"part{part}") as writer:
            for i in (2 * part, 2 * part + 1):
                writer.write_serialized("/said", TEXT, serialised(i), 10 + i)
        (tmp_path / f"part{part}" / f"part{part}_0.mcap").rename(bag / f"bag_{part}.mcap")
    with BagReader(bag) as reader:
        assert reader.counts == {"/said": 4}
        assert [message.data for _, _, message in reader.messages()] == EVERYTHING[:4]


@pytest.mark.parametrize(
    ("storage", "mode"),
    [
        (StoragePlugin.SQLITE3, CompressionMode.FILE),
        (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
        (StoragePlugin.MCAP, CompressionMode.FILE),
        (StoragePlugin.MCAP, CompressionMode.MESSAGE),
        (StoragePlugin.MCAP, CompressionMode.STORAGE),
    ],
)
def test_compressed_bags_are_read(tmp_path: Path, storage: StoragePlugin, mode: CompressionMode) -> None:
    """As ``ros2 bag record --compression-mode file|message`` and mcap's own chunk compression make them."""
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=storage)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/said", TEXT, typestore=message_types())
        for i in range(COUNT):
            writer.write(connection, 10 + i, serialised(i))
    assert said(tmp_path / "bag") == EVERYTHING


def test_messages_that_are_missing_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bag = write(tmp_path / "bag")
    with BagReader(bag) as reader:
        overcounted = [connection._replace(msgcount=COUNT + 2) for connection in reader._reader.connections]
        assert len(list(reader._raw(overcounted))) == COUNT
    assert f"{COUNT} of {COUNT + 2} messages can be read" in caplog.text


def test_another_serialisation_is_refused(tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/said", TEXT, typestore=message_types(), serialization_format="protobuf")
        writer.write(connection, 10, b"x")
    with pytest.raises(BagError, match="serialised as protobuf, expected cdr"):
        BagReader(tmp_path / "bag")


def test_a_file_of_another_kind_is_no_bag(tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(b"\0" * 64)
    with pytest.raises(BagError, match=r"video\.mp4: is no bag: expected a folder, or a file named \.mcap"):
        BagReader(video)
