"""Bags that something is wrong with, through every command that reads bags: what is readable is read, the rest is said.

The commands return 0 or 1 and never end in a traceback; with 1 they name the bag in one line.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pnp_ros.cli.main import main
from pnp_ros.io.bag_reader import BagReader
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.camera_info import CameraInfo
from pnp_ros.objects.object_package import ObjectPackage

OBJECTS, TRUTH = "/estimator/objects", "/camera/truth"
INFO = CameraInfo(48, 64, "plumb_bob", (0.0,) * 5, (60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0))
SECOND = 1_000_000_000


def cut_mcap(path: Path, run: Any) -> Path:
    """Two thirds of the file."""
    shutil.copytree(run.path, path)
    data = (path / "bag_0.mcap").read_bytes()
    (path / "bag_0.mcap").write_bytes(data[: 2 * len(data) // 3])
    return path


def cut_sqlite(path: Path, run: Any) -> Path:
    assert main(["bag", "convert", str(run.path), str(path), "--storage", "sqlite3"]) == 0
    (file,) = path.glob("*.db3")
    data = file.read_bytes()
    file.write_bytes(data[: 2 * len(data) // 3])
    return path


def nothing_in_it(path: Path, run: Any) -> Path:
    with BagWriter(path):
        return path


def empty_file(path: Path, run: Any) -> Path:
    shutil.copytree(run.path, path)
    (path / "bag_0.mcap").write_bytes(b"")
    return path


def foreign(path: Path, run: Any) -> Path:
    file = path.with_suffix(".mcap")
    file.write_bytes(b"PK\x03\x04 this is an archive, not a bag" * 100)
    return file


def other_messages(path: Path, run: Any) -> Path:
    """A bag of somebody else's: no image at all."""
    with BagWriter(path) as writer:
        writer.write("/said", writer.message("std_msgs/msg/String", data="hello"), 5)
    return path


def without_camera_info(path: Path, run: Any) -> Path:
    with BagReader(run.path) as reader, BagWriter(path, types=reader.types) as writer:
        for topic, kind, stamp_ns, cdr in reader.serialized():
            if kind != "sensor_msgs/msg/CameraInfo":
                writer.write_serialized(topic, kind, cdr, stamp_ns)
    return path


def jumping_time(path: Path, run: Any) -> Path:
    """Of the stamps and of the recording: back by 9 s in the middle."""
    with BagWriter(path) as writer:
        for i in range(20):
            stamp_ns = 20 * SECOND + i * SECOND // 10 - (9 * SECOND if i >= 10 else 0)
            rgb = np.full((48, 64, 3), i, np.uint8)
            writer.write_camera_info("/camera/camera_info", INFO, stamp_ns, "camera")
            writer.write_image("/camera/image_raw", rgb, stamp_ns, "camera")
    return path


Make = Callable[[Path, Any], Path]
READABLE = {cut_mcap: "cut short", jumping_time: "", without_camera_info: "", other_messages: ""}
REFUSED = [cut_sqlite, nothing_in_it, empty_file, foreign]
CAN_BE_EVALUATED = {cut_mcap: "cut short", jumping_time: "more than 10 intervals"}


@pytest.mark.parametrize("make", [*READABLE, *REFUSED], ids=lambda make: make.__name__)
def test_info_and_convert(
    make: Make, recorded_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    bag = make(tmp_path / "bag", recorded_run)
    capsys.readouterr()
    for words in (["info", str(bag), "--json"], ["convert", str(bag), str(tmp_path / "new")]):
        status = main(["bag", *words])
        output = capsys.readouterr()
        if make in REFUSED:
            assert status == 1
            assert str(bag) in output.err.strip().splitlines()[-1]
        else:
            assert status == 0
            assert READABLE[make] in caplog.text
    if make in READABLE:
        with BagReader(bag) as old, BagReader(tmp_path / "new") as new:
            assert [(m[:3], bytes(m[3])) for m in old.serialized()] == [(m[:3], bytes(m[3])) for m in new.serialized()]


@pytest.mark.parametrize("make", [*READABLE, *REFUSED], ids=lambda make: make.__name__)
def test_evaluate(
    make: Make,
    recorded_run: Any,
    package: ObjectPackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    bag, out = make(tmp_path / "bag", recorded_run), tmp_path / "out"
    capsys.readouterr()
    words = ["evaluate", str(bag), "--object", str(package.root), "--out", str(out), "--no-overlap"]
    if make not in (jumping_time, foreign, other_messages):
        words += ["--poses", OBJECTS, "--truth", TRUTH]
    with caplog.at_level(logging.WARNING):
        status = main(words)
    error = capsys.readouterr().err
    if make not in CAN_BE_EVALUATED:
        assert status == 1
        last = error.strip().splitlines()[-1]
        assert last.startswith("pnp-ros evaluate: ")
        assert str(bag) in last
        assert not out.exists()
        return
    assert status == 0
    assert CAN_BE_EVALUATED[make] in caplog.text
    content = json.loads((out / "report.json").read_text())
    if make is cut_mcap:
        assert 10 < content["frames"]["total"] < 60
        assert content["consistency"]["verdict"] == "consistent"
    else:
        assert content["frames"]["total"] == 20
        assert content["warnings"]


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
@pytest.mark.parametrize("command", ["view", "replay"])
def test_view_and_replay_refuse(
    command: str,
    make: Make,
    recorded_run: Any,
    package: ObjectPackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("rerun" if command == "view" else "rclpy")
    bag = make(tmp_path / "bag", recorded_run)
    capsys.readouterr()
    extra = ["--save", str(tmp_path / "run.rrd")] if command == "view" else ["--out", str(tmp_path / "out")]
    assert main([command, str(bag), "--object", str(package.root), *extra]) == 1
    assert str(bag) in capsys.readouterr().err.strip().splitlines()[-1]
