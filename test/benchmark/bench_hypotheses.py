"""Poses that one image leaves open: is the true one among the hypotheses, with its probability?

``PYTHONPATH=test python test/benchmark/bench_hypotheses.py [--images 100]`` prints a table for each scene: a flat
printed card from afar, and boxes with alike sides whose symmetry nobody declared. Each image is seen by itself.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pnp_ros.geometry import covariance, se3, so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.onboarding import onboard
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.types import Pose
from synthetic.alike_box import alike_box
from synthetic.printed_box import printed_box
from synthetic.scenes import Errors, Scene, scenes

ERRORS = Errors(size=0.003, shape=0.002, focal=0.003, blur=0.5)
BLURRED = Errors(size=0.003, shape=0.002, focal=0.003, blur=3.0, noise=10.0)
RIGHT = 0.1  # of the diameter: ADD of the pose that counts as the true one,
REGION = 22.5  # or its NEES


@dataclass
class Told:
    """What was said about one image: probabilities, and which of them is the true pose's (None: none)."""

    state: ObjectState
    probabilities: list[float]
    true: int | None


def told(found: ObjectEstimate, scene: Scene, mesh: TriangleMesh) -> Told | None:
    """None where no pose was found."""
    if found.estimate is None:
        return None
    poses = [(h.pose, h.covariance) for h in found.hypotheses] or [(found.estimate.pose, found.estimate.covariance)]
    points = torch.from_numpy(mesh.extreme_points)
    errors = [_error(pose, spread, scene.pose, points) / mesh.diameter for pose, spread in poses]
    best = int(np.argmin(errors))
    return Told(
        found.state,
        [h.probability for h in found.hypotheses] or [1.0],
        best if errors[best] < RIGHT else None,
    )


def _error(pose: Pose, spread: Tensor, truth: Pose, points: Tensor) -> float:
    """ADD in metres; 0 where the truth lies in the region of 99.9 %: far off, depth is known no better."""
    if float(covariance.nees(se3.local(pose, truth), spread)) < REGION:
        return 0.0
    return float((pose.transform(points) - truth.transform(points)).norm(dim=-1).mean())


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


def report(name: str, results: list[Told | None], seconds: float) -> None:
    """One line, and the reliability by bins of probability."""
    seen = [r for r in results if r is not None]
    sure = [r for r in seen if r.state is ObjectState.VALID]
    open_ = [r for r in seen if r.state is not ObjectState.VALID and len(r.probabilities) > 1]
    wrong = sum(r.true is None for r in sure)
    among = sum(r.true is not None for r in open_)
    print(
        f"{name}: {len(results)} images, {len(seen)} with a pose; valid {len(sure)}, of them wrong {wrong}; "
        f"ambiguous {len(open_)}, true pose among {among}; {1e3 * seconds / len(results):.0f} ms CPU an image"
    )
    pairs = [(p, k == r.true) for r in open_ for k, p in enumerate(r.probabilities)]
    for low, high in ((0.0, 0.05), (0.05, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 0.95), (0.95, 1.01)):
        inside = [(p, right) for p, right in pairs if low <= p < high]
        if inside:
            said, was = np.mean(inside, axis=0)
            print(f"    told {said:.2f}: right {was:.2f} of {len(inside)}")


def main() -> None:
    """Run all scenes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--only", default="")
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
    for name, (mesh, images) in runs.items():
        if arguments.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            made = onboard(Path(folder) / "object", "object", mesh)
            estimator = PoseEstimator(made.package, EstimatorConfig(track=False))
            results, begin, spent = [], 0.0, 0.0
            for scene in images():
                estimator.reset()
                begin = time.process_time()
                (found,) = estimator.estimate(scene.image, scene.camera)
                spent += time.process_time() - begin
                results.append(told(found, scene, mesh))
        report(name, results, spent)


if __name__ == "__main__":
    main()
