"""Calibration files: what camera_calibration writes is read, and faults name file and field."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from pnp_ros.cameras.camera import CameraModel
from pnp_ros.io.camera_info import CameraInfo, CameraInfoError, RegionOfInterest, read_camera_info, write_camera_info

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
        ({"distortion_coefficients": [0.1, 0.2]}, "distortion_coefficients: expected rows, cols"),
        ({"distortion_model": "cylinder"}, "distortion_model"),
    ],
)
def test_faults_name_file_and_field(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(CameraInfoError, match=rf"camera\.yaml: .*{message}"):
        read_camera_info(path)


@pytest.mark.parametrize("content", [b"just text", b"[1, 2", b"\xff\xfe\x00", b""])
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
