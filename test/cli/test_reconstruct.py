"""``pnp-ros reconstruct`` from a file of tracks to keypoints."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import pytest
import torch
import trimesh
import yaml

from pnp_ros.cli import reconstruct
from pnp_ros.io.camera_info import CameraInfo, write_camera_info
from synthetic.tracks import random_tracks


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    reconstruct.add_arguments(parser)
    return parser.parse_args(words)


def test_from_tracks_to_keypoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracks, _, truth = random_tracks(10, 25, sigma=0.2, visible=1.0)
    records = [
        {"view": f"frame{v}", "track": f"p{m}", "x": float(tracks[v, m, 0]), "y": float(tracks[v, m, 1])}
        for v in range(10)
        for m in range(25)
        if tracks[v, m].isfinite().all()
    ]
    with (tmp_path / "tracks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["view", "track", "x", "y"])
        writer.writeheader()
        writer.writerows(records)
    (tmp_path / "tracks.json").write_text(json.dumps(records))
    camera, zoomed = tmp_path / "camera_info.yaml", tmp_path / "zoomed.yaml"
    for path, f in ((camera, 800.0), (zoomed, 720.0)):
        write_camera_info(path, CameraInfo(480, 640, "plumb_bob", (0.0,) * 5, (f, 0, 320, 0, f, 240, 0, 0, 1)))
    metres = float((truth.points[2] - truth.points[9]).norm())
    from_csv, from_json = (reconstruct.read_tracks(tmp_path / f"tracks.{kind}") for kind in ("csv", "json"))
    assert from_csv.names == from_json.names
    torch.testing.assert_close(from_csv.pixels, from_json.pixels, atol=0, rtol=0, equal_nan=True)

    out = tmp_path / "out"
    words = [str(tmp_path / "tracks.csv"), "--out", str(out), "--distance", "p2", "p9", str(metres)]
    assert reconstruct.run(parse(*words, "--camera", str(zoomed))) == 0
    assert "a focal length that is +11 %" in capsys.readouterr().out
    assert reconstruct.run(parse(*words, "--camera", str(camera))) == 0
    document = yaml.safe_load((out / "keypoints.yaml").read_text())
    keypoints = {point["name"]: torch.tensor(point["position"]) for point in document["keypoints"]}
    assert document["units"] == "m"
    assert len(keypoints) == 25
    for a, b in ((0, 1), (5, 20)):
        expected = float((truth.points[a] - truth.points[b]).norm())
        assert float((keypoints[f"p{a}"] - keypoints[f"p{b}"]).norm()) == pytest.approx(expected, rel=0.02)
    assert all(len(point["covariance"]) == 9 for point in document["keypoints"])
    assert trimesh.load(out / "points.ply").vertices.shape == (25, 3)
    assert len((out / "poses.csv").read_text().splitlines()) == 11
    said = capsys.readouterr().out
    assert "25 of 25 points, 10 of 10 views" in said
    assert "focal length" not in said


def test_a_part_is_called_a_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracks, _, _ = random_tracks(6, 20, sigma=0.2, visible=1.0)
    tracks[2:, :17] = torch.nan  # four views see three points only
    lines = [
        f"v{v},p{m},{tracks[v, m, 0]},{tracks[v, m, 1]}" for v in range(6) for m in range(20) if tracks[v, m, 0] >= 0
    ]
    (tmp_path / "tracks.csv").write_text("view,track,x,y\n" + "\n".join(lines))
    camera = tmp_path / "camera_info.yaml"
    write_camera_info(camera, CameraInfo(480, 640, "plumb_bob", (0.0,) * 5, (800.0, 0, 320, 0, 800.0, 240, 0, 0, 1)))
    words = [str(tmp_path / "tracks.csv"), "--camera", str(camera), "--out", str(tmp_path)]
    assert reconstruct.run(parse(*words)) == 1
    said = capsys.readouterr()
    assert "2 of 6 views" in said.out
    assert "v2 (3), v3 (3), v4 (3), v5 (3)" in said.out
    assert "only 2 of 6 views" in said.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("view,track,x,y\n", "got none"),
        ("view,track,x\na,b,1\n", "record 1"),
        ("view,track,x,y\na,b,1,nan\n", "record 1: x, y"),
        ("view,track,x,y\na,b,1,2\na,b,1,2\n", "record 2: track b occurs twice"),
    ],
)
def test_wrong_tracks_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "tracks.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        reconstruct.read_tracks(path)


def test_tracks_of_a_spreadsheet_are_read(tmp_path: Path) -> None:
    path = tmp_path / "tracks.csv"
    path.write_text("view, track, x, y\r\nfront, corner, 1.5, 2\r\n", encoding="utf-8-sig")
    tracks = reconstruct.read_tracks(path)
    assert (tracks.views, tracks.names, tracks.pixels.tolist()) == (("front",), ("corner",), [[[1.5, 2.0]]])


@pytest.mark.parametrize("words", [["a", "a", "0.1"], ["a", "b", "-1"], ["a", "b", "far"], ["a", "c", "1"]])
def test_a_distance_that_is_none_is_named(words: list[str]) -> None:
    with pytest.raises(ValueError, match="--distance: "):
        reconstruct._distance(words, ("a", "b"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.json"):
        reconstruct.read_tracks(tmp_path / "absent.json")
