"""Calibration files: what camera_calibration writes is read, and faults name file and field."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml

from pnp_ros.cameras.camera import CameraModel
from pnp_ros.io.camera_info import CameraInfo, CameraInfoError, RegionOfInterest, read_camera_info, write_camera_info

REPORTS = Path(__file__).parents[3] / "shared/data/reports/camera_info"
CHESSBOARD = Path(__file__).parents[3] / "shared/data/chessboard"
CALIBRATED = """\
image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [438.78, 0., 305.59, 0., 437.30, 243.74, 0., 0., 1.]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.3611, 0.1171, 0.0004, -0.0002, 0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [393.65, 0., 322.80, 0., 0., 393.65, 241.10, 0., 0., 0., 1., 0.]
"""


def write(folder: Path, **changes: object) -> Path:
    document = {**yaml.safe_load(CALIBRATED), **changes}
    path = folder / "camera.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in document.items() if value is not None}))
    return path


def test_reads_what_camera_calibration_writes(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(CALIBRATED)
    info = read_camera_info(path)
    assert (info.width, info.height, info.camera_name) == (640, 480, "narrow_stereo")
    camera = info.camera()
    assert camera.model is CameraModel.BROWN_CONRADY
    torch.testing.assert_close(camera.intrinsics, torch.tensor([438.78, 437.30, 305.59, 243.74]))
    torch.testing.assert_close(info.camera(rectified=True).intrinsics[2].item(), 322.80, atol=1e-4, rtol=0)
    write_camera_info(tmp_path / "again.yaml", info)
    assert read_camera_info(tmp_path / "again.yaml") == info


def test_rectification_and_projection_may_be_absent(tmp_path: Path) -> None:
    info = read_camera_info(write(tmp_path, rectification_matrix=None, projection_matrix=None))
    torch.testing.assert_close(info.camera(rectified=True).intrinsics, info.camera().intrinsics)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera_matrix": None}, "camera_matrix: missing"),
        ({"image_width": None}, "image_width: missing"),
        ({"image_height": "480 px"}, "image_height: expected a whole number"),
        ({"image_height": 0}, r"camera_info\.height"),
        ({"camera_matrix": {"rows": 3, "cols": 3, "data": [1.0] * 8}}, "camera_matrix: expected 9 numbers, got 8"),
        ({"camera_matrix": {"rows": 3, "cols": 3, "data": [0.0] * 9}}, "uncalibrated"),
        ({"camera_matrix": {"rows": 3, "cols": 3, "data": [float("nan")] * 9}}, r"camera_info\.k: expected finite"),
        ({"distortion_coefficients": "none"}, "distortion_coefficients: expected rows, cols"),
        ({"distortion_coefficients": {"rows": 1, "cols": 1}}, "distortion_coefficients: expected rows, cols"),
        ({"roi": [1, 2]}, "roi: expected x_offset"),
        ({"binning_x": 1.5}, "binning_x: expected a whole number"),
        ({"distortion_model": "cylinder"}, "distortion_model"),
    ],
)
def test_faults_name_file_and_field(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(CameraInfoError, match=rf"camera\.yaml: .*{message}"):
        read_camera_info(path)


@pytest.mark.parametrize("content", [b"just text", b"[1, 2", b"\xff\xfe\x00", b"", b"a: !!python/object:os.system {}"])
def test_files_that_are_no_calibration(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "camera.yaml"
    path.write_bytes(content)
    with pytest.raises(CameraInfoError, match=r"camera\.yaml"):
        read_camera_info(path)
    with pytest.raises(CameraInfoError, match=r"absent\.yaml"):
        read_camera_info(tmp_path / "absent.yaml")


def test_from_message_keeps_roi_and_binning(tmp_path: Path) -> None:
    info = replace(
        read_camera_info(write(tmp_path)),
        binning_x=2,
        binning_y=2,
        roi=RegionOfInterest(100, 50, 200, 300),
        camera_name="",
    )
    message = SimpleNamespace(**vars(info))
    assert CameraInfo.from_message(message) == info
    assert (info.camera().width, info.camera().height) == (150, 100)


OPENCV = """\
%YAML:1.0
---
calibration_time: "Mon Oct 27 20:27:45 2014"
image_width: 640
image_height: 360
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 545.2, 0., 339.5, 0., 540.9, 181.4, 0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 5
   cols: 1
   dt: d
   data: [ -0.535, 0.369, 0.0147, -0.0034, -0.128 ]
