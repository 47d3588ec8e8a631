"""Poses as CSV (one row per image) and JSON."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from pnp_ros.evaluation.frame_errors import FrameRecord
from pnp_ros.geometry.so3 import quat_wxyz_from_matrix
from pnp_ros.pipeline.estimator import ObjectEstimate

_POSE_COLUMNS = ("x", "y", "z", "qw", "qx", "qy", "qz")
_SIGMA_COLUMNS = ("sigma_x", "sigma_y", "sigma_z", "sigma_rot_x", "sigma_rot_y", "sigma_rot_z")
COLUMNS = ("frame", "stamp", "name", "state", *_POSE_COLUMNS, *_SIGMA_COLUMNS, "score", "reason")


class PoseLog:
    """Collects estimates; :meth:`write` leaves ``poses.csv`` and ``poses.json`` in a folder.

    Both hold ``T_camera_object`` in metres with a wxyz quaternion; the JSON also the full covariance.
    """

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []

    def add(self, frame: int, stamp: float, estimate: ObjectEstimate) -> None:
        """One object in one image; ``stamp`` in seconds."""
        solved = estimate.estimate
        record = FrameRecord(
            str(estimate.state),
            solved.pose if solved else None,
            solved.covariance if solved else None,
            reason=estimate.reason,
        )
        self.add_record(frame, stamp, estimate.name, record, estimate.score)

    def add_record(self, frame: int, stamp: float, name: str, record: FrameRecord, score: float) -> None:
        """The same of a record."""
        entry: dict[str, Any] = {"frame": frame, "stamp": stamp, "name": name, "state": record.state}
        entry |= {"score": score, "reason": record.reason}
        if record.estimate is not None:
            entry["translation"] = record.estimate.translation.tolist()
            entry["quat_wxyz"] = quat_wxyz_from_matrix(record.estimate.rotation).tolist()
            if record.covariance is not None:
                entry["covariance"] = record.covariance.tolist()
        self._entries.append(entry)

    def write(self, folder: Path) -> None:
        """Write both files."""
        (folder / "poses.json").write_text(json.dumps(self._entries, indent=1))
        with (folder / "poses.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(_row(entry) for entry in self._entries)


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    row = {column: entry.get(column, "") for column in COLUMNS}
    if "translation" in entry:
        row.update(zip(_POSE_COLUMNS, [*entry["translation"], *entry["quat_wxyz"]]))
    if "covariance" in entry:
        row.update(zip(_SIGMA_COLUMNS, [entry["covariance"][i][i] ** 0.5 for i in range(6)]))
    return row
