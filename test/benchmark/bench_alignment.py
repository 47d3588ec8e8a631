"""How exact alignment is, how sure it says to be, how far it reaches and what it costs.

    PYTHONPATH=test python test/benchmark/bench_alignment.py castle coverage head_on --problems 40

``castle`` compares with ``cv2.rapid`` in the same run where OpenCV has it (opencv-contrib, in an environment of its
own); ``networks`` takes a package that has some. Shares are of all images, ADD relative to the diameter. CPU time of
one thread; quote ratios from loaded machines. What is refused, and what is not: ``bench_verdict.py``.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from benchmark.aligned_renders import (
    CASTLE,
    IN_90,
    WRONG,
    Castle,
    FirstSight,
    add,
    binomial,
    errors,
    nees_of,
    objects,
    run,
    shares,
    start_of,
)
from benchmark.parts import chosen
from numpy.typing import NDArray

from pnp_ros import EstimatorConfig, PoseEstimator, load_object
from pnp_ros.alignment import regions as alignment_regions
from pnp_ros.alignment.aligner import Aligner, Alignment, start_at
from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.evaluation.consistency import conformal_factor
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.pipeline.onboarding import onboard
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.rendering.backgrounds import BackgroundSource
from pnp_ros.rendering.domain_randomisation import RandomisationConfig, with_views
from pnp_ros.rendering.materials import MESH
from pnp_ros.rendering.simulation import SimulatedScene
from pnp_ros.rendering.validation_frames import validation_frames
from pnp_ros.types import Pose
from synthetic.cad_parts import PARTS
from synthetic.printed_box import printed_box
from synthetic.scenes import CAMERA, EXACT, Errors, facing, perturbed, scenes

# its images have pixel centres at half integers, its camera file is read with integer ones: half a pixel of doubt
KNOWN = AlignmentConfig(focal_sigma=0.0, centre_sigma=0.5, size_sigma=0.0, shape_sigma=0.0)


def castle(problems: int) -> None:
    data = Castle()
    orders = {"forwards": slice(None), "backwards": slice(None, None, -1), "every 2nd": slice(0, None, 2)}
    orders["every 4th"] = slice(0, None, 4)
    for name, order in orders.items():
        truths, images = data.truths[order], data.images[order]
        step = max(float((a.translation - b.translation).norm()) for a, b in itertools.pairwise(truths))
        for tracker in (_ours(data, step), *_rapids(data)):
            missed = [add(data.mesh, pose, truth) for pose, truth in zip(tracker(images, truths[0]), truths)]
            print(f"castle {name:10} {tracker.__name__:15} {shares(missed)}", flush=True)
    sight = FirstSight(data.mesh, KNOWN)
    for degrees, share in ((5.0, 0.03), (10.0, 0.05), (20.0, 0.08)):
        found = []
        for seed, (image, truth) in enumerate(list(zip(data.images, data.truths))[:problems]):
            found.append((sight(image, data.camera, start_of(truth, degrees, share, seed)), truth))
        print(f"castle each image from {degrees:.0f} deg, {share:.0%}: {shares(errors(data.mesh, found))}")
        report_consistency("  with mesh and focal length taken as exact, centre to 0.5 px", found)


def _ours(data: Castle, step: float) -> Callable:
    def aligned(images: list[NDArray], first: Pose) -> list[Pose]:
        aligner, start, poses = Aligner(data.mesh), start_of(first, 5.0, 0.03, 0), []
        for image in images:
            found = aligner.align(image, data.camera, start)
            poses.append(found.estimate.pose)
            start = start_at(found.estimate.pose, max(step, 0.01) / 2, 0.06)
        return poses

    return aligned


def _rapids(data: Castle) -> list[Callable]:
    """Trackers of OpenCV's contrib module, where there is one."""
    if not hasattr(cv2, "rapid"):
        print("cv2.rapid: not in this OpenCV")
        return []
    intrinsics = data.camera.matrix().numpy().astype(np.float64)
    vertices, faces = data.mesh.vertices, data.mesh.faces.astype(np.int32)

    def follow(kind: str) -> Callable:
        def tracked(images: list[NDArray], first: Pose) -> list[Pose]:
            tracker = getattr(cv2.rapid, f"{kind}_create")(vertices, faces)
            start = perturbed(first, 5.0, 0.03, 0)
            rvec = cv2.Rodrigues(start.rotation.numpy().astype(np.float64))[0]
            tvec, poses = start.translation.numpy().astype(np.float64).reshape(3, 1), []
            for image in images:
                until = (cv2.TERM_CRITERIA_MAX_ITER | cv2.TERM_CRITERIA_EPS, 20, 1e-4)
                try:
                    _, rvec, tvec = tracker.compute(image, 200, 30, intrinsics, rvec, tvec, until)[:3]
                except cv2.error:  # it lost the object and asserts; the last pose stays
                    tracker.clearState()
                rotation = torch.from_numpy(cv2.Rodrigues(rvec)[0]).float()
                poses.append(Pose(rotation, torch.from_numpy(np.asarray(tvec)).float().reshape(3)))
            return poses

        tracked.__name__ = f"cv2 {kind}"
        return tracked

    return [follow(kind) for kind in ("Rapid", "OLSTracker", "GOSTracker")]


