"""``pnp-ros bag info`` and ``convert``: what goes in comes out, in other forms."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pnp_ros.cli.main import main
from pnp_ros.io.bag_messages import COMPRESSED_IMAGE, IMAGE
from pnp_ros.io.bag_reader import BagReader
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.camera_info import CameraInfo, write_camera_info
from pnp_ros.io.images import write_image

SECOND = 1_000_000_000
K = (60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0)


def bag(*words: Any) -> int:
    return main(["bag", *map(str, words)])


def messages(path: Path) -> list[tuple[str, str, int, bytes]]:
    with BagReader(path) as reader:
        return [(topic, kind, stamp, bytes(cdr)) for topic, kind, stamp, cdr in reader.serialized()]


def test_info_counts_every_topic(recorded_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert bag("info", recorded_run.path, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    counts = {topic["topic"]: topic["messages"] for topic in content["topics"]}
    assert counts["/camera/image_raw"] == counts["/estimator/objects"] == 60
    assert counts["/tf"] == 55
    assert counts["/tf_static"] == 1
    assert content["ros"] == 2
    assert content["seconds"] == pytest.approx(59 / 30)
    assert bag("info", recorded_run.path) == 0
    assert "sensor_msgs/msg/CameraInfo" in capsys.readouterr().out


def test_a_bag_survives_the_way_to_the_other_storage_and_back(recorded_run: Any, tmp_path: Path) -> None:
    assert bag("convert", recorded_run.path, tmp_path / "a", "--storage", "sqlite3") == 0
    assert bag("convert", tmp_path / "a", tmp_path / "b") == 0
    original = messages(recorded_run.path)
    assert sorted(messages(tmp_path / "b")) == sorted(original)
    assert {m[:2] for m in original} == {m[:2] for m in messages(tmp_path / "a")}
    with BagReader(tmp_path / "b") as reader:
        assert reader.latched() == {"/tf_static"}
    assert bag("convert", recorded_run.path, tmp_path / "c", "--topics", "/tf") == 0
    assert {m[0] for m in messages(tmp_path / "c")} == {"/tf"}


def test_images_become_a_bag_and_change_their_form(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        write_image(folder / f"{i}.png", np.full((48, 64, 3), (10 * i, 100, 200), np.uint8))
    write_camera_info(tmp_path / "camera.yaml", CameraInfo(48, 64, "plumb_bob", (0.0,) * 5, K))
    camera = ("--camera", tmp_path / "camera.yaml", "--rate", 10)
    assert bag("convert", folder, tmp_path / "png", *camera, "--compress", "png") == 0
    assert bag("convert", tmp_path / "png", tmp_path / "raw", "--raw") == 0
    assert bag("convert", tmp_path / "raw", tmp_path / "jpeg", "--compress", "jpeg") == 0
    topics = {"png": "/camera/image_raw/compressed", "raw": "/camera/image_raw", "jpeg": "/camera/image_raw/compressed"}
    for name, topic in topics.items():
        with BagReader(tmp_path / name) as reader:
            assert reader.topics.keys() == {topic, "/camera/camera_info"}
            found = list(reader.images())
        assert [p.stamp_ns for p in found] == [1_000_000_000, 1_100_000_000, 1_200_000_000]
        for i, image in enumerate(found):
            assert image.camera_info is not None
            assert image.camera_info.k == K
            expected = np.array([10 * i, 100, 200])
            assert np.abs(image.rgb.astype(int) - expected).max() <= (3 if name == "jpeg" else 0)
    assert bag("convert", folder, tmp_path / "part", *camera, "--start", 0.1, "--every", 2) == 0
    with BagReader(tmp_path / "part") as reader:
        assert [image.stamp_ns for image in reader.images()] == [1_100_000_000]
    assert bag("convert", folder, tmp_path / "none", *camera, "--start", 5) == 1
    assert not (tmp_path / "none").exists()


def write_raw(writer: BagWriter, topic: str, pixels: np.ndarray, encoding: str) -> None:
    fields = {"height": len(pixels), "width": pixels.shape[1], "encoding": encoding, "is_bigendian": 0}
    data = np.frombuffer(pixels.tobytes(), np.uint8)
    header = writer.header(SECOND, "camera")
    message = writer.message(IMAGE, header=header, step=len(data) // len(pixels), data=data, **fields)
    writer.write(topic, message, SECOND)


def write_packed(writer: BagWriter, topic: str, data: bytes, form: str) -> None:
    header = writer.header(SECOND, "camera")
    packed = np.frombuffer(data, np.uint8)
    writer.write(topic, writer.message(COMPRESSED_IMAGE, header=header, format=form, data=packed), SECOND)


def test_depth_and_what_is_deeper_than_a_byte_stay_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    depth = np.full((4, 6), 1234, np.uint16)
    png = cv2.imencode(".png", depth)[1].tobytes()
    with BagWriter(tmp_path / "rgbd") as writer:
        write_raw(writer, "/colour", np.full((4, 6, 3), 90, np.uint8), "rgb8")
        write_raw(writer, "/grey", np.full((4, 6), 90, np.uint8), "mono8")
        write_raw(writer, "/bayer", np.full((4, 6), 90, np.uint8), "bayer_rggb8")
        for encoding, pixels in (("16UC1", depth), ("mono16", depth), ("32FC1", depth.astype(np.float32))):
            write_raw(writer, f"/{encoding}", pixels, encoding)
        write_packed(writer, "/depth/compressedDepth", bytes(12) + png, "16UC1; compressedDepth png")
        write_packed(writer, "/depth/compressed", png, "16UC1; png compressed ")
    original = messages(tmp_path / "rgbd")
    assert bag("convert", tmp_path / "rgbd", tmp_path / "small", "--compress", "png") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("kept as they are")]
    assert lines == ["kept as they are: /16UC1 (16UC1), /32FC1 (32FC1), /mono16 (mono16)"]
    same = [message for message in original if message[0] not in ("/colour", "/grey", "/bayer")]
    small = messages(tmp_path / "small")
    assert len(same) == 5
    assert all(message in small for message in same)
    changed = {message[0] for message in small} - {message[0] for message in same}
    assert changed == {"/colour/compressed", "/grey/compressed", "/bayer/compressed"}
    assert bag("convert", tmp_path / "small", tmp_path / "raw", "--raw") == 0
    assert "/depth/compressed (16UC1; png compressed), /depth/compressedDepth (16UC1;" in capsys.readouterr().out
    raw = messages(tmp_path / "raw")
    assert all(message in raw for message in same)
    assert {message[0] for message in raw} >= {"/colour", "/grey", "/bayer"}


def test_two_forms_of_a_topic_stay_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BagWriter(tmp_path / "both") as writer:
        write_raw(writer, "/image", np.full((4, 6, 3), 90, np.uint8), "rgb8")
        write_packed(writer, "/image/compressed", cv2.imencode(".png", np.zeros((4, 6, 3)))[1].tobytes(), "png")
    original = messages(tmp_path / "both")
    for words, kept in (
        (("--compress", "png"), "/image (/image/compressed"),
        (("--raw",), "/image/compressed (/image"),
    ):
        assert bag("convert", tmp_path / "both", tmp_path / words[0], *words) == 0
        assert f"kept as they are: {kept} is there)" in capsys.readouterr().out
        assert sorted(messages(tmp_path / words[0])) == sorted(original)


def test_wrong_input_is_one_clear_line(recorded_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "a.png", np.zeros((48, 64, 3), np.uint8))
    write_camera_info(tmp_path / "other.yaml", CameraInfo(480, 640, "plumb_bob", (0.0,) * 5, K))
    for words, message in (
        (("info", tmp_path / "absent"), "no such bag"),
        (("info", tmp_path), "is no bag: expected metadata.yaml or .mcap or .db3 files in this folder"),
        (("convert", tmp_path / "absent", tmp_path / "out"), "no such bag"),
        (("convert", tmp_path / "a.png", tmp_path / "out"), "--camera"),
        (("convert", tmp_path / "a.png", tmp_path / "out", "--camera", tmp_path / "other.yaml"), "640x480"),
        (("convert", recorded_run.path, tmp_path / "out", "--every", 2), "choose images; of a bag all is kept"),
    ):
        assert bag(*words) == 1
        assert message in capsys.readouterr().err


def test_a_failed_conversion_leaves_nothing(
    recorded_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found only while the bag is being written: the camera is one of another size than the images."""
    video, camera, new = tmp_path / "images", tmp_path / "camera.yaml", tmp_path / "new"
    video.mkdir()
    write_image(video / "0.png", np.zeros((20, 30, 3), np.uint8))
    write_camera_info(camera, CameraInfo(48, 64, "plumb_bob", (0.0,) * 5, K))
    assert bag("convert", video, new, "--camera", camera) == 1
    assert "is for 64x48 pixels" in capsys.readouterr().err
    assert not new.exists()
    assert bag("convert", recorded_run.path, new, "--topics", "/nothing") == 1
    assert not new.exists()
    new.mkdir()
    (new / "mine").write_text("kept")
    assert bag("convert", recorded_run.path, new) == 1
    assert (new / "mine").read_text() == "kept"
