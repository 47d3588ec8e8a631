"""Files that hold a camera's calibration, and what is in them under ROS's names.

Read are the YAML of ROS's camera_calibration and camera_info_manager, CameraInfo messages as YAML (flat ``K``, ``D``,
``R``, ``P``), OpenCV's FileStorage in YAML, and kalibr's camchain of one camera. Other formats are named in the error.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

logger = logging.getLogger(__name__)

_LARGEST = 1_000_000  # bytes
_NAMES = {  # ROS's name of a field, and what others write
    "image_width": ("width", "Width", "imageWidth"),
    "image_height": ("height", "Height", "imageHeight"),
    "camera_matrix": ("K", "k", "M", "cameraMatrix", "Camera_Matrix"),
    "distortion_coefficients": ("D", "d", "dist_coeffs", "distCoeffs", "Distortion_Coefficients"),
    "distortion_model": ("Distortion_Model", "camera_model"),
    "rectification_matrix": ("R", "r"),
    "projection_matrix": ("P", "p"),
}
_NO_CALIBRATION = {
    "a video": (".mp4", ".mkv", ".avi", ".mov", ".webm"),
    "an image": (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"),
    "a bag": (".mcap", ".db3", ".bag"),
}
_OTHER_FORMATS = {
    ".ini": "an INI calibration; give the YAML that camera_calibration writes beside it",
    ".xml": "a calibration in XML; write it again with cv2.FileStorage('camera.yml', ...)",
    ".npz": "NumPy arrays; put them into YAML: image_width, image_height, K, D and distortion_model",
    ".npy": "a NumPy array; put it into YAML: image_width, image_height, K, D and distortion_model",
    ".pkl": "a pickle; put its arrays into YAML: image_width, image_height, K, D and distortion_model",
}
HOW_TO_MAKE_ONE = "pnp-ros calibrate makes a camera_info YAML from images of a chessboard"


def read_calibration(path: Path) -> dict[str, Any]:
    """The file's fields under ROS's names; matrices as flat lists.

    Raises:
        ValueError: if the file is absent, no calibration, or of a format that is not read; says what to do.
    """
    if not path.is_file():
        raise ValueError(f"no such file; {HOW_TO_MAKE_ONE}" if not path.exists() else f"not a file; {HOW_TO_MAKE_ONE}")
    suffix = path.suffix.lower()
    for kind, suffixes in _NO_CALIBRATION.items():
        if suffix in suffixes:
            raise ValueError(f"is {kind}, not a camera's calibration; {HOW_TO_MAKE_ONE}")
    if suffix in _OTHER_FORMATS:
        raise ValueError(f"is {_OTHER_FORMATS[suffix]}")
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"is larger than a camera's calibration; {HOW_TO_MAKE_ONE}")
    text = _text(path.read_bytes())
    of_opencv = text.startswith("%YAML:")
    document = _yaml(text)
    chain = [name for name in document if re.fullmatch(r"cam\d+", str(name)) and isinstance(document[name], dict)]
    if chain:
        return _from_kalibr(document, chain)
    if {"M1", "M2"} <= document.keys():
        raise ValueError(
            "is OpenCV's stereo calibration, two cameras without the image size; write a file for one of them:"
            " image_width, image_height, K (its M1), D (its D1) and distortion_model: plumb_bob"
        )
    return _from_fields(document, of_opencv, path)


def _text(data: bytes) -> str:
    if b"\0" in data:
        raise ValueError(f"is not a text file; {HOW_TO_MAKE_ONE}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:  # a name with an umlaut from an older editor
        return data.decode("latin-1")


class _Loader(yaml.SafeLoader):
    """Safe YAML that also knows OpenCV's matrices."""


_Loader.add_constructor(
    "tag:yaml.org,2002:opencv-matrix", lambda loader, node: loader.construct_mapping(node, deep=True)
)


