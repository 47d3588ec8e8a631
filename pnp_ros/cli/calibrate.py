"""``pnp-ros calibrate IMAGES... --board 9x6 --square 0.025``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from pnp_ros.io.camera_info import CameraInfo, write_camera_info
from pnp_ros.io.images import images_in, read_images
from pnp_ros.multiview.calibration import DENOMINATOR, LENSES, Calibration, board_points, calibrate, detect_board

_MODELS = {"plumb_bob": "plumb_bob", "rational": "rational_polynomial", "equidistant": "equidistant"}
_SUSPICIOUS = 3.0  # times the median error of a view
_LOOSE = 0.01  # of the focal length
_COVERAGE_CELLS = 6  # a side, to say how much of the image the corners fill


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("images", type=Path, nargs="+", help="images, folders of images or videos of the board")
    parser.add_argument("--board", required=True, metavar="9x6", help="inner corners, columns x rows")
    parser.add_argument("--square", type=float, required=True, help="side of a square in metres")
    parser.add_argument("--model", choices=_MODELS, default="plumb_bob", help="lens (default %(default)s)")
    parser.add_argument(
        "--fix",
        nargs="+",
        default=[],
        metavar="NAME",
        help="coefficients to hold at zero (k3, p1, ...); cx, cy: hold the centre in the middle of the image",
    )
    parser.add_argument("--out", type=Path, default=Path("camera_info.yaml"), help="default %(default)s")
    parser.add_argument("--name", default="camera", help="camera name in the file (default %(default)s)")
    parser.add_argument("--every", type=int, default=1, help="take only each n-th image, for videos (default 1)")


def run(arguments: argparse.Namespace) -> int:
    """Find the board in the images, calibrate, write the file, say how well it is known."""
    columns, rows = _board_size(arguments.board)
    if not 0.0 < arguments.square < 10.0:
        raise ValueError(f"--square: expected the side of a square in metres, got {arguments.square}")
    holdable = ("cx", "cy", *LENSES[_MODELS[arguments.model]][1])
    unknown = set(arguments.fix) - set(holdable)
    if unknown:
        raise ValueError(f"--fix: expected of {', '.join(holdable)}, got {', '.join(sorted(unknown))}")
    if arguments.every < 1:
        raise ValueError(f"--every: expected at least 1, got {arguments.every}")
    names, corners, (width, height) = _detect(arguments.images, arguments.every, columns, rows)
    points = board_points(columns, rows, arguments.square)
    result = calibrate(torch.stack(corners), points, width, height, _MODELS[arguments.model], arguments.fix)
    k = result.camera.matrix().flatten().tolist()
    distortion = tuple(result.camera.distortion[: len(LENSES[result.distortion_model][1])].tolist())
    known = dict(zip(result.names, result.sigmas.tolist()))
    sigmas = tuple(known.get(name, 0.0) for name in ("fx", "fy", "cx", "cy"))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_camera_info(
        arguments.out,
        CameraInfo(
            height, width, result.distortion_model, distortion, tuple(k), camera_name=arguments.name, sigmas=sigmas
        ),
    )
    _report(result, names, torch.stack(corners))
    print(f"written: {arguments.out}")
    return 0


def _board_size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) >= 3 for part in parts):
        raise ValueError(f"--board: expected inner corners as COLUMNSxROWS, at least 3x3, such as 9x6, got {text!r}")
    return int(parts[0]), int(parts[1])


def _images(paths: list[Path], every: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The images with their names: a file's, or which image of a video it is."""
    for path in paths:
        files = images_in(path) if path.is_dir() else [path]
        read = ((file, image) for file in files for _, image in read_images(file))
        for index, (file, image) in enumerate(read):
            if index % every == 0:
                yield (f"{path}, image {index + 1}" if file == path and index else str(file)), image


def _detect(paths: list[Path], every: int, columns: int, rows: int) -> tuple[list[str], list[Tensor], tuple[int, int]]:
    """Names of the images with a board, its corners, and the images' width and height."""
    names: list[str] = []
    corners: list[Tensor] = []
    missed: list[str] = []
    size: tuple[int, int] | None = None
    for name, image in tqdm(_images(paths, every), desc="finding the board", unit=" images", leave=False):
        height, width = image.shape[:2]
        size = size or (width, height)
        if size != (width, height):
            raise ValueError(f"{name}: expected {size[0]}x{size[1]} pixels as in the first image, got {width}x{height}")
        found = detect_board(image, columns, rows)
        if found is None:
            missed.append(name)
        else:
            names.append(name)
            corners.append(found)
    if missed:
        print(f"no board of {columns}x{rows} inner corners in {len(missed)} images: {', '.join(missed)}")
    if size is None or not corners:
        raise ValueError(f"images: no board of {columns}x{rows} inner corners was found in any of them")
    return names, corners, size


def _report(result: Calibration, names: list[str], corners: Tensor) -> None:
    print(f"{result.distortion_model}, {len(names)} views, {corners.shape[0] * corners.shape[1]} corners")
    for name, value, sigma in zip(result.names, result.values.tolist(), result.sigmas.tolist(), strict=True):
        unit = " px" if name in ("fx", "fy", "cx", "cy") else ""
        print(f"  {name:>3s} {value:12.5f} +- {sigma:.5f}{unit}")
    print(f"reprojection error: {result.rms:.4f} px rms")
    by_view = result.rms_by_view
    for name, error in zip(names, by_view.tolist(), strict=True):
        remark = "  look at this one" if error > _SUSPICIOUS * float(by_view.median()) else ""
        print(f"  {error:.4f} px  {name}{remark}")
    size = torch.tensor([result.camera.width, result.camera.height])
    cells = (corners.reshape(-1, 2) / size * _COVERAGE_CELLS).long().clamp(0, _COVERAGE_CELLS - 1)
    filled = len(torch.unique(cells, dim=0)) / _COVERAGE_CELLS**2
    print(f"corners fill {100.0 * filled:.0f} % of the image")
    focal, sigma = float(result.values[0]), float(result.sigmas[0])
    if sigma > _LOOSE * focal:
        print(
            f"warning: the focal length is known to {100.0 * sigma / focal:.1f} %, and so is every distance; tilt more"
        )
    if idle := _open(result):
        held = _to_hold(result.distortion_model, result.names, idle)
        print(f"not determined by these images: {', '.join(idle)}; take more, or hold at zero: --fix {' '.join(held)}")


def _open(result: Calibration) -> list[str]:
    """Coefficients that are known by less than they are large."""
    known = zip(result.names, result.values.tolist(), result.sigmas.tolist())
    return [name for name, value, sigma in known if abs(value) < sigma and name[0] in "kp"]


def _to_hold(distortion_model: str, names: Sequence[str], idle: list[str]) -> list[str]:
    """Of a lens with some idle coefficients those to hold at zero: of the rational one the denominator at first.

    It and the numerator can take each other's place; without it the rest may be determined.
    """
    below = [name for name in names if name in DENOMINATOR] if distortion_model == _MODELS["rational"] else []
    return below if set(below) & set(idle) else idle