ANGLES, MOVES = (0, 5, 10, 15, 20, 30, 40), (0.0, 0.03, 0.05, 0.1, 0.2)
BASIN = Path(__file__).parents[2] / "out" / "basin.png"


def basin(problems: int) -> None:
    """Success: supported by the image and within 2 % of the diameter. Renders with exact camera and mesh."""
    tables: dict[str, NDArray[np.float64]] = {}
    for name, mesh in objects().items():
        drawn = list(scenes(mesh, problems, 21, EXACT))
        kinds = {"contours": AlignmentConfig(texture=False)}
        if name == "textured":
            kinds = {"texture": AlignmentConfig(contours=False), **kinds}
        kinds["both" if name == "textured" else "contours and shades"] = AlignmentConfig()
        if name == "untextured":
            del kinds["contours"]  # the outline is that of the textured object
        for kind, config in kinds.items():
            sight = FirstSight(mesh, config)
            print(f"basin, {name} object, {kind}: % by degrees (rows) and share of the distance {MOVES}")
            rows = []
            for angle in ANGLES:
                row = []
                for move in MOVES:
                    found = run(sight, drawn, angle, move)
                    right = [a.evidence.supported and e < 0.02 for (a, _), e in zip(found, errors(mesh, found))]
                    row.append(100.0 * np.mean(right))
                rows.append(row)
                print(f"  {angle:3} deg {' '.join(f'{v:4.0f}' for v in row)}", flush=True)
            tables[f"{name}: {kind}"] = np.array(rows)
    plot_basin(tables, problems)


