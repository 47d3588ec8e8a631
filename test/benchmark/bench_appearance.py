"""Is an object found whatever its colour? Recall by colour and material, by the network alone and aligned.

The images are rendered with materials, light and backgrounds that no training draws (``rendering/unseen.py``), in
eight colours; the object's package is one of ``pnp-ros train MESH --colour any``. All colours are seen in the same
scenes, so that they differ by their colour alone.

    PYTHONPATH=test python test/benchmark/bench_appearance.py objects/bracket [--images 16]
    PYTHONPATH=test python test/benchmark/bench_appearance.py castle objects/castle

``castle`` is measured on its forty images with exact poses instead. ``parts`` trains four CAD-like meshes and measures
each; with ``--minutes 0`` it only writes them and says how to train them:

    PYTHONPATH=test python test/benchmark/bench_appearance.py parts out/parts [--minutes 20]

``gates`` needs no training: noisy keypoints stand in for a network, and it is told what becomes of right poses.

    PYTHONPATH=test python test/benchmark/bench_appearance.py gates [--images 16]
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from benchmark.aligned_renders import CASTLE, IN_90, Castle, binomial
from benchmark.bench_templates import SYMMETRIES, package_of
from benchmark.bench_verdict import CAMERA, clutter, real
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.cli.main import main as run_command
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import box_from_pose
from pnp_ros.detection.detector import Detection
from pnp_ros.evaluation.pose_error import add
from pnp_ros.geometry import covariance, se3
from pnp_ros.objects.keypoints import select_keypoints
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mesh_files import save_mesh
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.rendering.domain_randomisation import RandomisationConfig, with_views
from pnp_ros.rendering.unseen import PAINTS, painted
from pnp_ros.rendering.validation_frames import validation_frames
from pnp_ros.sources.source import Sighting
from pnp_ros.types import Correspondences, Pose
from synthetic.cad_parts import PARTS

_RIGHT = 0.1  # of the diameter
_NOISE = 0.05  # of the object's box
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


@dataclass(frozen=True)
class Outcome:
    """Of one image: errors as shares of the diameter, infinite without a pose; NaN where it was not aligned.

    Args:
        alone: of the network's best pose, whatever is thought of it.
        aligned: of the pose that is given out, valid or not.
        valid: whether it is.
        reason: why not.
        inside: whether the truth lies in the 90 % region of the pose that is given out.
    """

    alone: float
    aligned: float = math.nan
    valid: bool = False
    reason: str = ""
    inside: bool = False


class NoisyKeypoints:
    """A source that knows where the object is, about as well as a network of 20 minutes does."""

    name, crop_margin = "keypoints", None

    def __init__(self, mesh: TriangleMesh) -> None:
        self._points, self._extent = torch.from_numpy(select_keypoints(mesh, 16)), torch.from_numpy(mesh.extreme_points)
        self._generator = torch.Generator().manual_seed(0)

    def tell(self, camera: Camera, truth: Pose) -> None:
        """What the next image shows."""
        self._pixels, self._box = (
            camera.project(truth.transform(self._points)),
            box_from_pose(camera, truth, self._extent),
        )

    def places(self, image: NDArray[np.uint8], count: int) -> list[Detection]:
        return [Detection(self._box, 1.0)]

    def look(self, image: NDArray[np.uint8], camera: Camera, where: Box | Pose) -> Sighting:
        sigma = _NOISE * max(self._box.width, self._box.height)
        noisy = self._pixels + sigma * torch.randn(self._pixels.shape, generator=self._generator)
        return Sighting(Correspondences(noisy, self._points, torch.full_like(noisy, 1.0 / sigma)), 1.0, self._box)


def outcomes(
    package: ObjectPackage,
    mesh: TriangleMesh,
    count: int,
    aligned: int,
    seed: int,
    source: NoisyKeypoints | None = None,
) -> list[Outcome]:
    """Of ``count`` images of the painted ``mesh``, the first of which are aligned, too; the seed makes the scenes."""
    ranges = replace(with_views(RandomisationConfig(), package.views), negatives=0.0, occlusion=0.3)
    sources = None if source is None else [source]
    alone = PoseEstimator(package, EstimatorConfig(align=False, track=False, hypotheses=False), sources=sources)
    whole = PoseEstimator(package, EstimatorConfig(track=False), sources=sources)
    points, told = torch.from_numpy(mesh.vertices), []
    for index, frame in enumerate(validation_frames(mesh, ranges, count, seed, unseen=True)):
        assert frame.T_camera_object is not None
        truth = Pose.from_matrix(torch.from_numpy(frame.T_camera_object).float())

        def error(found: ObjectEstimate, truth: Pose = truth) -> float:
            if found.estimate is None:
                return math.inf
            pose = package.symmetry.canonicalise(found.estimate.pose, truth)
            return float(add(pose, truth, points)) / package.diameter

        if source is not None:
            source.tell(frame.camera, truth)
        first = error(alone.estimate(frame.rgb, frame.camera))
        if index >= aligned:
            told.append(Outcome(first))
            continue
        whole.reset()
        found = whole.estimate(frame.rgb, frame.camera)
        inside = False
        if found.estimate is not None:
            pose = package.symmetry.canonicalise(found.estimate.pose, truth)
            off = se3.local(pose, truth).double()
            inside = float(covariance.nees(off, found.estimate.covariance.double())) < IN_90
        told.append(Outcome(first, error(found), found.state is ObjectState.VALID, found.reason, inside))
    return told


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


def parts(folder: Path, minutes: float, images: int, aligned: int) -> None:
    """Bracket, flange, bent sheet and the demo's object without its texture, as PLY; trained and measured, if told."""
    folder.mkdir(parents=True, exist_ok=True)
    meshes = {name: make() for name, make in PARTS.items()}
    demo = demo_mesh()
    meshes["stripped"] = TriangleMesh(demo.vertices, demo.faces)
    for name, mesh in meshes.items():
        file = folder / f"{name}.ply"
        save_mesh(mesh, file)
        options = ["--out", str(folder / name), "--colour", "any", "--minutes", f"{minutes or 20.0:g}"]
        options += ["--symmetries", SYMMETRIES[name]] if name in SYMMETRIES else []
        print("pnp-ros train", file, *options, flush=True)
        if minutes > 0.0:
            run_command(["train", str(file), *options])
            by_colour(load_object_package(folder / name), images, aligned)


