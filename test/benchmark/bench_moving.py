"""Rendered objects that move, before a camera that stands still or moves: what the filter tells of them.

    PYTHONPATH=test python test/benchmark/bench_moving.py [--runs 2]

Two printed boxes in turn, camera and mesh as wrong as the configuration says they may be. What is told for a tenth of a
second after the image, over what the image itself says: all images, and with a fifth lost and the others up to a tenth
of a second late; and what is told half a second ahead, as across a gap. Poses of a moving camera are taken into the
world, with what camera and mesh have wrong in all of them.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from aligned_renders import IN_90
from bench_filter import another_mesh, believed_camera, camera_at
from bench_scene import CAMERA

from pnp_ros.filtering.pose_filter import Outcome, PoseFilter
from pnp_ros.geometry import covariance, se3, so3
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.onboarding import onboard
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.rendering.backgrounds import random_background
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose, PoseEstimate
from synthetic.printed_box import printed_box

RATE, AHEAD, GAP = 30.0, 0.1, 0.5
_SETTLED_S = 0.5, 1.0  # seconds that are left out, of the short runs and the long ones
_SHORT, _LONG = 60, 270  # images
_DROPPED, _LATE_S = 0.2, 0.1


def _body(turn: Sequence[float], place: Sequence[float]) -> Pose:
    return Pose(so3.exp(torch.tensor(turn, dtype=torch.float64)), torch.tensor(place, dtype=torch.float64))


def steady(t: float) -> Pose:
    """0.3 m/s and 1 rad/s across the image."""
    return _body((0.0, 0.0, t), (0.0, 0.3 * t - 0.3, 0.0))


def still(_: float) -> Pose:
    return _body((0.0, 0.0, 0.1), (0.0, 0.015, 0.0))


def swung(t: float) -> Pose:
    """By a hand, fast."""
    turn = 0.5 * math.sin(3 * t), 0.4 * math.sin(2 * t), 0.0
    return _body(turn, (0.1 * math.sin(3 * t), 0.05 * math.cos(4 * t), 0.0))


def held(t: float) -> Pose:
    """In a hand that drifts and trembles."""
    turn = 0.15 * math.sin(0.7 * t) + 0.01 * math.sin(9 * t), 0.2 * math.sin(0.5 * t), 0.1 * math.cos(0.6 * t)
    place = 0.01 * math.sin(0.8 * t) + 0.0004 * math.sin(11 * t), 0.015 * math.cos(0.5 * t), 0.01 * math.sin(0.4 * t)
    return _body(turn, place)


def turntable(t: float) -> Pose:
    return _body((0.0, 0.0, 0.3 * t), (0.0, 0.0, 0.0))


def pushed(t: float) -> Pose:
    """Three times by 3 cm, at rest between."""
    gone = sum(0.03 / (1.0 + math.exp(-12.0 * (t - start))) for start in (2.0, 4.5, 7.0))
    return _body((0.0, 0.0, 8.0 * gone), (gone, 0.5 * gone, 0.0))


@dataclass(frozen=True)
class Seen:
    """What one image told, in the world: the estimate, what moves it in all images alike, and the true motion."""

    stamp: float
    estimate: PoseEstimate
    common: torch.Tensor | None
    truth: Callable[[float], Pose]


def record(
    packages: Sequence[ObjectPackage], renderer: Renderer, path: Callable[[float], Pose], moves: bool, seed: int
) -> list[Seen]:
    """What the estimator tells of one run."""
    generator, doubt = np.random.default_rng(seed), EstimatorConfig().alignment
    package = packages[seed % len(packages)]
    handle = renderer.add(another_mesh(package.mesh, doubt, generator))
    believed, background = believed_camera(doubt, generator), random_background(640, 480, generator)
    start = Pose(so3.exp(torch.from_numpy(generator.uniform(-1.5, 1.5, 3))), torch.zeros(3).double())
    angle = generator.uniform(0.0, 6.0) if moves else 0.0
    across = _body((0.0, 0.0, angle), (0.0, 0.0, 0.0))

    def truth(t: float) -> Pose:
        moved = across @ path(t)
        return Pose(moved.rotation @ start.rotation, moved.translation)

    estimator, told = PoseEstimator(package), list[Seen]()
    for k in range(_SHORT if path is steady else _LONG):
        place = camera_at(angle + moves * 0.5 * math.sin(k / 60), torch.zeros(3).double())
        item = handle, (place.inverse() @ truth(k / RATE)).to(dtype=torch.float32)
        shot = renderer.render([item], CAMERA, background=background).rgb
        shot = np.clip(shot + generator.normal(0.0, 3.0, shot.shape), 0, 255).astype(np.uint8)
        found = estimator.estimate(shot, believed, k / RATE)
        if found.state is ObjectState.VALID and found.estimate is not None:
            known = moves and found.systematic is not None
            common = covariance.turned(found.systematic, place.rotation) if known else None
            told.append(Seen(k / RATE, covariance.in_frame(place, found.estimate), common, truth))
    return told


@dataclass(frozen=True)
class Errors:
    """(N, 6) by which image and filter are off at the image's time and ``AHEAD`` later; NEES then and after ``GAP``."""

    image: list[torch.Tensor]
    filtered: list[torch.Tensor]
    held: list[torch.Tensor]
    ahead: list[torch.Tensor]
    squares: list[float]
    across: list[float]
    steps: list[tuple[float, ...]]


