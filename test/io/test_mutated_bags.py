"""Bags whose bytes are spoilt by chance with a fixed seed: read as far as they can be, or refused by name."""

from __future__ import annotations

import random
import resource
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pnp_ros.io.bag_reader import BagReader
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.camera_info import CameraInfo

BAGS = 360  # half of them of each storage
LONGEST_S, GROWTH_MB = 20.0, 300.0
INFO = CameraInfo(48, 64, "plumb_bob", (0.0,) * 5, (60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0))


def _written(path: Path, storage: str) -> Path:
    with BagWriter(path, storage) as writer:  # type: ignore[arg-type]
        for index in range(10):
            writer.write_camera_info("/camera/camera_info", INFO, 100_000_000 * index, "camera")
            rgb = np.full((48, 64, 3), 20 * index, np.uint8)
            writer.write_image("/camera/image_raw", rgb, 100_000_000 * index, "camera")
    return path


def _spoil(folder: Path, chance: random.Random) -> None:
    files = sorted(folder.iterdir())
    file = chance.choice(files) if chance.random() < 0.3 else max(files, key=lambda each: each.stat().st_size)
    data = bytearray(file.read_bytes())
    kind = chance.randrange(6)
    if kind == 0:
        del data[chance.randrange(len(data)) :]
    elif kind == 1:
        start = chance.randrange(len(data))
        del data[start : start + chance.randrange(1, 500)]
    elif kind == 2:
        start = chance.randrange(len(data))
        data[start : start + 64] = bytes(64)
    elif kind == 3:
        data += chance.randbytes(1000)
    else:
        for _ in range(chance.choice((1, 4, 32, 256))):
            place = chance.randrange(min(len(data), 600 if kind == 4 else len(data)))
            data[place] = chance.randrange(256)
    file.write_bytes(bytes(data))


@pytest.mark.slow
@pytest.mark.parametrize(("storage", "seed"), [("mcap", 1), ("sqlite3", 2)])
def test_spoilt_bags_are_read_or_refused(tmp_path: Path, storage: str, seed: int) -> None:
    chance, counts = random.Random(seed), Counter[str]()
    whole = _written(tmp_path / "whole", storage)
    before = 0
    for index in range(BAGS // 2):
        bag = shutil.copytree(whole, tmp_path / f"bag{index}")
        _spoil(bag, chance)
        begin = time.process_time()
        try:
            with BagReader(bag) as reader:
                for image in reader.images():
                    assert image.rgb.shape[2] == 3
                    counts["images"] += 1
            counts["read"] += 1
        except ValueError as error:
            counts["refused" if str(bag.name) in str(error) else "refused without its name"] += 1
        assert time.process_time() - begin < LONGEST_S
        shutil.rmtree(bag)
        if index == 20:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert counts["read"] > 20
    assert counts["refused"] > 20
    assert not counts["refused without its name"]
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3 < GROWTH_MB
