"""A part of a video, a folder or a bag is what the whole of it holds there."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pnp_ros.io.bag_reader import BagReader
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.images import VideoWriter, count_images, read_images, write_image
from pnp_ros.io.window import Window

RATE, COUNT = 10.0, 20
PARTS = [Window(), Window(0.5), Window(0.0, 0.95), Window(0.5, 1.2), Window(every=3), Window(0.3, 1.5, 4)]


def image(i: int) -> np.ndarray:
    return np.full((32, 48, 3), 10 * i + 10, np.uint8)


def expected(part: Window) -> list[int]:
    inside = [i for i in range(COUNT) if part.start - 1e-9 <= i / RATE <= part.end + 1e-9]
    return inside[:: part.every]


def numbers(images: list[np.ndarray]) -> list[int]:
    return [round((float(rgb.mean()) - 10) / 10) for rgb in images]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    with VideoWriter(path, RATE) as writer:
        for i in range(COUNT):
            writer.write(image(i))
    return path


@pytest.mark.parametrize("part", PARTS)
def test_of_a_video(video: Path, part: Window) -> None:
    found = list(read_images(video, window=part))
    assert numbers([rgb for _, rgb in found]) == expected(part)
    assert [stamp for stamp, _ in found] == pytest.approx([i / RATE for i in expected(part)], abs=1e-4)
    assert count_images(video, part) == len(found)


def test_of_a_folder_and_of_a_bag(tmp_path: Path) -> None:
    part = Window(0.3, 1.5, 4)
    (tmp_path / "images").mkdir()
    with BagWriter(tmp_path / "bag") as writer:
        for i in range(COUNT):
            write_image(tmp_path / "images" / f"{i}.png", image(i))
            writer.write_image("/image", image(i), 7_000_000_000 + round(1e9 * i / RATE), "camera")
    read = list(read_images(tmp_path / "images", rate=RATE, window=part))
    assert numbers([rgb for _, rgb in read]) == expected(part)
    with BagReader(tmp_path / "bag") as reader:
        recorded = list(reader.images(window=part))
    assert numbers([found.rgb for found in recorded]) == expected(part)
    assert part.count(COUNT, (COUNT - 1) / RATE) == len(recorded)


@pytest.mark.parametrize(
    ("values", "field"),
    [((-1.0,), "start"), ((2.0, 2.0), "end"), ((0.0, math.inf, 0), "every"), ((math.nan,), "start")],
)
def test_what_is_no_part_is_named(values: tuple[float, ...], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: expected"):
        Window(*values)  # type: ignore[arg-type]


def test_a_single_image_is_there_or_not() -> None:
    assert (Window().count(1, 0.0), Window(1.0).count(1, 0.0)) == (1, 0)


def test_the_whole_of_a_recording_includes_a_clock_that_jumped_back() -> None:
    assert all(map(Window().taking(), (0.0, 0.1, -5.0)))
