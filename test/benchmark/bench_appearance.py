"""Is an object found whatever its colour? Recall by colour and material, by the network alone and aligned.

The images are rendered with materials that no training draws (stripes as of brushing, speckles, two halves), each in
eight colours; the object's package is one of ``pnp-ros train MESH --colour any``.

    PYTHONPATH=test python test/benchmark/bench_appearance.py objects/bracket [--images 8]
    PYTHONPATH=test python test/benchmark/bench_appearance.py castle objects/castle

``castle`` is measured on its forty images with exact poses instead. ``parts`` trains three CAD-like meshes and measures
each; with ``--minutes 0`` it only writes them and says how to train them:

    PYTHONPATH=test python test/benchmark/bench_appearance.py parts out/parts [--minutes 20]
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from benchmark.aligned_renders import CASTLE, Castle
from benchmark.bench_templates import SYMMETRIES
from benchmark.bench_verdict import CAMERA, clutter, real
from numpy.typing import NDArray

from pnp_ros.cli.main import main as run_command
from pnp_ros.evaluation.pose_error import add, adds
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mesh_files import save_mesh
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.rendering.domain_randomisation import RandomisationConfig, with_views
from pnp_ros.rendering.materials import painted_on
from pnp_ros.rendering.validation_frames import validation_frames
from pnp_ros.types import Pose
from synthetic.cad_parts import PARTS

COLOURS = {
    "red": (200, 40, 30),
    "yellow": (224, 176, 32),
    "green": (40, 130, 60),
    "blue": (40, 80, 180),
    "white": (235, 235, 230),
    "grey": (128, 128, 128),
    "black": (30, 30, 32),
    "brown": (110, 75, 45),
}
_SIDE = 256


def _matt(colour: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return np.broadcast_to(colour, (_SIDE, _SIDE, 3))


def _brushed(colour: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return colour * np.broadcast_to(1.0 + 0.25 * rng.normal(size=(_SIDE, 1, 1)), (_SIDE, _SIDE, 1))


def _speckled(colour: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return np.where(rng.random((_SIDE, _SIDE, 1)) < 0.1, 255.0 - colour, colour)


def _halves(colour: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return np.where(np.arange(_SIDE)[:, None, None] < _SIDE // 2, colour, 0.5 * colour + 60.0) + np.zeros((1, _SIDE, 1))


MATERIALS: dict[str, Callable[[NDArray[np.float64], np.random.Generator], NDArray[np.float64]]] = {
    "matt": _matt,
    "brushed": _brushed,
    "speckled": _speckled,
    "two halves": _halves,
}


def recall(package: ObjectPackage, mesh: TriangleMesh, count: int, seed: int) -> NDArray[np.float64]:
    """(4,) shares within 10 % by the network alone, and valid, within 10 and within 5 % when aligned."""
    ranges = replace(with_views(RandomisationConfig(), package.views), negatives=0.0, occlusion=0.3)
    alone = PoseEstimator(package, EstimatorConfig(align=False, track=False))
    aligned = PoseEstimator(package, EstimatorConfig(track=False))
    points, score = torch.from_numpy(mesh.vertices), np.zeros(4)
    metric = add if package.symmetry.is_trivial else adds
    for frame in validation_frames(mesh, ranges, count, seed):
        assert frame.T_camera_object is not None
        truth = Pose.from_matrix(torch.from_numpy(frame.T_camera_object).float())
        for estimator, at in ((alone, 0), (aligned, 1)):
            estimator.reset()
            found = estimator.estimate(frame.rgb, frame.camera)
            if found.estimate is None:
                continue
            error = float(metric(found.estimate.pose, truth, points)) / package.diameter
            if at == 0:
                score[0] += error < 0.1
            elif found.state is ObjectState.VALID:
                score[1:] += [1.0, error < 0.1, error < 0.05]
    return score / count


def castle(package: ObjectPackage) -> None:
    """Shares of the castle's forty images, each searched by itself."""
    data = Castle()
    points, errors = torch.from_numpy(data.mesh.vertices), np.full((2, len(data.images)), np.nan)
    for row, align in enumerate((False, True)):
        estimator = PoseEstimator(package, EstimatorConfig(align=align, track=False))
        states = []
        for column, (image, truth) in enumerate(zip(data.images, data.truths)):
            estimator.reset()
            found = estimator.estimate(image, data.camera)
            states.append(found.state.value)
            if found.estimate is not None:
                errors[row, column] = float(add(found.estimate.pose, truth, points)) / data.mesh.diameter
        valid = np.array([state == ObjectState.VALID.value for state in states])
        within = " / ".join(f"{100.0 * (errors[row] < limit).mean():.0f}" for limit in (0.1, 0.05, 0.02))
        wrong = int((errors[row][valid] > 0.1).sum())
        print(
            f"castle, {'aligned' if align else 'network alone'}: valid {100.0 * valid.mean():.0f} %, ADD within "
            f"10 / 5 / 2 %: {within}; valid and wrong {wrong} of {len(states)}",
            flush=True,
        )


