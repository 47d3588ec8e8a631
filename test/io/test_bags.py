"""Bags: what goes in comes out, in both storages; damaged and foreign files are refused by name."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from rosbags.rosbag1 import Writer as Writer1
from rosbags.typesys import Stores, get_typestore

from pnp_ros.io.bag_messages import BagError, message_types
from pnp_ros.io.bag_reader import BagImage, BagReader
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.camera_info import CameraInfo, RegionOfInterest

K = (60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0)
INFO = CameraInfo(48, 64, "plumb_bob", (0.1, -0.2, 0.0, 0.0, 0.0), K, binning_x=2, roi=RegionOfInterest(4, 2, 20, 40))
SECOND = 1_000_000_000
STORAGES = pytest.mark.parametrize("storage", ["mcap", "sqlite3"])


@pytest.fixture
def messages(tmp_path: Path) -> Path:
    folder = tmp_path / "msg"
    folder.mkdir()
    (folder / "Inner.msg").write_text("string name\nfloat32[] values\n")
    (folder / "Outer.msg").write_text("std_msgs/Header header\nInner[] parts\nfloat64[36] covariance\n")
    return folder


def write(path: Path, storage: str = "mcap", count: int = 4) -> Path:
    with BagWriter(path, storage) as writer:  # type: ignore[arg-type]
        for i in range(count):
            stamp = 5 * SECOND + i * SECOND // 10
            writer.write_camera_info("/camera/camera_info", INFO, stamp, "camera_optical")
            rgb = np.full((48, 64, 3), 5 * i % 256, np.uint8)
            writer.write_image("/camera/image_raw", rgb, stamp, "camera_optical")
    return path


def images(path: Path) -> list[BagImage]:
    with BagReader(path) as reader:
        return list(reader.images())


@STORAGES
def test_images_come_back_with_stamp_frame_and_camera(tmp_path: Path, storage: str) -> None:
    found = images(write(tmp_path / "bag", storage))
    assert [p.stamp_ns for p in found] == [5 * SECOND + i * SECOND // 10 for i in range(4)]
    for i, recorded in enumerate(found):
        assert (recorded.rgb == 5 * i).all()
        assert recorded.rgb.shape == (48, 64, 3)
        assert recorded.frame_id == "camera_optical"
        assert recorded.camera_info == INFO
    metadata = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert metadata["storage_identifier"] == storage


@STORAGES
def test_own_messages_are_read_without_their_definitions(tmp_path: Path, messages: Path, storage: str) -> None:
    with BagWriter(tmp_path / "bag", storage, message_types(messages, "our_msgs")) as writer:  # type: ignore[arg-type]
        stamp = writer.message("builtin_interfaces/msg/Time", sec=3, nanosec=7)
        header = writer.message("std_msgs/msg/Header", stamp=stamp, frame_id="camera")
        inner = writer.message("our_msgs/msg/Inner", name="part", values=np.array([1.5, 2.5], np.float32))
        fields = {"header": header, "parts": [inner], "covariance": np.arange(36.0)}
        writer.write("/outer", writer.message("our_msgs/msg/Outer", **fields), 9)
    with BagReader(tmp_path / "bag") as reader:
        assert reader.topics == {"/outer": "our_msgs/msg/Outer"}
        ((topic, recorded, message),) = reader.messages()
    assert (topic, recorded) == ("/outer", 9)
    assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (3, 7, "camera")
    assert message.parts[0].name == "part"
    np.testing.assert_array_equal(message.parts[0].values, [1.5, 2.5])
    np.testing.assert_array_equal(message.covariance, np.arange(36.0))


def test_serialised_messages_pass_unopened(tmp_path: Path) -> None:
    types = message_types()
    text = types.types["std_msgs/msg/String"](data="hello")
    data = bytes(types.serialize_cdr(text, "std_msgs/msg/String"))
    with BagWriter(tmp_path / "bag") as writer:
        writer.write_serialized("/said", "std_msgs/msg/String", data, 5, latched=True)
        with pytest.raises(BagError, match=r"/said holds std_msgs/msg/String, got std_msgs/msg/Int32"):
            writer.write_serialized("/said", "std_msgs/msg/Int32", data, 6)
        with pytest.raises(BagError, match=r"unknown type our_msgs/msg/Absent"):
            writer.write_serialized("/other", "our_msgs/msg/Absent", data, 6)
    with BagReader(tmp_path / "bag") as reader:
        assert [message.data for _, _, message in reader.messages("/said")] == ["hello"]
    assert "durability: 1" in (tmp_path / "bag" / "metadata.yaml").read_text()


def test_compressed_images_and_the_nearest_earlier_camera(tmp_path: Path) -> None:
    import cv2

    with BagWriter(tmp_path / "bag") as writer:
        for i, (width, stamp) in enumerate(((64, 10), (80, 20), (80, 28))):
            size = (48, width if i < 2 else 4000, 3)  # the last is another camera's
            encoded = cv2.imencode(".png", np.full(size, (1, 2, 3), np.uint8))[1]
            info = CameraInfo(48, width, "plumb_bob", (), K)
            writer.write_camera_info("/camera/camera_info", info, stamp * SECOND, "camera")
            time = writer.message("builtin_interfaces/msg/Time", sec=14 + 8 * i, nanosec=0)
            header = writer.message("std_msgs/msg/Header", stamp=time, frame_id="camera")
            recorded = writer.message("sensor_msgs/msg/CompressedImage", header=header, format="png", data=encoded)
            writer.write("/camera/image_raw/compressed", recorded, (14 + 8 * i) * SECOND)
    # image_transport puts camera_info beside the base topic
    with BagReader(tmp_path / "bag") as reader:
        found = list(reader.images(camera_info_topic="/camera/camera_info", skip_broken=True))
        beside = list(reader.images(skip_broken=True))
        with pytest.raises(BagError, match=r"30000000000 ns: .*expected 80x48 .* camera has, its header says 4000x48"):
            list(reader.images())
        given = CameraInfo(48, 4000, "plumb_bob", (), K)
        assert [p.rgb.shape[1] for p in reader.images(skip_broken=True, camera=given)] == [4000]
    assert [p.camera_info.width for p in found if p.camera_info] == [64, 80]
    assert [p.camera_info for p in beside] == [p.camera_info for p in found]
    assert found[0].rgb[0, 0].tolist() == [3, 2, 1]


def test_a_compressed_bayer_pattern_has_colour(tmp_path: Path) -> None:
    encoded = np.asarray(cv2.imencode(".png", np.tile(np.uint8([[200, 40], [40, 20]]), (4, 4)))[1]).reshape(-1)
    with BagWriter(tmp_path / "bag") as writer:
        fields = {"format": "bayer_rggb8; png compressed ", "data": encoded}
        message = writer.message("sensor_msgs/msg/CompressedImage", header=writer.header(SECOND, "camera"), **fields)
        writer.write("/camera/image_raw/compressed", message, SECOND)
    (image,) = images(tmp_path / "bag")
    assert image.rgb[4, 4].tolist() == [200, 40, 20]


def test_topics_must_exist_and_be_unambiguous(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "two") as writer:
        for name in ("left", "right"):
            writer.write_image(f"/{name}/image_raw", np.zeros((4, 4, 3), np.uint8), 0, "camera")
    with BagReader(tmp_path / "two") as reader:
        with pytest.raises(BagError, match=r"expected one image topic, found /left/image_raw, /right/image_raw"):
            next(reader.images())
        with pytest.raises(BagError, match=r"no topic /up/image_raw; there are /left"):
            next(reader.images("/up/image_raw"))
        assert next(reader.images("/left/image_raw")).camera_info is None


def test_a_broken_image_names_topic_and_stamp(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        stamp = writer.message("builtin_interfaces/msg/Time", sec=1, nanosec=0)
        header = writer.message("std_msgs/msg/Header", stamp=stamp, frame_id="camera")
        fields = {"height": 4, "width": 4, "encoding": "rgb8", "is_bigendian": 0, "step": 12}
        writer.write(
            "/image", writer.message("sensor_msgs/msg/Image", header=header, data=np.zeros(47, np.uint8), **fields), 0
        )
    with BagReader(tmp_path / "bag") as reader, pytest.raises(BagError, match=r"/image at 1000000000 ns: image\.data"):
        next(reader.images())


def damaged(folder: Path, storage: str) -> Iterator[Path]:
    """A good bag whose data file is cut at several places, as a folder and as a bare file."""
    good = write(folder / "good", storage, count=40)
    (file,) = (f for f in good.iterdir() if f.suffix != ".yaml")
    data = file.read_bytes()
    for cut in (0, 10, len(data) // 2, len(data) - 1):
        bad = folder / f"cut{cut}"
        shutil.copytree(good, bad)
        (bad / file.name).write_bytes(data[:cut])
        yield bad
        yield bad / file.name


def test_truncated_sqlite_bags_are_refused(tmp_path: Path) -> None:
    for bad in damaged(tmp_path, "sqlite3"):
        with pytest.raises(BagError, match=bad.name), BagReader(bad) as reader:
            list(reader.messages())


def test_of_a_truncated_mcap_bag_the_whole_chunks_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = write(tmp_path / "good", count=400)  # 3.7 MB in chunks of 1 MB
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with BagReader(good) as reader:
        everything = list(reader.serialized())
        assert not list(scratch.iterdir()), "what is whole needs no copy, which a process that is killed would leave"
    data = (good / "good_0.mcap").read_bytes()
    found = {}
    for cut in (0, 5, 60, len(data) // 2, len(data) * 9 // 10, len(data) - 1):
        bad = tmp_path / f"cut{cut}.mcap"
        bad.write_bytes(data[:cut])
        try:
            with BagReader(bad) as reader:
                messages = list(reader.serialized())
        except BagError as error:
            assert bad.name in str(error)  # noqa: PT017
            continue
        found[cut] = len(messages)
        assert [(m[:3], bytes(m[3])) for m in messages] == [(m[:3], bytes(m[3])) for m in everything[: len(messages)]]
        assert f"{bad}: cut short" in caplog.text
    assert found.keys() == {len(data) // 2, len(data) * 9 // 10, len(data) - 1}
    assert 200 <= found[len(data) // 2] <= 400
    assert not list(scratch.iterdir())
    assert found[len(data) // 2] < found[len(data) * 9 // 10] < found[len(data) - 1] == len(everything)


def test_a_recording_that_was_killed_has_no_metadata_and_is_read(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag")
    (bag / "metadata.yaml").unlink()
    assert len(images(bag)) == 4


def test_broken_images_can_be_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.write_image("/image", np.zeros((4, 4, 3), np.uint8), SECOND, "camera")
        time = writer.message("builtin_interfaces/msg/Time", sec=2, nanosec=0)
        header = writer.message("std_msgs/msg/Header", stamp=time, frame_id="camera")
        fields = {"height": 4, "width": 4, "encoding": "rgb8", "is_bigendian": 0, "step": 12}
        image = writer.message("sensor_msgs/msg/Image", header=header, data=np.zeros(7, np.uint8), **fields)
        writer.write("/image", image, 2 * SECOND)
        writer.write_image("/image", np.ones((4, 4, 3), np.uint8), 3 * SECOND, "camera")
    with BagReader(tmp_path / "bag") as reader:
        assert [p.stamp_ns for p in reader.images(skip_broken=True)] == [SECOND, 3 * SECOND]
    assert "left out" in caplog.text


def test_bags_of_ros_1_are_read_and_rewritten(tmp_path: Path) -> None:
    types = get_typestore(Stores.ROS1_NOETIC)
    with Writer1(tmp_path / "old.bag") as writer:
        image = writer.add_connection("/camera/image_raw", "sensor_msgs/msg/Image", typestore=types)
        info = writer.add_connection("/camera/camera_info", "sensor_msgs/msg/CameraInfo", typestore=types)
        for i in range(3):
            stamp = types.types["builtin_interfaces/msg/Time"](sec=5 + i, nanosec=0)
            header = types.types["std_msgs/msg/Header"](seq=i, stamp=stamp, frame_id="camera")
            fields = {"height": 4, "width": 4, "encoding": "bgr8", "is_bigendian": 0, "step": 12}
            data = np.tile(np.array([1, 2, 3], np.uint8), 16)
            message = types.types["sensor_msgs/msg/Image"](header=header, data=data, **fields)
            writer.write(image, (5 + i) * SECOND, types.serialize_ros1(message, message.__msgtype__))
            roi = types.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
            matrices = {"D": np.zeros(5), "K": np.array(K), "R": np.eye(3).reshape(-1), "P": np.zeros(12)}
            camera = types.types["sensor_msgs/msg/CameraInfo"](
                header=header,
                height=4,
                width=4,
                distortion_model="plumb_bob",
                binning_x=0,
                binning_y=0,
                roi=roi,
                **matrices,
            )
            writer.write(info, (5 + i) * SECOND, types.serialize_ros1(camera, camera.__msgtype__))
    with BagReader(tmp_path / "old.bag") as reader:
        assert reader.is_ros1
        old = list(reader.images())
        with BagWriter(tmp_path / "new") as new:
            for topic, kind, stamp_ns, cdr in reader.serialized():
                new.write_serialized(topic, kind, cdr, stamp_ns)
    rewritten = images(tmp_path / "new")
    for found in (old, rewritten):
        assert [p.stamp_ns for p in found] == [5 * SECOND, 6 * SECOND, 7 * SECOND]
        assert found[0].rgb[0, 0].tolist() == [3, 2, 1]
        assert found[0].camera_info is not None
        assert found[0].camera_info.k == K


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.mcap", b"rubbish"), ("a.db3", b"rubbish"), ("a.bag", b"#ROSBAG V2.0\n"), ("a.mp4", b"video"), ("a", b"")],
)
def test_foreign_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BagError, match=name):
        BagReader(tmp_path / name)


def test_absent_empty_and_existing_bags(tmp_path: Path, messages: Path) -> None:
    with pytest.raises(BagError, match="no such bag"):
        BagReader(tmp_path / "absent")
    with pytest.raises(BagError, match="msg"):
        BagReader(messages)  # a folder, but no bag
    with BagWriter(tmp_path / "empty"):
        pass
    with pytest.raises(BagError, match="holds no message"):
        BagReader(tmp_path / "empty")
    with pytest.raises(BagError, match="exists already"):
        BagWriter(tmp_path / "empty")
    with pytest.raises(BagError, match="storage: expected mcap or sqlite3"):
        BagWriter(tmp_path / "other", "rosbag1")  # type: ignore[arg-type]


def test_message_folders_that_hold_no_definitions(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r"no \.msg file"):
        message_types(tmp_path)
    for content in ("float64 [", "Absent field"):
        (tmp_path / "Bad.msg").write_text(content)
        with pytest.raises(BagError, match=r"Bad\.msg"):
            message_types(tmp_path)
