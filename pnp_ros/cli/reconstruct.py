"""``pnp-ros reconstruct TRACKS --camera camera_info.yaml --out DIR``."""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from pnp_ros.geometry.so3 import quat_wxyz_from_matrix
from pnp_ros.io.camera_info import read_camera_info
from pnp_ros.multiview.reconstruction import Reconstruction, reconstruct

_COLUMNS = ("view", "track", "x", "y")


@dataclass(frozen=True, eq=False)
class Tracks:
    """Image points (V, M, 2) px, NaN where not seen, and the names of views and tracks in the file's order."""

    pixels: Tensor
    views: tuple[str, ...]
    names: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("tracks", type=Path, help="CSV with columns view, track, x, y; or a JSON list of such objects")
    parser.add_argument("--camera", type=Path, required=True, help="camera_info YAML")
    parser.add_argument("--out", type=Path, required=True, help="folder for keypoints.yaml, points.ply and poses.csv")
    parser.add_argument(
        "--distance", nargs=3, metavar=("TRACK", "TRACK", "METRES"), help="two tracks and the metres between them"
    )
    parser.add_argument("--sigma", type=float, help="noise of the tracks in pixels (default: from the residuals)")
    parser.add_argument("--rectified", action="store_true", help="the tracks are of rectified images")


def run(arguments: argparse.Namespace) -> int:
    """Reconstruct, write the files, say how well it went."""
    tracks = read_tracks(arguments.tracks)
    camera = read_camera_info(arguments.camera).camera(arguments.rectified, dtype=torch.float64)
    distance = _distance(arguments.distance, tracks.names) if arguments.distance else None
    result = reconstruct(tracks.pixels, camera, sigma=arguments.sigma, known_distance=distance)
    arguments.out.mkdir(parents=True, exist_ok=True)
    unit = "m" if distance else "unknown"
    _write_keypoints(arguments.out / "keypoints.yaml", result, tracks.names, unit)
    _write_ply(arguments.out / "points.ply", result.structure.points[result.found])
    _write_poses(arguments.out / "poses.csv", result, tracks.views)
    _report(result, tracks, unit)
    print(f"written: {arguments.out}/keypoints.yaml, points.ply, poses.csv")
    if 2 * int(result.placed.sum()) < len(tracks.views):
        print(f"only {int(result.placed.sum())} of {len(tracks.views)} views: this is a part", file=sys.stderr)
        return 1
    return 0


def read_tracks(path: Path) -> Tracks:
    """Read a file of tracks.

    Raises:
        ValueError: if the file cannot be read or a record is malformed; the message names file and record.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # a spreadsheet begins with a byte order mark
            is_json = path.suffix.lower() == ".json"
            records: Any = json.load(file) if is_json else list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    if not isinstance(records, list) or not records:
        raise ValueError(f"{path}: expected records with {', '.join(_COLUMNS)}, got none")
    places: dict[tuple[str, str], tuple[float, float]] = {}
    for number, record in enumerate(records, start=1):
        try:
            view, name = str(record["view"]), str(record["track"])
            x, y = float(record["x"]), float(record["y"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: record {number}: expected {', '.join(_COLUMNS)}, got {record!r}") from error
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError(f"{path}: record {number}: x, y: expected finite pixels, got {x}, {y}")
        if (view, name) in places:
            raise ValueError(f"{path}: record {number}: track {name} occurs twice in view {view}")
        places[view, name] = (x, y)
    views, names = tuple(dict.fromkeys(v for v, _ in places)), tuple(dict.fromkeys(n for _, n in places))
    pixels = torch.full((len(views), len(names), 2), torch.nan, dtype=torch.float64)
    view_index, name_index = ({key: i for i, key in enumerate(keys)} for keys in (views, names))
    for (view, name), place in places.items():
        pixels[view_index[view], name_index[name]] = torch.tensor(place, dtype=torch.float64)
    return Tracks(pixels, views, names)


def _distance(words: list[str], names: tuple[str, ...]) -> tuple[int, int, float]:
    first, second, length = words
    for name in (first, second):
        if name not in names:
            raise ValueError(f"--distance: no track is called {name!r}")
    try:
        metres = float(length)
    except ValueError as error:
        raise ValueError(f"--distance: expected metres, got {length!r}") from error
    if first == second or not 0.0 < metres < float("inf"):
        raise ValueError(f"--distance: expected two different tracks and metres, got {' '.join(words)}")
    return names.index(first), names.index(second), metres


def _write_keypoints(path: Path, result: Reconstruction, names: tuple[str, ...], unit: str) -> None:
    """Name, position and covariance (row-major) of each point, best known first."""
    sigma = _sigmas(result)
    order = sorted(torch.nonzero(result.found).flatten().tolist(), key=lambda i: float(sigma[i]))
    keypoints = [
        {
            "name": names[i],
            "position": _rounded(result.structure.points[i]),
            "covariance": _rounded(result.covariance[i].flatten()),
        }
        for i in order
    ]
    document = {"format_version": 1, "units": unit, "keypoints": keypoints}
    path.write_text(yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=200))


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.9g}") for value in values.tolist()]


def _write_ply(path: Path, points: Tensor) -> None:
    header = ["ply", "format ascii 1.0", f"element vertex {len(points)}"]
    header += [f"property float {axis}" for axis in "xyz"] + ["end_header"]
    rows = [" ".join(f"{value:.9g}" for value in point) for point in points.tolist()]
    path.write_text("\n".join(header + rows) + "\n")


def _write_poses(path: Path, result: Reconstruction, views: tuple[str, ...]) -> None:
    """``T_camera_object`` of each placed view."""
    poses = result.structure.poses
    quats = quat_wxyz_from_matrix(poses.rotation)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("view", "x", "y", "z", "qw", "qx", "qy", "qz"))
        for i in torch.nonzero(result.placed).flatten().tolist():
            writer.writerow((views[i], *_rounded(poses.translation[i]), *_rounded(quats[i])))


def _sigmas(result: Reconstruction) -> Tensor:
    """(M) root mean square standard deviation of a point's coordinates."""
    return (result.covariance.diagonal(dim1=-2, dim2=-1).sum(-1) / 3.0).sqrt()


def _report(result: Reconstruction, tracks: Tracks, unit: str) -> None:
    found, placed = int(result.found.sum()), int(result.placed.sum())
    print(f"{found} of {len(tracks.names)} points, {placed} of {len(tracks.views)} views")
    if placed < len(tracks.views):
        known = (tracks.pixels.isfinite().all(-1) & result.found).sum(-1).tolist()
        left = [f"{name} ({count})" for name, count, ok in zip(tracks.views, known, result.placed.tolist()) if not ok]
        print(f"not placed, with how many of the points each sees: {', '.join(left)}")
        print("a view needs five points that others see too; track more, or take views that are nearer to each other")
    print(f"reprojection error of the inliers: {result.rms:.3f} px rms; noise of the tracks: {result.sigma:.3f} px")
    if unit == "m":
        sigma = 1e3 * _sigmas(result)[result.found]
        print(f"standard deviation of a coordinate: median {sigma.median():.3f} mm, largest {sigma.max():.3f} mm")
    else:
        print("no --distance given: the size is unknown, lengths are relative to the points' spread")
    if result.doubtful_focal_length:
        error, deviation = result.focal_error
        print(
            f"warning: the tracks fit a focal length that is {100 * math.expm1(error):+.0f} %"
            f" (+- {100 * deviation:.1f}) from the camera's: all proportions are bent. Is --camera that of the images?"
        )
    if not result.converged:
        print("warning: the adjustment did not converge; the points are the best so far")