def absent(package: ObjectPackage, count: int) -> None:
    """What is valid where the castle is not: ``count`` images of each kind."""
    tally: dict[str, list[float]] = {}
    estimator = PoseEstimator(package, EstimatorConfig(track=False))
    for kind, image in itertools.chain(clutter(0, count), real(count, without=CASTLE.name)):
        estimator.reset()
        begin = time.process_time()
        found = estimator.estimate(image, CAMERA)
        seconds = time.process_time() - begin
        tally.setdefault(kind, []).append(-seconds if found.state is ObjectState.VALID else seconds)
    for kind, times in tally.items():
        valid, median = sum(each < 0.0 for each in times), np.median(np.abs(times))
        print(f"castle is not there, {kind}: valid {valid} of {len(times)}, {median:.2f} s an image", flush=True)


def parts(folder: Path, minutes: float, images: int) -> None:
    """Bracket, flange and bent sheet as PLY; trained for any colour and measured, if minutes are given."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in PARTS.items():
        file = folder / f"{name}.ply"
        save_mesh(make(), file)
        options = ["--out", str(folder / name), "--colour", "any", "--minutes", f"{minutes or 20.0:g}"]
        options += ["--symmetries", SYMMETRIES[name]] if name in SYMMETRIES else []
        print("pnp-ros train", file, *options, flush=True)
        if minutes > 0.0:
            run_command(["train", str(file), *options])
            by_colour(load_object_package(folder / name), images)


def by_colour(package: ObjectPackage, images: int) -> None:
    """The table."""
    print("colour | material | network < 10 % | aligned: valid, < 10 %, < 5 %")
    rows = []
    for c, (name, rgb) in enumerate(COLOURS.items()):
        for m, (material, paint) in enumerate(MATERIALS.items()):
            rng = np.random.default_rng(100 * c + m)
            texture = np.clip(paint(np.array(rgb, np.float64), rng), 0, 255).astype(np.uint8)
            mesh = painted_on(package.mesh, texture, rng)
            rows.append(100.0 * recall(package, mesh, images, 7000 + 100 * c + m))
            print(f"{name} | {material} | " + " | ".join(f"{value:.0f}" for value in rows[-1]), flush=True)
    table = np.array(rows).reshape(len(COLOURS), len(MATERIALS), 4)
    print("\ncolour | " + "all materials")
    for name, values in zip(COLOURS, table.mean(1)):
        print(f"{name} | " + " | ".join(f"{value:.0f}" for value in values))
    print("all | " + " | ".join(f"{value:.0f}" for value in table.mean((0, 1))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", help="PACKAGE, castle PACKAGE, or parts FOLDER")
    parser.add_argument(
        "--images", type=int, default=8, help="for each colour and material, or each kind without the castle"
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="of each part's training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    *kind, place = arguments.what
    if kind == ["castle"]:
        castle(load_object_package(place))
        absent(load_object_package(place), arguments.images)
    elif kind == ["parts"]:
        parts(Path(place), arguments.minutes, arguments.images)
    else:
        by_colour(load_object_package(place), arguments.images)


if __name__ == "__main__":
    main()
