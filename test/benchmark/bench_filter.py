"""What the filter, several cameras and several views gain: on a real video where the cube stands still, and simulated.

    PYTHONPATH=test python test/benchmark/bench_filter.py [--runs 30]
        [--only motions moving rendered video cameras rig views]

The video is ``../shared/data/cube`` beside the checkout; that part is left out where it is absent.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from aligned_renders import IN_90
from bench_scene import CAMERA
from filtering.test_pose_filter import LATENCY, RATE, Seen, steady, still, swinging
from filtering.test_pose_filter import SIGMA as NOISE

from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.pose_error import add
from pnp_ros.filtering.localization import View, localize
from pnp_ros.filtering.pose_filter import FilteredPose, PoseFilter
from pnp_ros.filtering.rig import Rig
from pnp_ros.geometry import covariance, se3, so3
from pnp_ros.io.camera_info import read_camera_info
from pnp_ros.io.images import read_images
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mesh_files import load_mesh
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.onboarding import onboard
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.pipeline.tracking import Track
from pnp_ros.rendering.backgrounds import random_background
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose, PoseEstimate
from synthetic.printed_box import printed_box

CUBE = Path(__file__).parents[2].parent / "shared/data/cube"
STILL = ((30, 75), (415, 450))  # frames in which the position hardly moves
SIGMA = torch.tensor([0.001, 0.001, 0.006, 0.02, 0.02, 0.008], dtype=torch.float64)
GAP = 0.499  # seconds: as long as the filter predicts
UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


def spread(poses: list[Pose]) -> tuple[float, float]:
    """Of still poses about their mean: millimetres and degrees, root mean square."""
    positions = torch.stack([pose.translation for pose in poses]).double()
    u, _, v = torch.linalg.svd(torch.stack([pose.rotation for pose in poses]).double().mean(0))
    turns = torch.stack([so3.angle_between(pose.rotation.double(), u @ v) for pose in poses])
    away = (positions - positions.mean(0)).square().sum(-1).mean().sqrt()
    return 1e3 * float(away), math.degrees(float(turns.square().mean().sqrt()))


def video() -> None:
    """Spread of single and of filtered poses where the cube stands still."""
    if not CUBE.is_dir():
        print("video: no ../shared/data/cube")
        return
    with tempfile.TemporaryDirectory() as folder:
        package = onboard(Path(folder) / "cube", "cube", load_mesh(CUBE / "cube.obj")).package
        estimator, camera = PoseEstimator(package), read_camera_info(CUBE / "camera_info.yaml").camera()
        motion, single, filtered = PoseFilter(), dict[int, Pose](), dict[int, Pose]()
        track, ahead = Track(package.symmetry, package.diameter), dict[str, list[torch.Tensor]](track=[], filter=[])
        foreseen, across = dict[int, FilteredPose](), list[float]()  # by image, and NEES of what that image shows
        for k, (stamp, rgb) in enumerate(read_images(CUBE / "cube_video.mp4")):
            found = estimator.estimate(rgb, camera, stamp)
            if found.state is ObjectState.VALID and found.estimate is not None:
                single[k] = found.estimate.pose
                steady, mixed = track.expect(stamp), motion.predict(stamp)
                if steady is not None and mixed is not None:
                    ahead["track"].append(se3.local(_double(found.estimate.pose), _double(steady)))
                    ahead["filter"].append(se3.local(_double(found.estimate.pose), mixed.pose))
                track.follow(found.estimate, stamp)
                motion.update(found.estimate, stamp)
                if (expected := foreseen.pop(k, None)) is not None:
                    off = se3.local(_double(found.estimate.pose), expected.pose)
                    across.append(float(covariance.nees(off, expected.covariance)))
                if (expected := motion.predict(stamp + GAP)) is not None:
                    foreseen[k + round(GAP * RATE)] = expected
            if (told := motion.predict(stamp)) is not None:
                filtered[k] = told.pose
    print("the next image's pose, expected by | off by mm, median, 95 %, 99 % | deg")
    for name, each in ahead.items():
        moved, turned = torch.stack(each).split(3, dim=-1)
        sizes = (1e3 * moved.norm(dim=-1), turned.norm(dim=-1).rad2deg())
        print(
            name,
            *(", ".join(f"{x:.2f}" for x in np.percentile(size.numpy(), [50, 95, 99])) for size in sizes),
            sep=" | ",
        )
    within = 100 * (np.array(across) < IN_90).mean()
    print(f"{GAP:.2f} s ahead, {len(across)} poses: mean NEES {np.mean(across):.1f}, {within:.0f} % within 90 %")
    print("cube stands still, frames | single poses mm, deg | filtered mm, deg | the same about the hand's slow motion")
    for first, last in STILL:
        parts = [[poses[k] for k in range(first, last) if k in poses] for poses in (single, filtered)]
        rows = [spread(part) for part in parts] + [_unsteadiness(part) for part in parts]
        print(f"{first}-{last} | " + " | ".join(f"{mm:.3f}, {degrees:.3f}" for mm, degrees in rows), flush=True)


def _double(pose: Pose) -> Pose:
    return pose.to("cpu", torch.float64)


def _unsteadiness(poses: list[Pose]) -> tuple[float, float]:
    """As :func:`spread`, about a cubic of time in place of the mean: a hand does not hold still."""
    away = torch.stack([se3.local(poses[0], pose) for pose in poses]).double().numpy()
    times = np.linspace(-1.0, 1.0, len(away))
    left = away - np.polynomial.polynomial.polyvander(times, 3) @ np.polynomial.polynomial.polyfit(times, away, 3)
    mm, rad = (float(np.sqrt(np.square(left[:, part]).sum(1).mean())) for part in (slice(3), slice(3, 6)))
    return 1e3 * mm, math.degrees(rad)


def motions(runs: int) -> None:
    """Simulated poses at 30 Hz, half of their variance common to all, told for 0.1 s after the image."""
    print("motion | error, filtered / unfiltered: position, turn | spread | mean NEES | within 90 %")
    for path in (still, steady, swinging):
        raw, filtered, squares, ratios = [], [], [], []
        for seed in range(runs):
            motion, spreads = PoseFilter(), (list[torch.Tensor](), list[torch.Tensor]())
            for stamp, pose in Seen(path, seed).poses:
                motion.update(PoseEstimate.of(pose, torch.diag(NOISE**2)), stamp)
                told, now = motion.predict(stamp + LATENCY), path(stamp + LATENCY)
                if stamp <= 1.0 or told is None:
                    continue
                for kept, each in zip(spreads, (pose, told.pose)):
                    kept.append(se3.local(now, each))
                squares.append(float(covariance.nees(spreads[1][-1], told.covariance)))
            raw += spreads[0]
            filtered += spreads[1]
            ratios.append(float((torch.stack(spreads[1]).std(0) / torch.stack(spreads[0]).std(0)).mean()))
        error = [torch.stack(each).square().mean(0) for each in (filtered, raw)]
        shares = [float((error[0][part].sum() / error[1][part].sum()).sqrt()) for part in (slice(3), slice(3, 6))]
        inside = np.mean(np.array(squares) < 10.645)
        print(
            f"{path.__name__} | {shares[0]:.2f}, {shares[1]:.2f} | {np.mean(ratios):.2f} | {np.mean(squares):.1f} | "
            f"{100 * inside:.0f} %",
            flush=True,
        )


def moving(runs: int) -> None:
    """A still object before a camera that moves: 300 images, the poses taken into the world.

    What all images have in common is so in the camera's axes: in the world it moves with the camera. The filter is
    told of it, or not.
    """
    print("moving camera, still object, 300 images: share of the variance common to all | spread filtered / single")
    for shared, told_of in ((0.0, False), (0.5, False), (0.5, True)):
        ratios, moves = [], math.sqrt(shared) * torch.diag(NOISE)
        for seed in range(runs):
            generator, motion = torch.Generator().manual_seed(seed), PoseFilter()
            common = math.sqrt(shared) * torch.randn(6, generator=generator, dtype=torch.float64)
            world = Pose(so3.exp(0.2 * UP), torch.tensor([0.1, 0.05, 0.0], dtype=torch.float64))
            single, filtered = list[Pose](), list[Pose]()
            for k in range(300):
                place = camera_at(1.5 * math.sin(k / 60), torch.zeros(3, dtype=torch.float64))
                own = math.sqrt(1.0 - shared) * torch.randn(6, generator=generator, dtype=torch.float64)
                seen = PoseEstimate.of(
                    se3.retract(place.inverse() @ world, NOISE * (common + own)), torch.diag(NOISE**2)
                )
                causes = covariance.turned(moves, place.rotation) if told_of else None
                motion.update(covariance.in_frame(place, seen), k / 30.0, causes)
                if k >= 30 and (told := motion.predict(k / 30.0)) is not None:
                    single.append(place @ seen.pose)
                    filtered.append(told.pose)
            ratios.append(np.divide(spread(filtered), spread(single)))
        position, turn = np.mean(ratios, axis=0)
        name = f"{shared}, the filter is told of it" if told_of else f"{shared}"
        print(f"{name} | position {position:.2f}, turn {turn:.2f}", flush=True)


def rendered(runs: int) -> None:
    """The same on rendered images, 300 a run, of printed boxes; camera and mesh exact, and off as in ``views``.

    First one box and an arc; then as many others, on paths that also rise, come near and look past the box; then as
    many others that the camera goes right round.
    """
    print(
        "rendered, moving camera, still object: box | camera and mesh | single poses spread by mm, deg | "
        "filtered / single: position, turn | without the first two seconds | mean NEES, single, filtered | off by mm, "
        "rms, single, filtered"
    )
    generator = np.random.default_rng(0)
    exact = EstimatorConfig(focal_sigma=0.0, centre_sigma=0.0, size_sigma=0.0, shape_sigma=0.0)
    with tempfile.TemporaryDirectory() as folder, Renderer() as renderer:
        package = onboard(Path(folder) / "box", "box", printed_box(0)).package
        for run, config in itertools.product(range(runs), (exact, EstimatorConfig())):
            name = f"0 | {'exact' if config is exact else 'off'}"
            print(name, _stands(package, renderer, config, generator, _arc(run)), sep=" | ", flush=True)
        paths = {
            seed: _arc(0.7 * seed) if seed % 2 else _wandering(0.7 * seed, 1000 + seed) for seed in range(11, 11 + runs)
        }
        paths |= {seed: _orbit(0.7 * seed) for seed in range(21, 21 + runs)}
        for seed, path in paths.items():
            other = onboard(Path(folder) / f"box{seed}", "box", printed_box(seed)).package
            for config in (exact, EstimatorConfig()):
                name = f"{seed} | {'exact' if config is exact else 'off'}"
                row = _stands(other, renderer, config, np.random.default_rng(seed), path)
                print(name, row, sep=" | ", flush=True)


def _stands(
    package: ObjectPackage,
    renderer: Renderer,
    config: EstimatorConfig,
    generator: np.random.Generator,
    path: Callable[[int], Pose],
) -> str:
    """One row of :func:`rendered`."""
    doubt = config.alignment
    handle = renderer.add(another_mesh(package.mesh, doubt, generator))
    believed, background = believed_camera(doubt, generator), random_background(640, 480, generator)
    world = Pose(so3.exp(torch.from_numpy(generator.uniform(-1.5, 1.5, 3))), torch.zeros(3).double())
    estimator, motion = PoseEstimator(package, config), PoseFilter()
    single, filtered, squares = list[Pose](), list[Pose](), list[list[float]]()
    for k in range(300):
        place = path(k)
        seen = (place.inverse() @ world).to(dtype=torch.float32)
        shot = renderer.render([(handle, seen)], CAMERA, background=background).rgb
        shot = np.clip(shot + generator.normal(0.0, 3.0, shot.shape), 0, 255).astype(np.uint8)
        found = estimator.estimate(shot, believed, k / 30.0)
        if found.state is ObjectState.VALID and found.estimate is not None:
            estimate = covariance.in_frame(place, found.estimate)
            common = None if found.systematic is None else covariance.turned(found.systematic, place.rotation)
            motion.update(estimate, k / 30.0, common)
            if k >= 30 and (told := motion.predict(k / 30.0)) is not None:
                single.append(estimate.pose)
                filtered.append(told.pose)
                both = [(each.pose, each.covariance) for each in (estimate, told)]
                squares.append([float(covariance.nees(se3.local(world, p), c)) for p, c in both])
    mm, degrees = spread(single)
    ratio, later = (np.divide(spread(filtered[first:]), spread(single[first:])) for first in (0, 30))
    away, mean = [_away(each, world) for each in (single, filtered)], np.mean(squares, axis=0)
    return (
        f"{mm:.2f}, {degrees:.2f} | {ratio[0]:.2f}, {ratio[1]:.2f} | {later[0]:.2f}, {later[1]:.2f} | "
        f"{mean[0]:.1f}, {mean[1]:.1f} | {away[0]:.2f}, {away[1]:.2f}"
    )


def _arc(start: float) -> Callable[[int], Pose]:
    """T_world_camera of each image on an arc of 57 degrees, there and back."""
    return lambda k: camera_at(start + 0.5 * math.sin(k / 60), torch.zeros(3, dtype=torch.float64))


def _orbit(start: float) -> Callable[[int], Pose]:
    """T_world_camera of each image on a circle right round, once."""
    return lambda k: camera_at(start + 2.0 * math.pi * k / 300, torch.zeros(3, dtype=torch.float64))


def _wandering(start: float, seed: int) -> Callable[[int], Pose]:
    """T_world_camera of each image: to the side, nearer and farther, up and down, and looking past the middle."""
    generator = np.random.default_rng(seed)
    a, b, c, d = generator.uniform(0.3, 1.0, 4)
    p, q, r, s = generator.uniform(0.0, 6.0, 4)

    def place(k: int) -> Pose:
        t = k / 30.0
        angle, away = start + 0.7 * math.sin(0.6 * a * t + p), 0.75 + 0.15 * math.sin(0.5 * b * t + q)
        eye = [math.cos(angle), math.sin(angle), 0.6 + 0.25 * math.sin(0.7 * c * t + r)]
        target = torch.tensor([0.04 * math.sin(d * t + s), 0.04 * math.cos(d * t), 0.0], dtype=torch.float64)
        return se3.look_at(away * torch.tensor(eye, dtype=torch.float64), target, UP).inverse()

    return place


def _away(poses: list[Pose], truth: Pose) -> float:
    """Distance from the true place, millimetres, root mean square."""
    away = torch.stack([pose.translation - truth.translation for pose in poses])
    return 1e3 * float(away.square().sum(-1).mean().sqrt())


def rig(runs: int) -> None:
    """Rendered images of a box that moves before three cameras, each with an error of its own; then one is turned."""
    generator, doubt = np.random.default_rng(0), AlignmentConfig()
    names = ["camera 0", "camera 1", "camera 2"]
    told: dict[int, list[tuple[float, float]]] = {1: [], 2: [], 3: []}
    named = wrongly = updates = 0
    with tempfile.TemporaryDirectory() as folder, Renderer() as renderer:
        package = onboard(Path(folder) / "box", "box", printed_box(0)).package
        for run in range(runs):
            handle = renderer.add(another_mesh(package.mesh, doubt, generator))
            start = so3.exp(torch.from_numpy(generator.uniform(-1.5, 1.5, 3)))
            cameras = [(believed_camera(doubt, generator), PoseEstimator(package)) for _ in names]
            places = [camera_at(run + 2.1 * k, torch.zeros(3, dtype=torch.float64)) for k in range(len(names))]
            background, rigs = random_background(640, 480, generator), {count: Rig(names[:count]) for count in told}
            bumped, turn = Rig(names), Pose(so3.exp(math.radians(2.0) * UP[[0, 2, 1]]), torch.zeros(3).double())
            for k in range(45):
                number, stamp = k % 3, k / 45.0
                place, (believed, estimator) = places[number], cameras[number]
                truth = Pose(so3.exp(stamp * UP) @ start, torch.tensor([0.2 * stamp - 0.1, 0.0, 0.0]).double())
                seen = (place.inverse() @ truth).to(dtype=torch.float32)
                shot = renderer.render([(handle, seen)], CAMERA, background=background).rgb
                found = estimator.estimate(shot, believed, stamp)
                if found.state is not ObjectState.VALID or found.estimate is None:
                    continue
                estimate = covariance.in_frame(place, found.estimate)
                for count, each in rigs.items():
                    if number < count and (fused := each.update(names[number], estimate, stamp)) and stamp > 0.5:
                        if count == 3:
                            updates, wrongly = updates + 1, wrongly + bool(fused.fused.refused)
                        if fused.fused.estimate is not None:
                            off = se3.local(truth, fused.fused.estimate.pose.to(dtype=torch.float64))
                            square = float(covariance.nees(off, fused.fused.estimate.covariance))
                            told[count].append((float(off[:3].norm()), square))
                off_place = covariance.in_frame(place @ turn, found.estimate) if number == 1 else estimate
                fused = bumped.update(names[number], off_place, stamp)
                named += stamp > 0.5 and fused is not None and names[1] in fused.fused.refused
    print("rendered, moving object: cameras | images | position error mm, mean | mean NEES | within 90 %")
    for count, rows in told.items():
        errors, squares = np.array(rows).T
        inside = 100 * np.mean(squares < 10.645)
        print(f"{count} | {len(rows)} | {1e3 * errors.mean():.2f} | {squares.mean():.1f} | {inside:.0f} %")
    print(f"one of three turned by 2 deg: named in {named} of {updates} images; none turned: one named in {wrongly}")


def believed_camera(doubt: AlignmentConfig, generator: np.random.Generator) -> Camera:
    """CAMERA as it may be told where it is as exact as the configuration says."""
    focal = 600.0 * (1.0 + doubt.focal_sigma * generator.standard_normal())
    cx, cy = np.array([319.5, 239.5]) + doubt.centre_sigma * generator.standard_normal(2)
    return Camera.pinhole(focal, focal, cx, cy, 640, 480)


def camera_at(angle: float, target: torch.Tensor) -> Pose:
    """T_world_camera on a circle of 0.8 m."""
    eye = 0.8 * torch.tensor([math.cos(angle), math.sin(angle), 0.6], dtype=torch.float64)
    return se3.look_at(eye, target, UP).inverse()


def cameras(runs: int) -> None:
    """An object that moves at 0.3 m/s and 1 rad/s before one, two and three cameras that take turns at 30 Hz each."""
    print("cameras | position error mm | mean NEES | within 90 %")
    for count in (1, 2, 3):
        generator, errors, squares = torch.Generator().manual_seed(0), [], []
        places = {f"camera {k}": camera_at(2.1 * k, torch.zeros(3, dtype=torch.float64)) for k in range(count)}
        for _ in range(runs):
            rig = Rig(list(places))
            common = {name: torch.randn(6, generator=generator, dtype=torch.float64) for name in places}
            for k in range(30 * count):
                name = f"camera {k % count}"
                stamp = k / (30.0 * count)
                where = torch.tensor([0.3 * stamp - 0.15, 0.0, 0.0], dtype=torch.float64)
                truth = Pose(so3.exp(stamp * UP), where)
                noise = SIGMA * (common[name] + torch.randn(6, generator=generator, dtype=torch.float64)) / math.sqrt(2)
                seen = se3.retract(places[name].inverse() @ truth, noise)
                estimate = PoseEstimate.of(seen, torch.diag(SIGMA**2))
                told = rig.update(name, covariance.in_frame(places[name], estimate), stamp)
                if stamp > 0.5 and told is not None and told.fused.estimate is not None:
                    off = se3.local(truth, told.fused.estimate.pose)
                    errors.append(float(off[:3].norm()))
                    squares.append(float(covariance.nees(off, told.fused.estimate.covariance)))
        inside = np.mean(np.array(squares) < 10.645)
        print(f"{count} | {1e3 * np.mean(errors):.2f} | {np.mean(squares):.1f} | {100 * inside:.0f} %", flush=True)


def views(runs: int) -> None:
    """A rendered box that stands still; camera and mesh are off, alike in all views, as the estimator says they may be.

    Focal length, principal point, the mesh's size and its surface, by the configuration's standard deviations.
    """
    generator, box = np.random.default_rng(0), printed_box(0)
    points, told = torch.from_numpy(box.vertices), {1: list[tuple[float, ...]](), 5: list[tuple[float, ...]]()}
    with tempfile.TemporaryDirectory() as folder, Renderer() as renderer:
        package, doubt = onboard(Path(folder) / "box", "box", box).package, AlignmentConfig()
        estimator = PoseEstimator(package)
        for run in range(runs):
            believed = believed_camera(doubt, generator)
            handle = renderer.add(another_mesh(box, doubt, generator))
            turn = so3.exp(torch.from_numpy(generator.uniform(-1.5, 1.5, 3)))
            truth, found = Pose(turn, torch.zeros(3, dtype=torch.float64)), list[View]()
            for k in range(5):
                place = camera_at(run + 0.35 * k, torch.from_numpy(generator.uniform(-0.05, 0.05, 3)))
                seen = (place.inverse() @ truth).to(dtype=torch.float32)
                background = random_background(640, 480, generator)
                shot = renderer.render([(handle, seen)], CAMERA, background=background).rgb
                estimator.reset()
                item = estimator.estimate(shot, believed)
                if item.state is ObjectState.VALID and item.estimate is not None:
                    found.append(View(place, item.estimate, float(k), item.systematic))
            for count in told:
                if len(found) >= count and (estimate := localize(found[:count]).estimate) is not None:
                    error = float(add(estimate.pose.to(dtype=torch.float32), truth.to(dtype=torch.float32), points))
                    square = float(covariance.nees(se3.local(truth, estimate.pose), estimate.covariance))
                    sigma = float(estimate.covariance.diagonal()[:3].sum().sqrt())
                    told[count].append((error, sigma, square))
    print("views | runs | ADD mm, median, p90 | told sigma of the position mm | NEES, median, mean | within 90 %")
    for count, rows in told.items():
        errors, sigmas, squares = np.array(rows).T
        print(
            f"{count} | {len(rows)} | {1e3 * np.median(errors):.2f}, {1e3 * np.percentile(errors, 90):.2f} | "
            f"{1e3 * np.median(sigmas):.2f} | {np.median(squares):.1f}, {np.mean(squares):.1f} | "
            f"{100 * np.mean(squares < 10.645):.0f} %"
        )


def another_mesh(mesh: TriangleMesh, doubt: AlignmentConfig, generator: np.random.Generator) -> TriangleMesh:
    """The object as it may be where its mesh is as exact as the configuration says."""
    phase = 2.0 * np.pi * mesh.vertices / mesh.diameter
    waves = np.concatenate([np.sin(phase), np.cos(phase)], -1) / 3.0**0.5
    bends = doubt.shape_sigma * mesh.diameter * waves @ generator.standard_normal((6, 3))
    scale = 1.0 + doubt.size_sigma * generator.standard_normal()
    return dataclasses.replace(mesh, vertices=(scale * mesh.vertices + bends).astype(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("motions", "moving", "rendered", "video", "cameras", "rig", "views")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--runs", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if "motions" in arguments.only:
        motions(arguments.runs)
    if "moving" in arguments.only:
        moving(arguments.runs)
    if "rendered" in arguments.only:
        rendered(min(arguments.runs, 6))
    if "video" in arguments.only:
        video()
    if "cameras" in arguments.only:
        cameras(arguments.runs)
    if "rig" in arguments.only:
        rig(min(arguments.runs, 12))
    if "views" in arguments.only:
        views(arguments.runs)


if __name__ == "__main__":
    main()