def gates(images: int) -> None:
    """What becomes of poses that are about right."""
    with tempfile.TemporaryDirectory() as folder:
        for name, make in PARTS.items():
            package = package_of(name, make(), Path(folder))
            source, told = NoisyKeypoints(package.mesh), []
            for m, paint in enumerate(PAINTS):
                mesh = painted(package.mesh, paint, np.array(COLOURS["red"], np.float64), np.random.default_rng(m))
                each = images // len(PAINTS)
                told += outcomes(package, mesh, each, each, 7000 + m, source)
            print(_row(name, told), flush=True)
            _why(told)


def by_colour(package: ObjectPackage, images: int, aligned: int) -> None:
    """The table, and whether colour matters: all colours are seen in the same scenes."""
    told: dict[str, list[Outcome]] = {name: [] for name in COLOURS}
    seen, tried = len(PAINTS) * images, len(PAINTS) * aligned
    print(f"colour | network alone < 10 % of {seen} | of {tried} aligned: < 10 %, valid, wrong | in the 90 % region")
    for c, (name, rgb) in enumerate(COLOURS.items()):
        for m, paint in enumerate(PAINTS):
            mesh = painted(package.mesh, paint, np.array(rgb, np.float64), np.random.default_rng(100 * c + m))
            told[name] += outcomes(package, mesh, images, aligned, 7000 + m)
        print(_row(name, told[name]), flush=True)
    print()
    for m, paint in enumerate(PAINTS):
        print(_row(paint, [one for rows in told.values() for one in rows[m * images : (m + 1) * images]]))
    every = [one for rows in told.values() for one in rows]
    print(_row("all", every))
    _spread("network alone", np.array([[one.alone < _RIGHT for one in rows] for rows in told.values()]))
    if aligned:
        shown = [[one for one in rows if not math.isnan(one.aligned)] for rows in told.values()]
        _spread("valid and right", np.array([[one.valid and one.aligned < _RIGHT for one in rows] for rows in shown]))
        _why([one for rows in shown for one in rows])


