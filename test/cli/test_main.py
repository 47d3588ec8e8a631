"""What all commands share: errors in one line, options in a file, and what they need but do not find."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pnp_ros.cli import entry, main, requirements
from pnp_ros.cli.requirements import MissingRequirement, check_device, cure

RUN = ["run", "video.mp4", "--object", "objects/mug", "--camera", "camera.yaml"]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a wrong command leaves on stderr."""
    assert main.main(words) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize("command", ["run", "evaluate", "adapt", "demo", "replay", "train"])
def test_a_file_as_the_folder_of_results_is_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    words = {"run": RUN, "evaluate": ["evaluate", "bag", "--object", "o"], "adapt": ["adapt", "bag", "--object", "o"]}
    words |= {"demo": ["demo"], "replay": ["replay", "bag", "--object", "o"], "train": ["train", "mesh.ply"]}
    assert f"--out {file}: is a file, expected a folder" in said(capsys, *words[command], "--out", str(file))
    inside = file / "results"
    assert f"--out {inside}: {file} is a file" in said(capsys, *words[command], "--out", str(inside))
    assert file.read_text() == "mine"


CALIBRATE = ["calibrate", "images", "--board", "9x6", "--square", "0.025"]


@pytest.mark.parametrize("words", [CALIBRATE, ["train-pnpnet", "--minutes", "0.01"]])
def test_a_folder_as_the_file_of_results_is_one_line(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"--out {tmp_path}: is a folder, expected a file" in said(capsys, *words, "--out", str(tmp_path))


@pytest.mark.parametrize("words", [["evaluate", "bag", "--object", "o"], CALIBRATE])
def test_where_nothing_can_be_written_is_said_before_the_work(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != tmp_path)
    told = said(capsys, *words, "--out", str(tmp_path / "a/b"))
    assert f"--out {tmp_path / 'a/b'}: no right to write into {tmp_path}" in told


@pytest.mark.parametrize(
    "words",
    [
        ["run", "overlay.mp4", "--object", "o", "--camera", "camera.yaml"],
        ["evaluate", "bag", "--object", "o", "--truth", "file:poses.json"],
        ["evaluate", "bag", "--object", "o", "--poses", "poses.csv"],
        ["adapt", "bag", "--object", "o", "--reference", "file:poses.json"],
        ["reconstruct", "poses.csv", "--camera", "camera.yaml"],
    ],
)
def test_a_file_that_is_read_is_not_overwritten(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (name,) = (word.removeprefix("file:") for word in words if "overlay" in word or "poses." in word)
    Path(name).write_text("mine")
    assert f"--out: {name} is read and would be overwritten" in said(capsys, *words, "--out", str(tmp_path))
    assert "overwritten" not in said(capsys, *words, "--out", "results")


def test_parameters_that_rooms_below_name_are_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ": --start: expected seconds" in said(capsys, *RUN, "--start", "-1")
    mesh = tmp_path / "mesh.obj"
    mesh.write_text("mtllib none.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl m\nf 1 2 3\n")
    line = said(capsys, "onboard", str(mesh), "--out", str(tmp_path / "object"))
    assert "not found: none.mtl" in line
    assert line.endswith("(--accept-missing)")


def test_without_a_command_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 2
    listed = capsys.readouterr().err
    assert all(command in listed for command in main.COMMANDS)


def test_a_device_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--device: expected cpu, cuda or cuda:N, got 'gpu'" in said(capsys, *RUN, "--device", "gpu")
    if not torch.cuda.is_available():
        assert "use --device cpu" in said(capsys, *RUN, "--device", "cuda")
    check_device("cpu")


def test_options_go_to_a_file_and_come_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([*RUN, "--max-frames", "7", "--no-tracking", "--dump-config"]) == 0
    file = tmp_path / "run.yaml"
    file.write_text(capsys.readouterr().out)
    assert yaml.safe_load(file.read_text())["max_frames"] == 7
    assert main.main(["run", "other.mp4", "--config", str(file), "--device", "cuda", "--dump-config"]) == 0
    again = yaml.safe_load(capsys.readouterr().out)
    assert again == yaml.safe_load(file.read_text()) | {"device": "cuda"}, "the command line wins"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("colour: red", "colour: no such option; there are object, instances, camera"),
        ("max_frames: many", "max_frames: "),
        ("no_tracking: 3", "no_tracking: expected true or false, got 3"),
        ("- a", "expected options and values"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_file_of_options_is_named(
    content: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(content)
    assert main.main([*RUN, "--config", str(file)]) == 1
    error = capsys.readouterr().err
    assert str(file) in error
    assert expected in error
    file.unlink()
    assert f"--config {file}: No such file" in said(capsys, *RUN, "--config", str(file))


def test_a_bag_action_takes_the_common_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such bag" in said(capsys, "bag", "info", str(tmp_path / "bag"), "-q")


def test_what_is_not_installed_comes_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "pip install 'pnp-ros[train]'" in cure("moderngl")
    assert "pip install 'pnp-ros[view]'" in cure("rerun")
    assert "pip install torch" in cure("torch.nn")
    assert "pip install opencv-python-headless" in cure("cv2")
    assert "source its setup file" in cure("sensor_msgs.msg")
    assert "colcon build" in cure("pnp_ros.msg")
    monkeypatch.setattr(requirements.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingRequirement, match="needs ROS 2"):
        requirements.need_ros()


def test_an_executable_without_torch_is_one_line(tmp_path: Path) -> None:
    """As ``ros2 run`` starts it, by a Python that has ROS but not torch."""
    code = f"import sys; sys.modules['torch'] = None; from {entry.__name__} import run_main; "
    for module in ("pnp_ros.cli.main", "pnp_ros.pipeline.estimator"):
        words = ["evaluate", "bag"] if module.endswith("main") else []
        done = subprocess.run(
            [sys.executable, "-c", f"{code}run_main({module!r})", *words], capture_output=True, text=True
        )
        assert done.returncode == 1
        (line,) = done.stderr.strip().splitlines()
        assert "pip install torch" in line


def test_progress_knows_the_total(recorded_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pnp_ros.cli.progress import images
    from pnp_ros.evaluation.frames import open_source

    source = open_source(recorded_run.path)
    assert source.count() == len(list(images(source))) == 60
    assert len(list(images(source, 7))) == 7
    shown = capsys.readouterr().err
    assert "60/60" in shown
    assert "7/7" in shown


def test_the_kernels_of_the_estimator_are_compiled_beforehand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["compile"]) == 0
    folder = Path(capsys.readouterr().out.partition("kernels are in ")[2].split()[0])
    for kernel in ("solve_poses", "rays_warp", "raster_warp"):
        assert list(folder.glob(f"wp_*{kernel}*/*.o")), kernel


@pytest.mark.parametrize("command", ["run", "evaluate", "view", "adapt", "demo", "replay", "onboard"])
def test_networks_have_one_thread_unless_more_are_asked_for(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = RUN if command == "run" else [command, "bag", "--object", "objects/mug"]
    words = {"demo": ["demo"], "onboard": ["onboard", "mug.obj", "--out", "objects/mug"]}.get(command, words)
    before, found = torch.get_num_threads(), []
    module = importlib.import_module(f"pnp_ros.cli.{command}")
    monkeypatch.setattr(module, "run", lambda _: found.append(torch.get_num_threads()) or 0)
    try:
        torch.set_num_threads(3)
        assert main.main(words) == 0
        assert main.main([*words, "--threads", "2"]) == 0
        assert "--threads: expected at least 1, got 0" in said(capsys, *words, "--threads", "0")
    finally:
        torch.set_num_threads(before)
    assert found == [1, 2]
