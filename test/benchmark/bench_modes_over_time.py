"""A flat card of 12 keypoints that moves: do the modes carried over images end in the right one, and what do they cost?

``PYTHONPATH=test python test/benchmark/bench_modes_over_time.py [--runs 50]``. Each run is two seconds at 30 images a
second. The card begins where noise alone decides between a pose and its reversal, comes nearer and turns. Compared:
each image by itself, one pose followed (refined from the last one), and :class:`pnp_ros.pipeline.ambiguity.Ambiguity`
over what is followed. The starts are the likelier of the two poses, right or wrong.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.pipeline.ambiguity import Ambiguity, doubt
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.types import Correspondences, Pose

CAMERA = Camera.pinhole(600.0, 600.0, 320.0, 240.0, 640, 480)
LOSS = Cauchy(2.0)
SIGMA = 1.0  # pixels
SURE = 0.12  # rad: the estimator's bound for valid poses
_CORNERS = np.float32([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * np.float32([0.05, 0.035, 0.0])
CARD = TriangleMesh(_CORNERS, np.int32([[0, 1, 2], [0, 2, 3]]))
POINTS = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (12, 3)).astype(np.float32) * _CORNERS[2])  # (12, 3)


def motion(rng: np.random.Generator, images: int) -> list[Pose]:
    """A card that comes from 1.6 to 0.5 metres and turns about an axis in its plane and about the camera's."""
    angle, tilt = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.25, 0.5)
    axis = torch.tensor([np.cos(angle), np.sin(angle), 0.0], dtype=torch.float32)
    spin = rng.uniform(-0.5, 0.5)
    poses = []
    for k in range(images):
        share = k / (images - 1)
        turn = so3.exp((tilt + 0.3 * share) * axis) @ so3.exp(torch.tensor([0.0, 0.0, spin * share]).float())
        poses.append(Pose(turn, torch.tensor([0.05, 0.02, 1.6 - 1.1 * share])))
    return poses


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--images", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = ("each image by itself", "one pose followed", "modes carried over images")
    right = {name: 0 for name in names}
    jumps = {name: 0 for name in names}
    spent = {name: 0.0 for name in names}
    decided, wrongly, valid = [], 0, 0
    for run in range(arguments.runs):
        rng = np.random.default_rng(run)
        ambiguity = Ambiguity(CARD, Symmetry())
        last: dict[str, Pose] = {}
        first = None
        for k, truth in enumerate(motion(rng, arguments.images)):
            noise = torch.from_numpy(rng.normal(0.0, SIGMA, (12, 2)).astype(np.float32))
            data = Correspondences.from_sigma(CAMERA.project(truth.transform(POINTS)) + noise, POINTS, SIGMA)
            for name in names:
                begin = time.process_time()
                init = None if name == names[0] else last.get(name)
                estimate = solve_pnp(data, CAMERA, init=init, loss=LOSS)
                pose, sure = estimate.pose, True
                if name == names[2]:
                    told = ambiguity.weigh(None, CAMERA, estimate, lambda data=data: data, k > 0)
                    pose, sure = told[0].pose, not doubt(told)
                    sure = sure and float(told[0].covariance.diagonal()[3:].max()) < SURE**2
                spent[name] += time.process_time() - begin
                good = float(so3.angle_between(pose.rotation, truth.rotation)) < 0.25
                if name in last:
                    jumps[name] += float(so3.angle_between(pose.rotation, last[name].rotation)) > 0.3
                if name == names[2] and sure:
                    valid, wrongly = valid + 1, wrongly + (not good)
                    first = k if first is None else first
                last[name] = pose
                right[name] += good and k == arguments.images - 1
        decided.append(arguments.images if first is None else first)
    total = arguments.runs * arguments.images
    for name in names:
        print(
            f"{name}: right at the end {right[name]} of {arguments.runs}, {jumps[name] / arguments.runs:.1f} jumps a "
            f"run, {1e3 * spent[name] / total:.2f} ms CPU an image"
        )
    print(f"valid {valid} of {total} images, of them wrong {wrongly}; decided after {np.median(decided):.0f} images")


if __name__ == "__main__":
    main()
