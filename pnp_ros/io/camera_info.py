"""Camera calibrations: the fields of ``sensor_msgs/CameraInfo``, and the YAML that ROS's camera_calibration writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from pnp_ros.cameras.camera import Camera, camera_from_info
from pnp_ros.io.calibration_files import read_calibration

_INTRINSICS = ("fx", "fy", "cx", "cy")


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
        sigmas: standard deviations of fx, fy, cx, cy (px) by the calibration, 0 for what was held; empty if unknown.
            ``pnp-ros calibrate`` writes them as ``calibration_sigmas``, which ROS passes over.
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
    sigmas: tuple[float, ...] = ()

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

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) in pixels of the image that it belongs to: of the ROI, binned."""
        roi = self.roi
        window = roi.x_offset or roi.y_offset or roi.width or roi.height
        width, height = (roi.width, roi.height) if window else (self.width, self.height)
        return width // max(self.binning_x, 1), height // max(self.binning_y, 1)

    def doubt(self, image_topic: str) -> str:
        """What to say where images are taken as raw ones, with K and D, and their topic is named as rectified ones are.

        Empty where nothing speaks against it: another name, or raw and rectified are the same.
        """
        named = "image_rect" in image_topic or "rectified" in image_topic
        p = self.p
        if not named or (not any(self.d) and (not any(p) or (*p[0:3], *p[4:7], *p[8:11]) == self.k)):
            return ""
        return f"{image_topic}: by its name rectified, but K and D are taken; where P holds, say so (rectified)"

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
            sigmas=self.sigmas,
        )


def read_camera_info(path: Path | str) -> CameraInfo:
    """Read a calibration: ROS's YAML, and what else :mod:`pnp_ros.io.calibration_files` reads.

    ``rectification_matrix`` and ``projection_matrix`` may be absent: no rotation, and K. ``binning_x``, ``binning_y``
    and ``roi`` may be there, as in a message.

    Raises:
        CameraInfoError: if the file is absent or no calibration, or a field is missing, malformed or not usable.
    """
    path = Path(path)
    try:
        fields = read_calibration(path)
        info = CameraInfo(
            height=_integer(fields, "image_height"),
            width=_integer(fields, "image_width"),
            distortion_model=str(fields["distortion_model"]),
            d=_numbers(fields, "distortion_coefficients"),
            k=_numbers(fields, "camera_matrix", 9),
            r=_numbers(fields, "rectification_matrix", 9) if "rectification_matrix" in fields else CameraInfo.r,
            p=_numbers(fields, "projection_matrix", 12) if "projection_matrix" in fields else (),
            binning_x=_integer(fields, "binning_x", 0),
            binning_y=_integer(fields, "binning_y", 0),
            roi=_region(fields.get("roi") or {}),
            camera_name=str(fields.get("camera_name", "")),
            sigmas=_sigmas(fields.get("calibration_sigmas")),
        )
        info.camera()  # refuse here, where the file is known
    except (OSError, ValueError) as error:
        raise CameraInfoError(f"{path}: {error}") from error
    return info


def write_camera_info(path: Path | str, info: CameraInfo) -> None:
    """Write a calibration as camera_calibration does; binning and ROI, which are the driver's, only where there are."""
    document: dict[str, Any] = {
        "image_width": info.width,
        "image_height": info.height,
        "camera_name": info.camera_name or "camera",
        "camera_matrix": _matrix(3, 3, info.k),
        "distortion_model": info.distortion_model,
        "distortion_coefficients": _matrix(1, len(info.d), info.d),
        "rectification_matrix": _matrix(3, 3, info.r),
        "projection_matrix": _matrix(3, 4, info.p),
    }
    if info.sigmas:
        document["calibration_sigmas"] = dict(zip(_INTRINSICS, info.sigmas))
    if info.binning_x > 1 or info.binning_y > 1:
        document |= {"binning_x": info.binning_x, "binning_y": info.binning_y}
    if info.roi != RegionOfInterest():
        document["roi"] = asdict(info.roi)
    Path(path).write_text(yaml.safe_dump(document, sort_keys=False, default_flow_style=None))


def _matrix(rows: int, cols: int, data: Sequence[float]) -> dict[str, Any]:
    return {"rows": rows, "cols": cols, "data": [float(value) for value in data]}


def _field(fields: dict[str, Any], name: str) -> Any:
    if name not in fields:
        raise ValueError(f"{name}: missing")
    return fields[name]


def _integer(fields: dict[str, Any], name: str, default: int | None = None) -> int:
    value = _field(fields, name) if default is None else fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name}: expected a whole number of pixels, got {value!r}")
    return value


def _numbers(fields: dict[str, Any], name: str, count: int | None = None) -> tuple[float, ...]:
    data = _field(fields, name)
    if count is not None and len(data) != count:
        raise ValueError(f"{name}: expected {count} numbers, got {len(data)}")
    return tuple(data)


def _sigmas(fields: Any) -> tuple[float, ...]:
    if fields is None:
        return ()
    values: list[Any] = [fields.get(name) for name in _INTRINSICS] if isinstance(fields, dict) else []
    if not values or not all(isinstance(v, int | float) and 0 <= v < math.inf for v in values):
        raise ValueError(f"calibration_sigmas: expected fx, fy, cx, cy in pixels, 0 or more, got {fields!r}")
    return tuple(map(float, values))


def _region(fields: Any) -> RegionOfInterest:
    if not isinstance(fields, dict):
        raise ValueError(f"roi: expected x_offset, y_offset, width and height, got {fields!r}")
    x, y, height, width = (_integer(fields, name, 0) for name in ("x_offset", "y_offset", "height", "width"))
    return RegionOfInterest(x, y, height, width, bool(fields.get("do_rectify", False)))