def plot_basin(tables: dict[str, NDArray[np.float64]], problems: int) -> None:
    """Success by how far the start is off, a panel for each kind of alignment, as :data:`BASIN`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.0 * len(tables), 3.4), layout="constrained")
    for panel, (kind, values) in zip(np.ravel(figure.subplots(1, len(tables), sharey=True)), tables.items()):
        panel.imshow(values, vmin=0.0, vmax=100.0, cmap="viridis", aspect="auto", origin="lower")
        for (row, column), value in np.ndenumerate(values):
            panel.text(column, row, f"{value:.0f}", ha="center", va="center", color="black" if value > 55 else "white")
        panel.set_xticks(range(len(MOVES)), [f"{move:.0%}" for move in MOVES])
        panel.set_yticks(range(len(ANGLES)), [f"{angle}°" for angle in ANGLES])
        panel.set_title(kind, fontsize=10)
        panel.set_xlabel("moved, share of the distance")
    figure.axes[0].set_ylabel("turned")
    figure.suptitle(f"% of {problems} starts that end within 2 % of the diameter and are supported", fontsize=10)
    BASIN.parent.mkdir(exist_ok=True)
    FigureCanvasAgg(figure).print_figure(BASIN, dpi=80)
    print(f"basin: {BASIN}")


def report_consistency(name: str, found: Sequence[tuple[Alignment, Pose]]) -> None:
    used = [(alignment, truth) for alignment, truth in found if alignment.evidence.supported]
    nees = np.array([nees_of(*pair) for pair in used])
    sigma = np.array([alignment.estimate.covariance.diagonal().sqrt().numpy() for alignment, _ in used])
    inside = binomial(int((nees < IN_90).sum()), len(nees))
    x, z, turn = 1e3 * np.median(sigma[:, 0]), 1e3 * np.median(sigma[:, 2]), np.degrees(np.median(sigma[:, 3:]))
    size = f"{x:.1f} {z:.1f} mm {turn:.2f} deg"
    factor = conformal_factor(torch.from_numpy(nees))
    print(
        f"{name}: valid {len(used)} of {len(found)}, in the 90 % region {inside}, NEES mean {nees.mean():.1f}", end=""
    )
    print(f" median {np.median(nees):.1f}; sigma of x, z, rotation {size}; conformal factor {factor:.2f}", flush=True)


def coverage(problems: int) -> None:
    """Camera (0.5 %, 3 px), mesh (scale and shape 1 %), light, blur and noise off by more than the starts tell."""
    for name, mesh in objects().items():
        for hidden in (0.0, 0.4):
            found = run(FirstSight(mesh), list(scenes(mesh, problems, 41, Errors(occlusion=hidden))), 5.0, 0.03)
            print(f"coverage, {name}, up to {hidden:.0%} hidden: {shares(errors(mesh, found))}")
            report_consistency("  regions", found)


def head_on(problems: int) -> None:
    """As ``coverage``, of boxes of which one side is seen within ten degrees of head on; camera and mesh exact, too."""
    boxes = {"printed box": printed_box(5), "plain box": dataclasses.replace(printed_box(5), uv=None, texture=None)}
    for (name, mesh), (kind, off) in itertools.product(boxes.items(), (("exact", EXACT), ("off", Errors()))):
        rng = np.random.default_rng(61)
        found = run(
            FirstSight(mesh), list(scenes(mesh, problems, 62, off, functools.partial(facing, rng=rng))), 2.0, 0.01
        )
        print(f"head_on, {name}, camera and mesh {kind}: {shares(errors(mesh, found))}")
        report_consistency("  regions", found)


REGIONS: dict[str, tuple[Callable[[], TriangleMesh], int]] = {  # objects, and the seed of their renders
    "textured": (lambda: objects()["textured"], 81),
    "box": (lambda: printed_box(0), 82),
    "untextured": (lambda: objects()["untextured"], 83),
    **{name: (make, 84 + k) for k, (name, make) in enumerate(PARTS.items()) if name != "flange"},  # it is symmetric
}


def regions(problems: int) -> None:
    """The factors of :mod:`pnp_ros.alignment.regions`: of the covariance as it is calculated, by category.

    From 5 degrees and 3 % off, camera, mesh and light off, up to 0, 30 and 60 % hidden.
    """
    told: dict[tuple[str, str], list[float]] = {}
    for name, (make, seed) in REGIONS.items():
        mesh = make()
        sight, own = FirstSight(mesh), dict[tuple[str, str], list[float]]()
        for hidden in (0.0, 0.3, 0.6):
            for found, truth in run(sight, list(scenes(mesh, problems, seed, Errors(occlusion=hidden))), 5.0, 0.03):
                if found.evidence.supported:
                    kind = alignment_regions.category(found.evidence)
                    nees = alignment_regions.FACTORS[kind] * nees_of(found, truth)
                    own.setdefault(kind, []).append(nees)
                    told.setdefault(kind, []).append(nees)
        for kind, values in sorted(own.items()):
            print(f"regions, {name}, {', '.join(kind)}: {_region(values, alignment_regions.FACTORS[kind])}", flush=True)
    for kind, values in sorted(told.items()):
        print(f"regions, all objects, {', '.join(kind)}: {_region(values, alignment_regions.FACTORS[kind])}")


def _region(values: Sequence[float], factor: float) -> str:
    """Of NEES as calculated: their conformal factor; and what the stored one makes of them."""
    nees = np.array(values) / factor
    inside = binomial(int((nees < IN_90).sum()), len(nees))
    return (
        f"factor {conformal_factor(torch.tensor(values)):.2f}, stored {factor:.2f}: {inside} of {len(nees)} inside,"
        f" mean NEES {np.mean(values):.1f} -> {nees.mean():.1f}, above {WRONG:.0f}: {(np.array(values) > WRONG).sum()}"
        f" -> {(nees > WRONG).sum()}"
    )


DEMO = Path(__file__).parents[2] / "config" / "objects" / "demo"
_WORSE = 0.02  # of the diameter


def networks(problems: int, folder: Path) -> None:
    """What alignment makes of a network's poses, each image by itself: held-out renders of a package's own training.

    Up to 60 % of the object is hidden. Its colours are those it was trained for.
    """
    package = load_object(folder)
    estimators = [PoseEstimator(package, EstimatorConfig(sources=("keypoints",), align=on)) for on in (False, True)]
    ranges = with_views(
        RandomisationConfig(negatives=0.0, occlusion=0.7, min_visible=0.4, colour=tuple(package.colour) or (MESH,)),
        package.views,
    )
    pairs, valid = list[tuple[float, float]](), [0, 0]
    for image in validation_frames(package.mesh, ranges, problems, seed=91):
        assert image.T_camera_object is not None
        truth, both = Pose.from_matrix(torch.from_numpy(image.T_camera_object).float()), list[float]()
        for k, estimator in enumerate(estimators):
            estimator.reset()
            found = estimator.estimate(image.rgb, image.camera)
            if found.state is ObjectState.VALID and found.estimate is not None:
                valid[k] += 1
                pose = found.estimate.pose
                both.append(add(package.mesh, pose, package.symmetry.canonicalise(truth, pose)))
        if len(both) == 2:
            pairs.append((both[0], both[1]))
    before, after = np.array(pairs).reshape(-1, 2).T
    worse = binomial(int((after > before + _WORSE).sum()), len(pairs))
    print(f"networks, {package.name}: valid {valid[0]} -> {valid[1]} of {problems}; where both are: median ADD", end="")
    print(
        f" {100 * np.median(before):.2f} -> {100 * np.median(after):.2f} %, worse by {_WORSE:.0%}: {worse}", flush=True
    )


def cost(problems: int) -> None:
    """CPU milliseconds of one thread, images of 640x480: of a followed object, and of one alignment by its start."""
    for name, mesh in objects().items():
        aligner, times = Aligner(mesh), {"near (2 deg, 0.5 %)": [], "beside (5 deg, 3 %)": [], "far (20 deg, 8 %)": []}
        for seed, scene in enumerate(scenes(mesh, problems, 51, EXACT)):
            aligner.forget()
            aligner.align(scene.image, scene.camera, start_of(scene.pose, 1.0, 0.01, seed))
            starts = [start_at(perturbed(scene.pose, 2.0, 0.005, seed), 0.03 * mesh.diameter, 0.05)]
            starts += [start_of(scene.pose, 5.0, 0.03, seed), start_of(scene.pose, 20.0, 0.08, seed)]
            for start, values in zip(starts, times.values()):
                begin = time.process_time()
                aligner.align(scene.image, scene.camera, start)
                values.append(1e3 * (time.process_time() - begin))
        for kind, values in {**followed(mesh, 5 * problems), **times}.items():
            print(
                f"cost, {name}, {kind}: p50 {np.median(values):.1f} ms, p99 {np.quantile(values, 0.99):.1f} ms",
                flush=True,
            )


def followed(mesh: TriangleMesh, count: int) -> dict[str, list[float]]:
    """CPU milliseconds from image to pose, and between images, of an object that moves by, followed at 30 a second."""
    to_pose, between = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        estimator = PoseEstimator(onboard(Path(folder) / "object", "object", mesh).package)
    scene, found = SimulatedScene(mesh, CAMERA), None
    for index in range(count):
        frame = scene.frame(index, 30.0)
        if frame.pose is None or frame.visible < 0.3:
            continue
        if found is None or found.source != "tracking" or found.state is not ObjectState.VALID:
            estimator.follow(Pose(frame.pose.rotation.float(), frame.pose.translation.float()), (index - 1) / 30.0)
        begin = time.process_time()
        found = estimator.estimate(frame.rgb, CAMERA, index / 30.0)
        if found.source == "tracking":
            to_pose.append(1e3 * (time.process_time() - begin))
        begin = time.process_time()
        estimator.rest()
        between.append(1e3 * (time.process_time() - begin))
    return {f"followed in {len(to_pose)} images, image to pose": to_pose[1:], "followed, between images": between[1:]}


def searches(problems: int) -> None:
    """CPU milliseconds of one thread to search 640x480 for the textured object: where it is not, and where it is."""
    mesh, backgrounds, rng = objects()["textured"], BackgroundSource(), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        estimator = PoseEstimator(onboard(Path(folder) / "object", "object", mesh).package)
    without = [backgrounds.image(CAMERA.width, CAMERA.height, rng) for _ in range(problems)]
    sets = {"in vain": without, "that finds it": [scene.image for scene in scenes(mesh, problems, 71)]}
    for name, images in sets.items():
        times, valid = list[float](), 0
        for image in images:
            spent = list[float]()
            for _ in range(3):  # the least: what else the machine does is not the search's
                estimator.reset()
                begin = time.process_time()
                found = estimator.estimate(image, CAMERA)
                spent.append(1e3 * (time.process_time() - begin))
            valid += found.state is ObjectState.VALID
            times.append(min(spent))
        p50, p99 = np.quantile(times, (0.5, 0.99))
        print(f"a search {name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms; {valid} of {len(images)} valid", flush=True)


def main() -> None:
    parts: dict[str, Callable[[int], None]] = {
        "castle": castle,
        "basin": basin,
        "coverage": coverage,
        "head_on": head_on,
        "regions": regions,
        "cost": cost,
        "searches": searches,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}, networks; default all")
    parser.add_argument("--problems", type=int, default=40, help="images for each figure")
    parser.add_argument("--object", type=Path, default=DEMO, help="package with networks, for networks")
    arguments = parser.parse_args()
    parts["networks"] = lambda problems: networks(problems, arguments.object)
    for _, part in chosen(parser, parts, arguments.parts, {"castle": CASTLE}):
        part(arguments.problems)


if __name__ == "__main__":
    main()