def follow(runs: Sequence[Sequence[Seen]], settled: float, dropped: float, late: float) -> tuple[Errors, int]:
    """What the filter tells of runs, and how many poses it refused."""
    errors, refused = Errors([], [], [], [], [], [], []), 0
    for number, run in enumerate(runs):
        generator, motion = np.random.default_rng(number), PoseFilter()
        kept = [each for each in run if generator.random() >= dropped]
        kept.sort(key=lambda each: each.stamp + (generator.uniform(0.0, late) if late else 0.0))
        before: tuple[torch.Tensor, torch.Tensor] | None = None
        for each in kept:
            refused += motion.update(each.estimate, each.stamp, each.common) is Outcome.REJECTED
            told = [motion.predict(each.stamp + later) for later in (0.0, AHEAD, GAP - 1e-6)]
            if each.stamp < settled or told[0] is None or told[1] is None:
                continue
            now, soon = each.truth(each.stamp), each.truth(each.stamp + AHEAD)
            errors.image.append(se3.local(now, each.estimate.pose))
            errors.filtered.append(se3.local(now, told[0].pose))
            errors.held.append(se3.local(soon, each.estimate.pose))
            errors.ahead.append(se3.local(soon, told[1].pose))
            errors.squares.append(float(covariance.nees(errors.ahead[-1], told[1].covariance)))
            if told[2] is not None:
                far = se3.local(each.truth(told[2].stamp), told[2].pose)
                errors.across.append(float(covariance.nees(far, told[2].covariance)))
            both = errors.image[-1][:3], errors.filtered[-1][:3]
            if before is not None:
                errors.steps.append(tuple(float((a - b).norm()) for a, b in zip(both, before)))
            before = both
    return errors, refused


def row(errors: Errors, refused: int) -> str:
    """Of the table."""
    whole = [torch.stack(each).square().mean(0) for each in (errors.image, errors.filtered, errors.held, errors.ahead)]
    (a, b, c, d) = ([float(each[part].sum().sqrt()) for part in (slice(3), slice(3, 6))] for each in whole)
    steps, across = 1e3 * np.array(errors.steps), np.array(errors.across)
    rms, most = np.sqrt(np.square(steps).mean(0)), steps.max(0)
    return (
        f"{1e3 * a[0]:.1f}, {math.degrees(a[1]):.2f} | {1e3 * b[0]:.1f}, {math.degrees(b[1]):.2f} | "
        f"{1e3 * c[0]:.1f}, {math.degrees(c[1]):.2f} | {d[0] / c[0]:.2f}, {d[1] / c[1]:.2f} | "
        f"{np.mean(errors.squares):.1f} | {across.mean():.1f}, {100 * (across < IN_90).mean():.0f} % | "
        f"{rms[0]:.2f}, {rms[1]:.2f} | {most[0]:.1f}, {most[1]:.1f} | {refused}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2, help="of each motion; of the short ones more than twice as many")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "motion | camera | images | image: off by mm, deg | filtered | the image's 0.1 s later | filtered for then over"
        " that | mean NEES then | 0.5 s ahead: mean NEES, within 90 % | error changes by mm, rms: image, filtered | "
        "most | refused"
    )
    scenes = [(steady, False), (steady, True), (still, False), (swung, False), (swung, True)]
    scenes += [(turntable, True), (pushed, True), (held, True), (held, False), (pushed, False)]
    with tempfile.TemporaryDirectory() as folder, Renderer() as renderer:
        packages = [onboard(Path(folder) / f"box{seed}", "box", printed_box(seed)).package for seed in (0, 31)]
        for number, (path, moves) in enumerate(scenes):
            count = arguments.runs if path is not steady else 1 + 2 * arguments.runs
            runs = [record(packages, renderer, path, moves, 100 * number + run) for run in range(count)]
            name = f"{path.__name__} | {'moves' if moves else 'stands'}"
            for order, losses in (("all in order", (0.0, 0.0)), ("a fifth lost, others late", (_DROPPED, _LATE_S))):
                print(name, order, row(*follow(runs, _SETTLED_S[path is not steady], *losses)), sep=" | ", flush=True)


if __name__ == "__main__":
    main()
