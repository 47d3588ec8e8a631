import csv
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pnp_ros.cli import run
from pnp_ros.cli.main import main
from pnp_ros.io.camera_info import CameraInfo, write_camera_info
from pnp_ros.io.images import VideoWriter, read_image, write_image
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
    assert "<svg" in (out / "report.html").read_text()
    assert "latency" in capsys.readouterr().out


@pytest.mark.parametrize(("option", "word"), [("--object", "no such object package"), ("--camera", "nothing")])
def test_missing_input_is_said_on_stderr(
    arguments: list[str], option: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments[arguments.index(option) + 1] = "/nothing/here"
    assert main(arguments) == 1
    assert word in capsys.readouterr().err


def test_a_part_of_the_images(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder has 30 images a second."""
    assert main([*arguments, "--start", "0.03", "--no-video"]) == 0
    assert [entry["stamp"] for entry in json.loads((tmp_path / "out/poses.json").read_text())] == pytest.approx(
        [1 / 30, 2 / 30], abs=1e-6
    )
    for words, option in ((["--start", "2", "--end", "1"], "--end"), (["--every", "0"], "--every")):
        assert main([*arguments, *words]) == 1
        assert f"pnp-ros run: {option}: expected" in capsys.readouterr().err
    assert main([*arguments, "--max-frames", "0"]) == 1
    assert main([*arguments, "--start", "9"]) == 1
    assert "no image" in capsys.readouterr().err


def test_two_objects_two_instances_of_each(
    arguments: list[str],
    untrained_package: Callable[..., ObjectPackage],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    untrained_package(tmp_path / "other", "other")
    arguments.insert(arguments.index("--camera"), str(tmp_path / "other"))
    assert main([*arguments, "--instances", "2", "--max-frames", "2"]) == 0
    said = capsys.readouterr().out
    names, out = ["thing_0", "thing_1", "other_0", "other_1"], tmp_path / "out"
    entries = json.loads((out / "poses.json").read_text())
    assert [(entry["name"], entry["frame"]) for entry in entries] == [(name, k) for name in names for k in (0, 1)]
    for name in names:
        report = json.loads((out / name / "report.json").read_text())
        assert report["frames"]["total"] == 2
        assert report["object"] == name.split("_")[0]
        assert [name, str(report["frames"]["valid"])] in [line.split() for line in said.splitlines()]
    assert (out / "overlay.mp4").stat().st_size > 0
    assert main([*arguments, "--versions", str(tmp_path)]) == 1
    assert "--versions: expected one --object, got 2" in capsys.readouterr().err


def test_image_in_image_out(arguments: list[str], tmp_path: Path) -> None:
    arguments[1] += "/1.png"
    assert main(arguments) == 0
    assert read_image(tmp_path / "out/overlay.png").shape == (240, 320, 3)
    assert not (tmp_path / "out/overlay.mp4").exists()


def test_a_stream_until_its_end(arguments: list[str], tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "video.mp4") as writer:
        for index in range(3):
            writer.write(read_image(tmp_path / f"images/{index}.png"))
    arguments[1] = f"file://{tmp_path}/video.mp4"
    assert main(arguments) == 0
    assert json.loads((tmp_path / "out/report.json").read_text())["kind"] == "live"


def test_an_interrupt_leaves_what_was_done(arguments: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    original = run.draw

    def interrupted(*given: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return original(*given)

    monkeypatch.setattr(run, "draw", interrupted)
    before = signal.getsignal(signal.SIGINT)
    assert main(arguments) == 0
    assert len(json.loads((tmp_path / "out/poses.json").read_text())) == 1
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("option", "name", "expected"),
    [
        ("--camera", "video.mp4", "is a video, not a camera's calibration; pnp-ros calibrate makes"),
        ("--camera", "camera.npz", "NumPy arrays; put them into YAML"),
        ("--out", "file", "is a file, expected a folder"),
        ("--object", "file", "file"),
    ],
)
def test_a_wrong_file_is_one_line_with_the_cure(
    option: str, name: str, expected: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(b"abc")
    arguments[arguments.index(option) + 1] = str(tmp_path / name)
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert expected in line


def test_calibrations_of_others_are_taken(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "opencv.yml").write_text(
        "%YAML:1.0\n---\nimage_width: 320\nimage_height: 240\n"
        "camera_matrix: !!opencv-matrix\n   rows: 3\n   cols: 3\n   dt: d\n"
        "   data: [300., 0., 160., 0., 300., 120., 0., 0., 1.]\n"
        "distortion_coefficients: !!opencv-matrix\n   rows: 1\n   cols: 5\n   dt: d\n   data: [0., 0., 0., 0., 0.]\n"
    )
    (tmp_path / "kalibr.yaml").write_text(
        "cam0:\n  camera_model: pinhole\n  intrinsics: [300.0, 300.0, 160.0, 120.0]\n"
        "  distortion_model: equidistant\n  distortion_coeffs: [0.0, 0.0, 0.0, 0.0]\n  resolution: [320, 240]\n"
    )
    for name in ("opencv.yml", "kalibr.yaml"):
        arguments[arguments.index("--camera") + 1] = str(tmp_path / name)
        assert main([*arguments, "--max-frames", "1", "--no-video"]) == 0, name


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