def _row(name: str, told: Sequence[Outcome]) -> str:
    """A line of the table, each share with its 95 % interval."""
    alone = binomial(sum(one.alone < _RIGHT for one in told), len(told))
    shown = [one for one in told if not math.isnan(one.aligned)]
    if not shown:
        return f"{name} | {alone}"
    right = binomial(sum(one.aligned < _RIGHT for one in shown), len(shown))
    valid = [one for one in shown if one.valid]
    wrong = sum(one.aligned >= _RIGHT for one in valid)
    inside = f"{sum(one.inside for one in valid)} of {len(valid)}"
    return f"{name} | {alone} | {right}, {binomial(len(valid), len(shown))}, {wrong} | {inside}"


def _spread(what: str, found: NDArray[np.bool_]) -> None:
    """How far best and worst colour are apart, and would be if no colour mattered, by ``found`` (colours, scenes).

    Eight shares of 64 images are never equal. Where no colour matters, the colours of one scene can be exchanged.
    """
    rng, shares = np.random.default_rng(0), found.mean(1)
    chance = np.array([np.ptp(rng.permuted(found, axis=0).mean(1)) for _ in range(2000)])
    apart, as_many = np.ptp(shares), (chance >= np.ptp(shares) - 1e-9).mean()
    print(
        f"{what}: best and worst colour are {100.0 * apart:.0f} points apart; with the colours of each scene ", end=""
    )
    print(f"exchanged by chance {100.0 * np.median(chance):.0f}, as many or more in {100.0 * as_many:.0f} %")


def _why(told: Sequence[Outcome]) -> None:
    """What alignment makes of the networks' poses, and why what is right is not valid."""
    near = [one for one in told if one.alone < _RIGHT]
    print(f"network alone right: {len(near)} of {len(told)}; of these aligned: ", end="")
    print(f"right and valid {sum(one.valid and one.aligned < _RIGHT for one in near)}, ", end="")
    print(f"right and not valid {sum(not one.valid and one.aligned < _RIGHT for one in near)}, ", end="")
    print(f"no longer right {sum(one.aligned >= _RIGHT for one in near)}")
    gained = sum(one.aligned < _RIGHT for one in told if one.alone >= _RIGHT)
    print(f"network alone not right: {len(told) - len(near)}; right when aligned: {gained}")
    reasons = Counter(re.sub(r"[-+]?[0-9][0-9.]*", "N", one.reason) for one in near if not one.valid)
    for reason, count in reasons.most_common():
        print(f"  not valid though the network is right, {count}: {reason}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", help="PACKAGE, castle PACKAGE, parts FOLDER, or gates")
    parser.add_argument(
        "--images", type=int, default=16, help="for each colour and material, or each kind without the castle"
    )
    parser.add_argument("--aligned", type=int, default=3, help="so many of them are aligned, too")
    parser.add_argument("--minutes", type=float, default=20.0, help="of each part's training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    *kind, place = arguments.what
    if kind == ["castle"]:
        castle(load_object_package(place))
        absent(load_object_package(place), arguments.images)
    elif place == "gates":
        gates(arguments.images)
    elif kind == ["parts"]:
        parts(Path(place), arguments.minutes, arguments.images, arguments.aligned)
    else:
        by_colour(load_object_package(place), arguments.images, arguments.aligned)


if __name__ == "__main__":
    main()
