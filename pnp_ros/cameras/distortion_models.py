"""Names of distortion models as ROS, OpenCV, kalibr and drivers write them, and how many coefficients each has."""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Sequence


class CameraModel(str, enum.Enum):
    """The lens models."""

    PINHOLE = "pinhole"
    BROWN_CONRADY = "brown_conrady"
    KANNALA_BRANDT = "kannala_brandt"


# ROS's names first, then what others call the same; spelled without case, blanks, - and _
_BROWN_CONRADY = ("plumb_bob", "rational_polynomial")
_ALIASES = {
    "plumb_bob": ("plumbbob", "radtan", "radialtangential", "brownconrady", "opencv"),
    "rational_polynomial": ("rationalpolynomial", "rational", "fullopencv"),
    "equidistant": ("equidistant", "equi", "fisheye", "opencvfisheye", "kannalabrandt", "kannalabrandt4", "kb4"),
    "none": ("none", "no", "undistorted", "rectified", "pinhole", "perspective"),
}
_NAMES = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}
# other models of the same kind, which are the same when there is no distortion
_ONLY_WITHOUT_DISTORTION = ("inversebrownconrady", "modifiedbrownconrady", "division")
_COUNTS = (0, 1, 2, 4, 5, 8, 12, 14)  # OpenCV's, and k1 (k2) alone; 3 would be k1 k2 k3 to some and k1 k2 p1 to others
_COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6", "s1", "s2", "s3", "s4", "tx", "ty")
_FISHEYE_COEFFICIENTS = 4


def canonical_name(name: str) -> str:
    """ROS's name of a distortion model: ``plumb_bob``, ``rational_polynomial``, ``equidistant`` or ``none``.

    Raises:
        ValueError: if the name is not known; the message gives the nearest.
    """
    spelled = _spelled(name)
    if spelled in _NAMES:
        return _NAMES[spelled]
    nearest = difflib.get_close_matches(spelled, _NAMES, n=1, cutoff=0.5)
    hint = f"; nearest is {_NAMES[nearest[0]]}" if nearest else ""
    raise ValueError(f"distortion_model: expected one of {', '.join(_ALIASES)}, got {name!r}{hint}")


def lens_and_coefficients(name: str, d: Sequence[float]) -> tuple[CameraModel, list[float]]:
    """The lens that a distortion model's name and coefficients mean, and its coefficients without zeros at the end.

    Drivers pad D with zeros, so those count as absent; without distortion a Brown-Conrady lens is a pinhole. An empty
    name is read as ``plumb_bob``, as ROS's image_geometry does.

    Raises:
        ValueError: if the name is not known, or the coefficients are not those of the model.
    """
    count = max((i + 1 for i, value in enumerate(d) if value != 0), default=0)
    if count == 0 and (not name or _spelled(name) in _ONLY_WITHOUT_DISTORTION):
        return CameraModel.PINHOLE, []
    name = canonical_name(name) if name else "plumb_bob"
    if name == "equidistant":
        if len(d) < _FISHEYE_COEFFICIENTS:
            raise ValueError(f"d: expected 4 numbers (k1 k2 k3 k4) for {name}, got {len(d)}")
        if count > _FISHEYE_COEFFICIENTS:
            raise ValueError(f"d: expected 4 numbers (k1 k2 k3 k4) for {name}, got a fifth, {d[4]}, that is not 0")
        return CameraModel.KANNALA_BRANDT, list(d[:_FISHEYE_COEFFICIENTS])
    if name == "none":
        if count:
            raise ValueError(f"d: expected only zeros as distortion_model says none, got {list(d)}")
        return CameraModel.PINHOLE, []
    if len(d) not in _COUNTS and count == len(d):  # no zero at the end that could be padding
        surplus = f", the last being {d[-1]}"
        if len(d) <= len(_COEFFICIENTS):
            surplus += f" where OpenCV's order has {_COEFFICIENTS[len(d) - 1]}"
        raise ValueError(f"d: expected {', '.join(map(str, _COUNTS))} numbers for {name}, got {len(d)}{surplus}")
    if count > len(_COEFFICIENTS):
        raise ValueError(f"d: expected at most {len(_COEFFICIENTS)} numbers for {name}, got {count}")
    return (CameraModel.BROWN_CONRADY if count else CameraModel.PINHOLE), list(d[:count])


def _spelled(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()
