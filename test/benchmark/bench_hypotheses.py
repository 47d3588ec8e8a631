"""Poses that one image leaves open: is the true one among the hypotheses, with its probability?

``PYTHONPATH=test python test/benchmark/bench_hypotheses.py [--images 100]`` prints a table for each scene: a flat
printed card from afar, and boxes with alike sides whose symmetry nobody declared. Each image is seen by itself.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pnp_ros.evaluation.hypotheses import figures, reliability_plots, true_hypothesis
from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.onboarding import onboard
from pnp_ros.pipeline.result import FrameResult, Hypothesis
from pnp_ros.types import Pose
from synthetic.alike_box import alike_box
from synthetic.printed_box import printed_box
from synthetic.scenes import Errors, Scene, scenes

ERRORS = Errors(size=0.003, shape=0.002, focal=0.003, blur=0.5)
BLURRED = Errors(size=0.003, shape=0.002, focal=0.003, blur=3.0, noise=10.0)


def facing(
    mesh: TriangleMesh,
    count: int,
    seed: int,
    near: float,
    far: float,
    tilt: tuple[float, float],
    errors: Errors = ERRORS,
) -> Iterator[Scene]:
    """Images of a card whose front is seen, tilted by so many radians, so many diameters away."""
    rng = np.random.default_rng(seed)

    def pose(diameter: float) -> Pose:
        angle = rng.uniform(0, 2 * np.pi)
        axis = torch.tensor([np.cos(angle), np.sin(angle), 0.0], dtype=torch.float32)
        turn = so3.exp(torch.tensor([0.0, 0.0, rng.uniform(0, 2 * np.pi)], dtype=torch.float32))
        depth = diameter * rng.uniform(near, far)
        flip = so3.exp(torch.tensor([np.pi, 0.0, 0.0], dtype=torch.float32))
        middle = torch.tensor([rng.uniform(-0.2, 0.2) * depth, rng.uniform(-0.15, 0.15) * depth, depth])
        return Pose(so3.exp(float(rng.uniform(*tilt)) * axis) @ turn @ flip, middle.float())

    yield from scenes(mesh, count, seed, errors, pose)


def is_right(record: FrameResult, mesh: TriangleMesh) -> bool:
    """Whether a pose that was told alone is the true one, by the measure for hypotheses."""
    assert record.pose is not None
    assert record.covariance is not None
    alone = replace(record, hypotheses=(Hypothesis(record.pose, record.covariance, 1.0),))
    return true_hypothesis(alone, torch.from_numpy(mesh.extreme_points), mesh.diameter) is not None


def report(name: str, records: list[FrameResult], mesh: TriangleMesh, seconds: float) -> None:
    """Two lines of figures."""
    sure = [r for r in records if r.is_valid]
    wrong = sum(not is_right(r, mesh) for r in sure)
    lost = sum(r.pose is None for r in records)
    print(
        f"{name}: {len(records)} images, {lost} without a pose; valid {len(sure)}, of them wrong {wrong}; "
        f"{1e3 * seconds / len(records):.0f} ms CPU an image"
    )
    told = figures(records, torch.from_numpy(mesh.extreme_points), mesh.diameter)
    if told is not None:
        print("    " + ", ".join(f"{key} {value:.3g}" for key, value in told.items()), flush=True)


def main() -> None:
    """Run all scenes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--only", default="", help="scenes whose name holds this")
    parser.add_argument("--plot", type=Path, default=Path("out/bench/hypotheses.svg"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    n = arguments.images
    card = printed_box(1, (0.10, 0.07, 0.0006))
    runs = {
        "card, 4-8 diameters": (card, lambda: facing(card, n, 1, 4.0, 8.0, (0.1, 1.0))),
        "card, 8-14 diameters": (card, lambda: facing(card, n, 2, 8.0, 14.0, (0.1, 1.0))),
    }
    runs["card, 6-12 diameters, blurred"] = card, lambda: facing(card, n, 5, 6.0, 12.0, (0.1, 0.6), BLURRED)
    for mark in (0.0, 0.5, 0.25):
        box = alike_box(mark)
        runs[f"box, mark {mark}"] = (box, lambda box=box: scenes(box, n, 3, ERRORS))
    box = printed_box(2)
    runs["box, no two places alike"] = (box, lambda: scenes(box, n, 4, ERRORS))
    every: list[FrameResult] = []
    for name, (mesh, images) in runs.items():
        if arguments.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            made = onboard(Path(folder) / "object", "object", mesh)
            estimator = PoseEstimator(made.package, EstimatorConfig(track=False))
            records, spent = [], 0.0
            for scene in images():
                estimator.reset()
                begin = time.process_time()
                found = estimator.estimate(scene.image, scene.camera)
                spent += time.process_time() - begin
                records.append(replace(FrameResult.of(found), truth=scene.pose))
        report(name, records, mesh, spent)
        every += records
    for _, svg in reliability_plots(every, made.package):
        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        arguments.plot.write_text(svg)
        print(arguments.plot)


if __name__ == "__main__":
    main()
