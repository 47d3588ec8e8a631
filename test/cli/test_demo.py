"""``pnp-ros demo``: the whole path, from a simulated camera to a report, with the nodes as processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pnp_ros.cli.main import main
from pnp_ros.io.bag_reader import BagReader

pytest.importorskip("rclpy")
FRAMES = 12


@pytest.mark.slow
def test_a_short_demo(tmp_path: Path) -> None:
    assert main(["demo", "--frames", str(FRAMES), "--rate", "5", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "report.json").read_text())
    run, told = content["run"], content["in_diagnostics"]
    assert run["images_published"] == run["images_recorded"] == FRAMES
    assert run["poses_published"] == run["poses_with_the_stamp_of_a_image"] > 0
    assert run["images_processed"] + told["dropped_for_newer_ones"] == told["received"] == FRAMES
    assert run["recall_10_percent_of_processed"] > 0.5
    assert content["frames"]["visible"] == FRAMES
    assert content["latency_ms"]["image_to_pose_across_processes"]["median"] > content["latency_ms"]["total"]["median"]
    for name in ("overlay.mp4", "contact_sheet.png", "report.html", "poses.csv"):
        assert (tmp_path / name).stat().st_size > 0
    with BagReader(tmp_path / "bag") as reader:
        assert reader.counts["/camera/image_raw"] == FRAMES


@pytest.mark.slow
def test_two_of_a_kind(tmp_path: Path) -> None:
    """Simulated, found, recorded and evaluated, all by the nodes."""
    words = ["--instances", "2", "--frames", str(FRAMES), "--rate", "3", "--out", str(tmp_path)]
    assert main(["demo", *words]) == 0
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["frames"]["total"] == FRAMES
    assert set(content["identity_swaps"]) == {"demo"}  # of so few images a second names say little
    assert content["objects"]["demo"]["accuracy"]["recall_10_percent"] > 0.0
    assert content["objects"]["demo"]["false_poses"] == {"valid_while_not_visible": 0, "valid_beyond_10_percent": 0}
    assert list(content["instances"]) == ["demo_0", "demo_1"]


def test_wrong_numbers_are_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--frames", "0", "--out", str(tmp_path / "out")]) == 1
    assert "--frames, --rate: expected more than 0" in capsys.readouterr().err
    assert main(["demo", "--instances", "0", "--out", str(tmp_path / "out")]) == 1
    assert "--instances: expected at least 1" in capsys.readouterr().err
    assert main(["demo", "--object", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "object.yaml" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
