"""Depth images: a message's bytes or a file to metres, (H, W) float32, 0 where nothing was measured.

As REP 118 has them: 16-bit integers are millimetres, 32-bit floats metres, and NaN is nothing.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.io.images import Buffer, ImageError, rows_of

DepthImage = NDArray[np.float32]

SUFFIXES = frozenset({".png", ".tif", ".tiff", ".pgm", ".npy"})
_ENCODINGS = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
_METRES = 0.001  # of one step of an integer


def decode_depth(
    data: Buffer, width: int, height: int, encoding: str, step: int, is_bigendian: bool = False, scale: float = _METRES
) -> DepthImage:
    """Decode the fields of a ``sensor_msgs/Image`` that holds depth.

    Args:
        data: ``step * height`` bytes.
        width, height: pixels.
        encoding: 16UC1, mono16 or 32FC1.
        step: bytes a row, padding included.
        is_bigendian: byte order of the values.
        scale: metres of one step of an integer.

    Raises:
        ImageError: if a field is unknown or contradicts another; the message names it.
    """
    if encoding not in _ENCODINGS:
        raise ImageError(f"depth.encoding: expected one of {', '.join(_ENCODINGS)}, got {encoding!r}")
    dtype = np.dtype(_ENCODINGS[encoding]).newbyteorder(">" if is_bigendian else "<")
    rows = rows_of(data, height, width * dtype.itemsize, step, "depth")
    return in_metres(np.ascontiguousarray(rows).view(dtype), scale)


def read_depth(path: Path | str, scale: float = _METRES) -> DepthImage:
    """Read a file: PNG, PGM or TIFF of 16-bit integers, TIFF of 32-bit floats, or NumPy's ``.npy`` of either.

    Raises:
        ImageError: if it is absent, cannot be decoded, or holds something else; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: no such depth image")
    try:
        values = np.load(path) if path.suffix.lower() == ".npy" else cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except (ValueError, OSError, cv2.error) as error:
        raise ImageError(f"{path}: cannot be read ({error})") from error
    if values is None:
        raise ImageError(f"{path}: cannot be decoded")
    if values.ndim != 2 or values.dtype.kind not in "uf" or values.dtype.itemsize == 1:
        raise ImageError(
            f"{path}: expected depth, one value a pixel, 16-bit integers or floats; got {values.dtype} of shape "
            f"{'x'.join(map(str, values.shape))}"
        )
    return in_metres(values, scale)


def in_metres(values: NDArray, scale: float = _METRES) -> DepthImage:
    """(H, W) integers times ``scale``, floats as they are; 0 for what is not finite or not in front of the camera."""
    metres = values.astype(np.float32) * (scale if values.dtype.kind == "u" else 1.0)
    return np.where(np.isfinite(metres) & (metres > 0.0), metres, 0.0).astype(np.float32)
