"""Camera calibrations: the fields of ``sensor_msgs/CameraInfo``, and the YAML that ROS's camera_calibration writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from pnp_ros.cameras.camera import Camera, camera_from_info


class CameraInfoError(ValueError):
    """A calibration file cannot be read; the message names file and field."""


@dataclass(frozen=True)
class RegionOfInterest:
    """``sensor_msgs/RegionOfInterest``: a window in full-resolution pixels; all zeros means the full image."""

    x_offset: int = 0
    y_offset: int = 0
    height: int = 0
    width: int = 0
    do_rectify: bool = False


@dataclass(frozen=True)
class CameraInfo:
    """``sensor_msgs/CameraInfo`` without its header.

    Args:
        height: full resolution, pixels.
        width: full resolution, pixels.
        distortion_model: as in :func:`pnp_ros.cameras.camera.camera_from_info`.
        d: distortion coefficients of the raw image.
        k: (9) row-major K of the raw image.
        r: (9) row-major rectifying rotation.
        p: (12) row-major P of the rectified image; K if left out.
        binning_x: 0 means 1.
        binning_y: 0 means 1.
        roi: the window of the image.
        camera_name: of the calibration file; the message does not carry it.
    """

    height: int
    width: int
    distortion_model: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    p: tuple[float, ...] = ()
    binning_x: int = 0
    binning_y: int = 0
    roi: RegionOfInterest = RegionOfInterest()
    camera_name: str = ""

    def __post_init__(self) -> None:
        if not self.p and len(self.k) == 9:
            k = self.k
            object.__setattr__(self, "p", (*k[0:3], 0.0, *k[3:6], 0.0, *k[6:9], 0.0))

    @classmethod
    def from_message(cls, message: Any) -> CameraInfo:
        """From a message, as rclpy or rosbags give it; ROS 1 writes D, K, R and P in capitals."""
        roi = message.roi
        names = "dkrp" if hasattr(message, "k") else "DKRP"
        d, k, r, p = (tuple(map(float, getattr(message, name))) for name in names)
        return cls(
            height=int(message.height),
            width=int(message.width),
            distortion_model=str(message.distortion_model),
            d=d,
            k=k,
            r=r,
            p=p,
            binning_x=int(message.binning_x),
            binning_y=int(message.binning_y),
            roi=RegionOfInterest(
                int(roi.x_offset), int(roi.y_offset), int(roi.height), int(roi.width), bool(roi.do_rectify)
            ),
        )

    def camera(self, rectified: bool = False, dtype: torch.dtype = torch.float32) -> Camera:
        """The camera that took the raw image, or the rectified one.

        Raises:
            ValueError: if a field is not usable; the message names it.
        """
        roi = (self.roi.x_offset, self.roi.y_offset, self.roi.width, self.roi.height)
        return camera_from_info(
            self.width,
            self.height,
            self.distortion_model,
            self.d,
            self.k,
            self.p,
            rectified=rectified,
            binning_x=self.binning_x,
            binning_y=self.binning_y,
            roi=roi,
            dtype=dtype,
        )


def read_camera_info(path: Path | str) -> CameraInfo:
    """Read a calibration as camera_calibration and camera_info_manager write it.

    ``rectification_matrix`` and ``projection_matrix`` may be absent: no rotation, and K.

    Raises:
        CameraInfoError: if the file is absent, is not YAML, or a field is missing, malformed or not usable.
    """
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CameraInfoError(f"{path}: cannot be read ({error})") from error
    if not isinstance(document, dict):
        raise CameraInfoError(f"{path}: expected a camera calibration in YAML, got {type(document).__name__}")
    try:
        info = CameraInfo(
            height=_integer(document, "image_height"),
            width=_integer(document, "image_width"),
            distortion_model=str(_field(document, "distortion_model")),
            d=_numbers(document, "distortion_coefficients"),
            k=_numbers(document, "camera_matrix", 9),
            r=_numbers(document, "rectification_matrix", 9) if "rectification_matrix" in document else CameraInfo.r,
            p=_numbers(document, "projection_matrix", 12) if "projection_matrix" in document else (),
            camera_name=str(document.get("camera_name", "")),
        )
        info.camera()  # refuse here, where the file is known
    except ValueError as error:
        raise CameraInfoError(f"{path}: {error}") from error
    return info


def write_camera_info(path: Path | str, info: CameraInfo) -> None:
    """Write a calibration as camera_calibration does; binning and ROI, which are the driver's, have no place in it."""
    document = {
        "image_width": info.width,
        "image_height": info.height,
        "camera_name": info.camera_name or "camera",
        "camera_matrix": _matrix(3, 3, info.k),
        "distortion_model": info.distortion_model,
        "distortion_coefficients": _matrix(1, len(info.d), info.d),
        "rectification_matrix": _matrix(3, 3, info.r),
        "projection_matrix": _matrix(3, 4, info.p),
    }
    Path(path).write_text(yaml.safe_dump(document, sort_keys=False, default_flow_style=None))


def _matrix(rows: int, cols: int, data: Sequence[float]) -> dict[str, Any]:
    return {"rows": rows, "cols": cols, "data": [float(value) for value in data]}


def _field(document: dict[str, Any], name: str) -> Any:
    if name not in document:
        raise ValueError(f"{name}: missing")
    return document[name]


def _integer(document: dict[str, Any], name: str) -> int:
    value = _field(document, name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name}: expected a whole number of pixels, got {value!r}")
    return value


def _numbers(document: dict[str, Any], name: str, count: int | None = None) -> tuple[float, ...]:
    field = _field(document, name)
    data = field.get("data") if isinstance(field, dict) else None
    if not isinstance(data, list) or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in data):
        raise ValueError(f"{name}: expected rows, cols and a list of numbers in data, got {field!r}")
    if count is not None and len(data) != count:
        raise ValueError(f"{name}: expected {count} numbers, got {len(data)}")
    return tuple(map(float, data))
