"""Depth in millimetres and in metres, from messages and files; what is no depth is named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pnp_ros.io.depth_images import decode_depth, read_depth
from pnp_ros.io.images import ImageError

METRES = np.array([[0.5, 1.25, 0.0], [2.0, 0.001, 65.535]], np.float32)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("encoding", "dtype"), [("16UC1", "u2"), ("mono16", "u2"), ("32FC1", "f4")])
def test_messages(encoding: str, dtype: str, big: bool) -> None:
    values = METRES * (1000.0 if dtype == "u2" else 1.0)
    rows = values.round(4).astype(np.dtype(dtype).newbyteorder(">" if big else "<"))
    padded = b"".join(row.tobytes() + b"xxxx" for row in rows)
    step = len(padded) // 2
    np.testing.assert_allclose(decode_depth(padded, 3, 2, encoding, step, big), METRES, atol=1e-6)


def test_what_was_not_measured_is_zero() -> None:
    values = np.array([[np.nan, np.inf, -1.0, 0.0, 2.0]], "<f4")
    assert decode_depth(values.tobytes(), 5, 1, "32FC1", 20).tolist() == [[0.0, 0.0, 0.0, 0.0, 2.0]]


def test_files(tmp_path: Path) -> None:
    whole = (1000.0 * METRES).round().astype(np.uint16)
    cv2.imwrite(str(tmp_path / "whole.png"), whole)
    cv2.imwrite(str(tmp_path / "metres.tiff"), METRES)
    np.save(tmp_path / "array.npy", whole)
    (tmp_path / "array.npy").rename(tmp_path / "array.NPY")
    for name in ("whole.png", "metres.tiff", "array.NPY"):
        np.testing.assert_allclose(read_depth(tmp_path / name), METRES, atol=1e-6)
    np.testing.assert_allclose(read_depth(tmp_path / "whole.png", 0.0001), METRES / 10.0, atol=1e-6)


def test_what_is_no_depth(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"depth\.encoding: expected one of 16UC1, mono16, 32FC1, got 'rgb8'"):
        decode_depth(b"", 1, 1, "rgb8", 3)
    with pytest.raises(ImageError, match=r"depth\.step: a row needs 6 bytes, got 4"):
        decode_depth(bytes(8), 3, 2, "16UC1", 4)
    with pytest.raises(ImageError, match=r"depth\.data: 2 rows of 6 bytes need 12 bytes, got 8"):
        decode_depth(bytes(8), 3, 2, "16UC1", 6)
    cv2.imwrite(str(tmp_path / "colour.png"), np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ImageError, match="one value a pixel, 16-bit integers or floats; got uint8 of shape 2x2x3"):
        read_depth(tmp_path / "colour.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_depth(tmp_path / "broken.png")
    with pytest.raises(ImageError, match="no such depth image"):
        read_depth(tmp_path / "absent.png")
