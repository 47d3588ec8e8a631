"""Depth that belongs to images: of a bag's topic by its stamp, of files by their order."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.depth_source import depths_of
from pnp_ros.evaluation.frames import Frame, FrameSource
from pnp_ros.io.bag_writer import BagWriter

CAMERA = Camera.pinhole(10.0, 10.0, 1.5, 1.0, 4, 3)
FRAMES = [Frame(i, 10**9 + i * 10**8, np.zeros((3, 4, 3), np.uint8), CAMERA) for i in range(3)]


def source(path: Path, kind: str) -> FrameSource:
    return FrameSource(path, kind, lambda: iter(FRAMES))


def test_of_a_bag(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag", "mcap") as writer:
        for stamp_ns, metres in ((10**9 - 10**7, 1.0), (10**9 + 2 * 10**7, 2.0), (10**9 + 19 * 10**7, 3.0)):
            data = np.full((3, 4), 1000.0 * metres, "<u2").view(np.uint8).reshape(-1)
            layout = {"height": 3, "width": 4, "encoding": "16UC1", "is_bigendian": 0, "step": 8}
            header = writer.header(stamp_ns, "camera")
            writer.write(
                "/depth", writer.message("sensor_msgs/msg/Image", header=header, **layout, data=data), stamp_ns
            )
    found = depths_of(FRAMES, source(tmp_path / "bag", "bag"), "/depth", 0.001)
    told = [None if each is None else round(float(each.mean()), 3) for each in found]
    assert told == [1.0, None, 3.0], "the nearest, within 50 ms"
    with pytest.raises(ValueError, match="depth: /other is no topic of images; the bag has /depth"):
        depths_of(FRAMES, source(tmp_path / "bag", "bag"), "/other", 0.001)


def test_of_files(tmp_path: Path) -> None:
    for i in range(12):
        cv2.imwrite(str(tmp_path / f"{i}.{'png' if i % 2 else 'PNG'}"), np.full((3, 4), 100 * i, np.uint16))
    chosen = [Frame(i, 0, FRAMES[0].rgb, CAMERA) for i in (2, 10)]
    found = depths_of(chosen, source(tmp_path, "images"), str(tmp_path), 0.001)
    assert [None if each is None else round(float(each[0, 0]), 3) for each in found] == [0.2, 1.0]
    late = [Frame(12, 0, FRAMES[0].rgb, CAMERA)]
    with pytest.raises(ValueError, match="a depth image for each image, got 12 and image number 12"):
        depths_of(late, source(tmp_path, "images"), str(tmp_path), 0.001)
    other = [Frame(0, 0, np.zeros((6, 8, 3), np.uint8), CAMERA)]
    with pytest.raises(
        ValueError, match="the images have 8x6 pixels, the depth 4x3; expected depth that is registered"
    ):
        depths_of(other, source(tmp_path, "images"), str(tmp_path / "1.png"), 0.001)
    with pytest.raises(ValueError, match="depth: no such folder or file"):
        depths_of(chosen, source(tmp_path, "images"), str(tmp_path / "absent"), 0.001)
