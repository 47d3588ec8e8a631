from pathlib import Path

import numpy as np
import pytest

from pnp_ros.cameras.camera import CameraModel
from pnp_ros.evaluation.frames import Time, doubt_distortion, open_source
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.camera_info import CameraInfo, write_camera_info
from pnp_ros.io.images import write_image
from pnp_ros.io.window import Window

CAMERA = """image_width: 8
image_height: 6
distortion_model: plumb_bob
camera_matrix: {rows: 3, cols: 3, data: [8, 0, 3.5, 0, 8, 2.5, 0, 0, 1]}
distortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}
"""


def test_a_window_that_leaves_no_image_is_named(tmp_path: Path) -> None:
    folder, camera = tmp_path / "images", tmp_path / "camera.yaml"
    folder.mkdir()
    camera.write_text(CAMERA)
    for index in range(3):
        write_image(folder / f"{index}.png", np.zeros((6, 8, 3), np.uint8))
    seen = open_source(folder, camera=camera, window=Window(end=0.05))
    assert len(list(seen.frames())) == 2
    with pytest.raises(ValueError, match=r"^start: the recording has no image from 5 s after its first one"):
        list(open_source(folder, camera=camera, window=Window(start=5.0)).frames())
    with pytest.raises(ValueError, match=r"from 5 s and before 6 s after"):
        list(open_source(folder, camera=camera, window=Window(start=5.0, end=6.0)).frames())


def test_time_that_jumps_back_is_noticed_once() -> None:
    time = Time()
    assert [time.jumps_back(stamp) for stamp in (5, 6, 6, 2, 3, 9)] == [False, False, False, True, False, False]


D, P = (-0.3, 0.1, 0.0, 0.0, 0.0), (8.0, 0.0, 3.5, 0.0, 0.0, 8.0, 2.5, 0.0, 0.0, 0.0, 1.0, 0.0)
RAW = CameraInfo(6, 8, "plumb_bob", D, (9.0, 0.0, 3.5, 0.0, 9.0, 2.5, 0.0, 0.0, 1.0), p=P)
BLACK = np.zeros((6, 8, 3), np.uint8)


def bag_of(path: Path, topic: str, info: CameraInfo = RAW) -> Path:
    with BagWriter(path) as writer:
        writer.write_camera_info("/wide/camera_info", info, 1, "camera")
        writer.write_image(topic, BLACK, 1, "camera")
    return path


def test_of_rectified_images_the_projection_holds(tmp_path: Path) -> None:
    bag, folder, file = bag_of(tmp_path / "bag", "/wide/image_rect"), tmp_path / "images", tmp_path / "camera.yaml"
    folder.mkdir()
    write_image(folder / "0.png", BLACK)
    write_camera_info(file, RAW)
    for path in (bag, folder):
        for rectified in (True, False):
            (frame,) = open_source(path, camera=None if path == bag else file, rectified=rectified).frames()
            assert frame.camera.intrinsics[0] == (8.0 if rectified else 9.0)
            assert (frame.camera.model is CameraModel.PINHOLE) == rectified


def test_a_topic_named_as_rectified_images_are_is_doubted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    doubt_distortion.cache_clear()
    bag = bag_of(tmp_path / "bag", "/wide/image_rect")
    list(open_source(bag, rectified=True).frames())
    list(open_source(bag_of(tmp_path / "raw", "/wide/image_raw")).frames())
    plain = CameraInfo(6, 8, "plumb_bob", (0.0,) * 5, RAW.k)
    list(open_source(bag_of(tmp_path / "plain", "/wide/image_rect", plain)).frames())
    assert not caplog.messages
    for _ in range(2):
        list(open_source(bag).frames())
    assert caplog.messages == [
        "/wide/image_rect: by its name rectified, but K and D are taken; where P holds, say so (rectified)"
    ]