def _yaml(text: str) -> dict[str, Any]:
    # OpenCV writes "%YAML:1.0", which is no directive, and the document's start only in newer versions
    text = re.sub(r"\A%YAML:.*\n(---.*\n)?", "", text)
    text = re.sub(r"\n---\s*\Z", "\n", text)  # as "ros2 topic echo --once" ends a message
    try:
        document = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f", line {place.line + 1}" if place else ""
        problem = getattr(error, "problem", None) or "malformed"
        raise ValueError(f"is not YAML ({problem}{where})") from error
    if not isinstance(document, dict):
        raise ValueError(f"expected a camera's calibration in YAML, got {type(document).__name__}; {HOW_TO_MAKE_ONE}")
    return document


def _from_fields(document: dict[str, Any], of_opencv: bool, path: Path) -> dict[str, Any]:
    fields = {
        **document,
        **{
            name: document[other]
            for name, others in _NAMES.items()
            if name not in document
            for other in others
            if other in document
        },
    }
    for name in ("camera_matrix", "distortion_coefficients", "rectification_matrix", "projection_matrix"):
        if name in fields:
            fields[name] = _flat(name, fields[name])
    if fields.get("distortion_model", "pinhole") == fields.get("camera_model", "pinhole") == "pinhole":
        fields["distortion_model"] = ""  # a pinhole with whatever lens
    if not fields["distortion_model"]:
        coefficients = [value for value in fields.get("distortion_coefficients", []) if value != 0]
        if of_opencv and len(fields.get("distortion_coefficients", [])) == 4 and coefficients:
            raise ValueError(
                "distortion_model: missing, and four coefficients are a plain lens's or a fisheye's; add a line"
                " distortion_model: plumb_bob, or distortion_model: equidistant for cv2.fisheye"
            )
        if coefficients:
            logger.warning("%s: no distortion_model; plumb_bob is assumed, as ROS does", path)
        fields["distortion_model"] = "plumb_bob"
    return fields


def _from_kalibr(document: dict[str, Any], chain: Sequence[str]) -> dict[str, Any]:
    """The camera of a camchain: https://github.com/ethz-asl/kalibr/wiki/yaml-formats."""
    if len(chain) > 1:
        raise ValueError(f"is kalibr's camchain of {len(chain)} cameras; keep one of {', '.join(chain)} in the file")
    camera: dict[str, Any] = document[chain[0]]
    missing = [name for name in ("camera_model", "intrinsics", "resolution") if name not in camera]
    if missing:
        raise ValueError(f"{chain[0]}.{missing[0]}: missing in kalibr's camchain")
    if camera["camera_model"] != "pinhole":
        raise ValueError(
            f"{chain[0]}.camera_model: expected pinhole, got {camera['camera_model']!r}; calibrate again with"
            " kalibr's pinhole-radtan or pinhole-equi"
        )
    focal_and_centre = _flat(f"{chain[0]}.intrinsics", camera["intrinsics"])
    size = camera["resolution"]
    if len(focal_and_centre) != 4 or not isinstance(size, list) or len(size) != 2:
        raise ValueError(f"{chain[0]}: expected intrinsics [fu, fv, pu, pv] and resolution [width, height]")
    fx, fy, cx, cy = focal_and_centre
    return {
        "image_width": size[0],
        "image_height": size[1],
        "camera_name": chain[0],
        "camera_matrix": [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        "distortion_model": camera.get("distortion_model") or "none",
        "distortion_coefficients": _flat(f"{chain[0]}.distortion_coeffs", camera.get("distortion_coeffs") or []),
    }


def _flat(name: str, field: Any) -> list[float]:
    """The numbers of a matrix: ``rows, cols, data``, a list, or a list of rows."""
    data = field.get("data") if isinstance(field, dict) else field
    if isinstance(data, list) and data and all(isinstance(row, list) for row in data):
        data = [value for row in data for value in row]
    if not isinstance(data, list) or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in data):
        raise ValueError(f"{name}: expected rows, cols and a list of numbers in data, or a list, got {field!r}")
    return [float(value) for value in data]
