import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pnp_ros.cli.main import main
from pnp_ros.io.camera_info import CameraInfo, write_camera_info
from pnp_ros.io.images import write_image
from pnp_ros.objects.object_package import ObjectPackage


@pytest.fixture
def arguments(untrained_package: Callable[..., ObjectPackage], tmp_path: Path) -> list[str]:
    """A command on three images with networks that know nothing."""
    untrained_package(tmp_path / "thing", "thing")
    (tmp_path / "images").mkdir()
    for index in range(3):
        image = np.random.default_rng(index).integers(0, 255, (240, 320, 3), np.uint8)
        write_image(tmp_path / "images" / f"{index}.png", image)
    k = (300.0, 0.0, 160.0, 0.0, 300.0, 120.0, 0.0, 0.0, 1.0)
    write_camera_info(tmp_path / "camera.yaml", CameraInfo(240, 320, "plumb_bob", (0.0,) * 5, k))
    words = ["run", str(tmp_path / "images"), "--object", str(tmp_path / "thing"), "--camera"]
    return [*words, str(tmp_path / "camera.yaml"), "--out", str(tmp_path / "out")]


def test_run_leaves_poses_video_and_report(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    out = tmp_path / "out"
    with (out / "poses.csv").open() as file:
        rows = list(csv.DictReader(file))
    entries = json.loads((out / "poses.json").read_text())
    assert [int(row["frame"]) for row in rows] == [entry["frame"] for entry in entries] == [0, 1, 2]
    assert {row["state"] for row in rows} <= {"valid", "uncertain", "lost"}
    for row, entry in zip(rows, entries, strict=True):
        assert (row["x"] == "") == ("translation" not in entry) == (row["state"] == "lost")
    assert json.loads((out / "report.json").read_text())["frames"]["total"] == 3
    assert (out / "overlay.mp4").stat().st_size > 0
    assert "latency" in capsys.readouterr().out


@pytest.mark.parametrize(("option", "word"), [("--object", "no such object package"), ("--camera", "nothing")])
def test_missing_input_is_said_on_stderr(
    arguments: list[str], option: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments[arguments.index(option) + 1] = "/nothing/here"
    assert main(arguments) == 1
    assert word in capsys.readouterr().err


def test_without_opengl_all_but_the_overlap_is_there(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "moderngl", None)
    assert main(arguments) == 0
    assert "moderngl" in capsys.readouterr().err
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (figures["frames"]["total"], figures["overlap"]) == (3, None)
    assert main(["evaluate", *arguments[1:], "--overlap"]) == 1
    assert "--overlap" in capsys.readouterr().err
