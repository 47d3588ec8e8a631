"""``pnp-ros replay``: real nodes, and every image of the bag is in one of the counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pnp_ros.cli.main import main
from pnp_ros.cli.recorded_run import evaluate_run
from pnp_ros.evaluation.frames import open_source
from pnp_ros.evaluation.truth import load_recorded
from pnp_ros.io.bag_reader import BagReader
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.objects.object_package import ObjectPackage

pytest.importorskip("rclpy")
FRAMES = 60


@pytest.mark.slow
@pytest.mark.parametrize("keep_all", [False, True])
def test_every_image_is_accounted_for(
    recorded_run: Any, package: ObjectPackage, tmp_path: Path, keep_all: bool
) -> None:
    words = ["replay", str(recorded_run.path), "--object", str(package.root), "--out", str(tmp_path), "--truth", "tf"]
    assert main([*words, *(["--keep-all"] if keep_all else [])]) == 0
    content = json.loads((tmp_path / "report.json").read_text())
    run, told = content["run"], content["in_diagnostics"]
    assert run["images_played"] == run["images_recorded"] == FRAMES
    assert run["images_processed"] + told["dropped_for_newer_ones"] == FRAMES
    assert run["images_unaccounted_for"] == 0
    if keep_all:
        assert run["images_processed"] == told["taken_up"] == told["received"] == FRAMES
    assert content["frames"]["visible"] == 55  # the truth is that of the bag that was played
    age = content["latency_ms"]["image_to_pose_across_processes"]
    assert 0.0 < age["median"] <= age["p99"]
    # the recording is a bag like any other, with the stamps of the images
    with BagReader(tmp_path / "bag") as reader:
        assert {"/camera/image_raw", "/camera/camera_info", "/pose_estimator/objects"} <= reader.topics.keys()
    stamps = {recorded_run.stamp_ns(i) for i in range(FRAMES)}
    assert load_recorded("/pose_estimator/objects", tmp_path / "bag").keys() <= stamps


@pytest.mark.slow
def test_of_many_instances_every_image_is_accounted_for(
    recorded_run: Any, package: ObjectPackage, tmp_path: Path
) -> None:
    words = [
        "replay",
        str(recorded_run.path),
        "--object",
        str(package.root),
        "--instances",
        "2",
        "--out",
        str(tmp_path),
    ]
    assert main(words) == 0
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["run"]["images_played"] == FRAMES
    assert content["run"]["images_unaccounted_for"] == 0
    assert list(content["instances"]) == [f"{package.name}_{index}" for index in range(2)]


def test_of_a_run_without_a_pose_every_image_is_dropped(
    package: ObjectPackage, recorded_run: Any, tmp_path: Path
) -> None:
    with BagReader(recorded_run.path) as reader, BagWriter(tmp_path / "bag", types=reader.types) as writer:
        for topic, kind, stamp_ns, cdr in reader.serialized("/camera/image_raw", "/camera/camera_info"):
            writer.write_serialized(topic, kind, cdr, stamp_ns)
    done, figures = evaluate_run(open_source(tmp_path / "bag"), "/camera/image_raw", package, None)
    assert [record.state for record in done.records] == ["dropped"] * FRAMES
    assert figures["run"]["images_processed"] == figures["run"]["poses_published"] == 0
    assert figures["in_diagnostics"] == {}


def test_how_long_a_pose_took_is_taken_from_the_times_of_recording(recorded_run: Any) -> None:
    poses = load_recorded("/estimator/objects", recorded_run.path, since="/camera/image_raw")
    assert len(poses) == FRAMES
    for (pose,) in (told.values() for told in poses.values()):
        assert pose.latency["image_to_pose_across_processes"] == 0.0  # this bag has both at the image's time
        assert pose.latency["total"] > 0.0


def test_a_bag_that_cannot_be_replayed_is_one_clear_line(
    make_run: Any, package: ObjectPackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "bag", with_info=False)
    words = ["--object", str(package.root), "--out", str(tmp_path / "out")]
    assert main(["replay", str(run.path), *words]) == 1
    assert "no CameraInfo beside /camera/image_raw" in capsys.readouterr().err
    assert main(["replay", str(run.path), *words, "--image-topic", "/absent"]) == 1
    assert "no topic /absent" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
