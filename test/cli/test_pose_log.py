"""The pose files of a run say the same."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pnp_ros.cli.pose_log import PoseLog
from pnp_ros.evaluation.truth import read_pose_file
from pnp_ros.geometry import so3
from pnp_ros.pipeline.result import FrameResult, ObjectState
from pnp_ros.types import Pose


def test_csv_json_and_tum_hold_the_same_poses(tmp_path: Path) -> None:
    pose = Pose(so3.exp(torch.tensor([0.3, -0.2, 0.9])), torch.tensor([0.01, -0.02, 0.6]))
    log = PoseLog()
    log.add(0, FrameResult(ObjectState.VALID, pose, torch.eye(6) * 1e-4, stamp=12.25), "mug")
    log.add(1, FrameResult(ObjectState.UNCERTAIN, pose, torch.eye(6), stamp=12.5), "mug")
    log.add(2, FrameResult(ObjectState.LOST, stamp=12.75), "mug")
    log.write(tmp_path)
    (line,) = (tmp_path / "poses.tum").read_text().splitlines()
    stamp, *rest = map(float, line.split())
    assert stamp == 12.25
    np.testing.assert_allclose(rest[:3], pose.translation.numpy(), atol=1e-8)
    x, y, z, w = rest[3:]
    turned = so3.matrix_from_quat_wxyz(torch.tensor([w, x, y, z]))
    torch.testing.assert_close(turned, pose.rotation, rtol=0.0, atol=1e-6)
    with (tmp_path / "poses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["valid", "uncertain", "lost"]
    assert float(rows[0]["sigma_x"]) == pytest.approx(0.01)
    assert json.loads((tmp_path / "poses.json").read_text())[0]["quat_wxyz"] == pytest.approx([w, x, y, z], abs=1e-6)
    kept = read_pose_file(tmp_path / "poses.csv")
    lines = (tmp_path / "poses.csv").read_text().splitlines()
    columns = "\n".join(line.partition(",")[2] for line in lines)  # the stamp first, saved by a spreadsheet
    (tmp_path / "saved.csv").write_text(columns, encoding="utf-8-sig")
    again = read_pose_file(tmp_path / "saved.csv")
    assert kept.keys() == again.keys() == {12_250_000_000, 12_500_000_000, 12_750_000_000}