"""
KALIBR = """\
cam0:
  camera_model: pinhole
  distortion_coeffs: [-0.288, 0.078, 0.0002, -0.0001]
  distortion_model: radtan
  intrinsics: [458.9, 457.6, 367.0, 249.3]
  resolution: [752, 480]
"""


def test_opencv_file_storage_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "camera.yml"
    for text in (OPENCV, OPENCV.replace("---\n", "")):
        path.write_text(text)
        info = read_camera_info(path)
        assert (info.width, info.height, info.distortion_model) == (640, 360, "plumb_bob")
        assert info.k == (545.2, 0.0, 339.5, 0.0, 540.9, 181.4, 0.0, 0.0, 1.0)
        assert info.d == (-0.535, 0.369, 0.0147, -0.0034, -0.128)
    assert "no distortion_model; plumb_bob is assumed" in caplog.text
    path.write_text(OPENCV.replace(", -0.128", "").replace("rows: 5", "rows: 4"))
    with pytest.raises(CameraInfoError, match=r"distortion_model: missing.*equidistant for cv2.fisheye"):
        read_camera_info(path)


def test_deviations_of_a_calibration_travel_with_it(tmp_path: Path) -> None:
    info = replace(read_camera_info(write(tmp_path)), sigmas=(0.5, 0.6, 0.25, 0.0))
    write_camera_info(tmp_path / "again.yaml", info)
    assert read_camera_info(tmp_path / "again.yaml") == info
    assert info.camera().sigmas == (0.5, 0.6, 0.25, 0.0)
    assert replace(info, binning_x=2, binning_y=2).camera().sigmas == (0.25, 0.3, 0.125, 0.0)
    with pytest.raises(CameraInfoError, match="calibration_sigmas: expected fx, fy, cx, cy"):
        read_camera_info(write(tmp_path, calibration_sigmas={"fx": 1.0, "fy": -1.0, "cx": 0, "cy": 0}))


def test_what_opencv_itself_writes_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "camera.yml")
    storage = cv2.FileStorage(path, cv2.FILE_STORAGE_WRITE)
    storage.write("image_width", 640)
    storage.write("image_height", 480)
    storage.write("K", np.array([[600.0, 0.0, 320.0], [0.0, 610.0, 240.0], [0.0, 0.0, 1.0]]))
    storage.write("D", np.array([[-0.1, 0.01, 0.0, 0.0, 0.0]]))
    storage.release()
    camera = read_camera_info(path).camera()
    torch.testing.assert_close(camera.intrinsics, torch.tensor([600.0, 610.0, 320.0, 240.0]))
    assert camera.distortion[:2].tolist() == pytest.approx([-0.1, 0.01])


def test_kalibr_camchain_is_read(tmp_path: Path) -> None:
    path = tmp_path / "camchain.yaml"
    path.write_text(KALIBR)
    info = read_camera_info(path)
    assert (info.width, info.height, info.camera().model) == (752, 480, CameraModel.BROWN_CONRADY)
    torch.testing.assert_close(info.camera().intrinsics, torch.tensor([458.9, 457.6, 367.0, 249.3]))
    for change, message in [
        (("pinhole", "omni"), r"cam0\.camera_model: expected pinhole, got 'omni'; calibrate again"),
        (("radtan", "fov"), r"distortion_model: expected one of .*'fov'"),
        (("  resolution: [752, 480]\n", ""), r"cam0\.resolution: missing"),
        (("cam0", "cam1:\n  a: 1\ncam0"), "camchain of 2 cameras; keep one of cam1, cam0"),
    ]:
        path.write_text(KALIBR.replace(*change))
        with pytest.raises(CameraInfoError, match=message):
            read_camera_info(path)


def test_a_flat_message_is_read(tmp_path: Path) -> None:
    path = tmp_path / "message.yaml"
    k = [600.0, 0.0, 320.0, 0.0, 600.0, 240.0, 0.0, 0.0, 1.0]
    path.write_text(yaml.safe_dump({"width": 640, "height": 480, "distortion_model": "plumb_bob", "D": [0.1], "K": k}))
    assert read_camera_info(path) == CameraInfo(480, 640, "plumb_bob", (0.1,), tuple(k))
    path.write_text(path.read_text().replace("D:", "d:").replace("K:", "k:") + "---\n")  # ros2 topic echo --once
    assert read_camera_info(path) == CameraInfo(480, 640, "plumb_bob", (0.1,), tuple(k))
    path.write_text(path.read_text().replace("distortion_model: plumb_bob", "camera_model: pinhole"))
    assert read_camera_info(path).camera().model is CameraModel.BROWN_CONRADY


def test_names_in_latin_1_are_read(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    path.write_bytes(CALIBRATED.replace("narrow_stereo", "Kamera Küche").encode("latin-1"))
    assert read_camera_info(path).camera_name == "Kamera Küche"


def test_binning_and_region_of_interest_are_honoured(tmp_path: Path) -> None:
    region = {"x_offset": 320, "y_offset": 240, "width": 640, "height": 480}
    matrix = {"rows": 3, "cols": 3, "data": [1000, 0, 640, 0, 1000, 480, 0, 0, 1]}
    changes = {"image_width": 1280, "image_height": 960, "camera_matrix": matrix, "projection_matrix": None}
    info = read_camera_info(write(tmp_path, **changes, binning_x=2, binning_y=2, roi=region))
    camera = info.camera()
    assert (camera.width, camera.height) == info.image_size == (320, 240)
    torch.testing.assert_close(camera.intrinsics, torch.tensor([500.0, 500.0, 159.75, 119.75]))
    write_camera_info(tmp_path / "again.yaml", info)
    assert read_camera_info(tmp_path / "again.yaml") == info


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("clip.mp4", b"\0\0ftyp", "is a video, not a camera's calibration; pnp-ros calibrate makes"),
        ("photo.JPG", b"\xff\xd8", "is an image"),
        ("run.mcap", b"\x89MCAP0", "is a bag"),
        ("ost.ini", b"[image]", "is an INI calibration; give the YAML"),
        ("camera.xml", b"<?xml?>", "is a calibration in XML"),
        ("camera.npz", b"PK", "NumPy arrays"),
        ("camera.bin", b"\0\1\2", "is not a text file"),
        ("camera.yaml", b"a: [1", r"is not YAML \(.*line 1"),
        ("large.yaml", b"#" * 1_000_001, "is larger than"),
        ("stereo.yml", b"%YAML:1.0\nM1: 1\nM2: 2\n", "stereo calibration, two cameras .* write a file for one"),
    ],
)
def test_what_is_no_calibration_is_named_with_the_cure(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CameraInfoError, match=message) as raised:
        read_camera_info(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_absent_and_odd_paths_are_named_with_the_cure(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, message in [("absent.yaml", "no such file; pnp-ros"), ("pipe.yaml", "not a file"), (".", "not a file")]:
        with pytest.raises(CameraInfoError, match=message):
            read_camera_info(tmp_path / path)


_IP = (640, 480), [543.2134, 543.06716, 321.01119, 190.99665], [-0.480672, 0.184891, -0.001901, 0.002792]
_T265 = (848, 800), [285.2, 286.4, 419.2, 403.3]
_BENT = [-0.0065, 0.0438, -0.0414, 0.0079]
REPORTED = {  # file: distortion model, size, fx fy cx cy, coefficients but for zeros behind them; what is written in it
    "01_camera_model_key.yaml": (CameraModel.BROWN_CONRADY, *_IP),
    "02_opencv_filestorage.yml": (
        CameraModel.BROWN_CONRADY,
        (640, 360),
        [545.18782, 540.93187, 339.49808, 181.3791],
        [-0.53510759, 0.36901611, 0.014705017, -0.0033927528, -0.1279906],
    ),
    "04_kalibr_camchain.yaml": (
        CameraModel.BROWN_CONRADY,
        (752, 480),
        [458.94323, 457.56375, 367.02725, 249.3128],
        [-0.287953, 0.07813112, 0.000212659, -0.000122145],
    ),
    "05_voxl_fisheye.yml": (
        CameraModel.KANNALA_BRANDT,
        (640, 480),
        [274.67865, 274.7745, 282.26164, 245.63184],
        [0.0029236697, 0.0015502029],
    ),
    "08_no_model_no_rect.yaml": (
        CameraModel.BROWN_CONRADY,
        (320, 240),
        [167.24709, 168.39658, 141.74334, 116.78567],
        [-0.270722, 0.052308, -0.000257, 0.00298],
    ),
    "12_five_equidistant.yaml": (CameraModel.KANNALA_BRANDT, *_T265, _BENT),
    "13_kannala_brandt4.yaml": (CameraModel.KANNALA_BRANDT, *_T265, _BENT),
    "14_capital_model.yaml": (CameraModel.BROWN_CONRADY, *_IP),
    "15_brown_conrady.yaml": (CameraModel.BROWN_CONRADY, *_T265, [0.01]),
    "18_latin1.yaml": (CameraModel.BROWN_CONRADY, *_IP),
    "20_tisc_flat.yaml": (
        CameraModel.BROWN_CONRADY,
        (1280, 960),
        [1069.1, 1069.5, 640.2, 478.8],
        [-0.01128276, 0.005933633, -0.000429872, -0.001141737],
    ),
    "24_ros_rolling_roi.yaml": (CameraModel.PINHOLE, (320, 240), [500.0, 500.0, 159.75, 119.75], []),
}
WITHOUT_MODEL = {"02_opencv_filestorage.yml", "08_no_model_no_rect.yaml"}


@pytest.mark.skipif(not REPORTS.is_dir(), reason="no reported calibrations on this machine")
def test_every_reported_calibration_is_read(caplog: pytest.LogCaptureFixture) -> None:
    assert {file.name for file in REPORTS.iterdir()} == set(REPORTED)
    for name, (model, size, intrinsics, distortion) in REPORTED.items():
        caplog.clear()
        camera = read_camera_info(REPORTS / name).camera()
        assert camera.model is model, name
        assert (camera.width, camera.height) == size, name
        assert camera.intrinsics.tolist() == pytest.approx(intrinsics, rel=1e-6), name
        coefficients = camera.distortion.tolist()
        assert coefficients[: len(distortion)] == pytest.approx(distortion, rel=1e-5), name
        assert not any(coefficients[len(distortion) :]), name
        assert ("plumb_bob is assumed" in caplog.text) == (name in WITHOUT_MODEL), name


@pytest.mark.skipif(not CHESSBOARD.is_dir(), reason="no chessboard images on this machine")
def test_the_calibrations_that_opencv_ships() -> None:
    camera = read_camera_info(CHESSBOARD / "left_intrinsics.yml").camera()
    assert camera.intrinsics.tolist() == pytest.approx([535.91573, 535.91573, 342.28315, 235.57083], rel=1e-6)
    with pytest.raises(CameraInfoError, match="stereo calibration"):
        read_camera_info(CHESSBOARD / "intrinsics.yml")
