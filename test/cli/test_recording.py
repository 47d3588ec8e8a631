"""What a command records replaces its own earlier recording, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pnp_ros.cli import replay
from pnp_ros.cli.main import main
from pnp_ros.cli.recording import new_recording
from pnp_ros.io.bag_reader import BagReader
from pnp_ros.objects.object_package import ObjectPackage


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def record(run: Any, place: Path) -> None:
    with new_recording(place) as new:
        shutil.copytree(run.path, new)


def test_a_recording_takes_the_place_of_the_earlier_one(recorded_run: Any, tmp_path: Path) -> None:
    place = tmp_path / "out" / "bag"
    record(recorded_run, place)
    (place / "bag_0.mcap").write_bytes(b"damaged")
    record(recorded_run, place)
    with BagReader(place) as reader:
        assert reader.counts["/camera/image_raw"] == 60
    assert [file.name for file in place.parent.iterdir()] == ["bag"]


def test_a_failed_run_keeps_the_earlier_recording(recorded_run: Any, tmp_path: Path) -> None:
    place = tmp_path / "bag"
    record(recorded_run, place)
    before = content(tmp_path)
    recording = new_recording(place)
    recording.__enter__().mkdir()
    error = KeyboardInterrupt()
    assert not recording.__exit__(KeyboardInterrupt, error, None)
    assert content(tmp_path) == before


@pytest.mark.parametrize("theirs", ["a bag", "a file in the recording", "a kept recording", "a link", "a file"])
def test_what_is_not_an_earlier_recording_stays(recorded_run: Any, tmp_path: Path, theirs: str) -> None:
    place = tmp_path / "bag"
    if theirs == "a bag":
        shutil.copytree(recorded_run.path, place)
    elif theirs == "a file":
        place.write_text("mine")
    else:
        record(recorded_run, place)
    if theirs == "a file in the recording":
        (place / "notes.txt").write_text("mine")
    elif theirs == "a kept recording":
        (place / "recorded_by_pnp_ros.txt").unlink()
    elif theirs == "a link":
        place.rename(tmp_path / "elsewhere")
        place.symlink_to(tmp_path / "elsewhere")
    before = content(tmp_path)
    with pytest.raises(ValueError, match="is there and no earlier recording"):
        new_recording(place).__enter__()
    assert content(tmp_path) == before
    assert main(["demo", "--no-ros", "--frames", "1", "--out", str(tmp_path)]) == 1
    assert content(tmp_path) == before


@pytest.mark.parametrize("read", ["bag", "bag/bag_0.mcap", "."])
def test_a_bag_that_is_played_is_not_replaced(
    recorded_run: Any, package: ObjectPackage, tmp_path: Path, read: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rclpy")
    record(recorded_run, tmp_path / "bag")
    before = content(tmp_path)
    words = ["replay", str(tmp_path / read), "--object", str(package.root), "--out", str(tmp_path)]
    assert main(words) == 1
    assert "choose another folder" in capsys.readouterr().err
    assert content(tmp_path) == before


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf"])
def test_a_replay_that_fails_keeps_the_earlier_recording(
    recorded_run: Any, package: ObjectPackage, tmp_path: Path, rate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rclpy")
    record(recorded_run, tmp_path / "bag")
    before = content(tmp_path)
    words = ["replay", str(recorded_run.path), "--object", str(package.root), "--out", str(tmp_path)]
    assert main([*words, "--rate", rate]) == 1

    def fail(*_: Any) -> None:
        raise ValueError("a node failed")

    monkeypatch.setattr(replay, "run_nodes", fail)
    assert main(words) == 1
    assert content(tmp_path) == before


def test_a_replay_tells_the_node_that_images_are_rectified(
    recorded_run: Any, package: ObjectPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rclpy")
    told = []

    def fail(parameters: dict[str, Any], *_: Any) -> None:
        told.append(parameters["pose_estimator"]["rectified"])
        raise ValueError("a node failed")

    monkeypatch.setattr(replay, "run_nodes", fail)
    words = ["replay", str(recorded_run.path), "--object", str(package.root), "--out", str(tmp_path)]
    assert main(words) == main([*words, "--rectified"]) == 1
    assert told == [False, True]
