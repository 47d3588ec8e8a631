"""Poses as CSV (one row per image) and JSON."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from pnp_ros.geometry.so3 import quat_wxyz_from_matrix
from pnp_ros.pipeline.result import FrameResult, ObjectState

_POSE_COLUMNS = ("x", "y", "z", "qw", "qx", "qy", "qz")
_SIGMA_COLUMNS = ("sigma_x", "sigma_y", "sigma_z", "sigma_rot_x", "sigma_rot_y", "sigma_rot_z")
COLUMNS = ("frame", "stamp", "name", "state", *_POSE_COLUMNS, *_SIGMA_COLUMNS, "score", "reason")


class PoseLog:
    """Collects estimates; :meth:`write` leaves ``poses.csv``, ``poses.json`` and ``poses.tum`` in a folder.

    All hold ``T_camera_object`` in metres; the first two every image, with a wxyz quaternion, the JSON also the full
    covariance; the last the valid poses as TUM's tools and evo read them: stamp x y z qx qy qz qw.
    """

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []

    def add(self, frame: int, record: FrameResult, name: str = "") -> None:
        """One object in one image; ``name`` stands in where the record has none."""
        entry: dict[str, Any] = {"frame": frame, "stamp": record.stamp, "name": record.name or name}
        entry |= {"state": str(record.state), "score": record.score, "reason": record.reason}
        if record.source:
            entry["source"] = record.source
        if record.pose is not None:
            entry["translation"] = record.pose.translation.tolist()
            entry["quat_wxyz"] = quat_wxyz_from_matrix(record.pose.rotation).tolist()
            if record.covariance is not None:
                entry["covariance"] = record.covariance.tolist()
        self._entries.append(entry)

    def write(self, folder: Path) -> None:
        """Write the files."""
        (folder / "poses.json").write_text(json.dumps(self._entries, indent=1))
        with (folder / "poses.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(_row(entry) for entry in self._entries)
        if len({entry["name"] for entry in self._entries}) < 2:  # TUM's format knows one body
            (folder / "poses.tum").write_text("".join(map(_tum, self._entries)))


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    row = {column: entry.get(column, "") for column in COLUMNS}
    if "translation" in entry:
        row.update(zip(_POSE_COLUMNS, [*entry["translation"], *entry["quat_wxyz"]]))
    if "covariance" in entry:
        row.update(zip(_SIGMA_COLUMNS, [entry["covariance"][i][i] ** 0.5 for i in range(6)]))
    return row


def _tum(entry: dict[str, Any]) -> str:
    """A line of the file, or none without a valid pose and its stamp."""
    if entry["state"] != ObjectState.VALID or "translation" not in entry or entry["stamp"] is None:
        return ""
    w, x, y, z = entry["quat_wxyz"]
    return " ".join(f"{value:.9f}" for value in (entry["stamp"], *entry["translation"], x, y, z, w)) + "\n"
