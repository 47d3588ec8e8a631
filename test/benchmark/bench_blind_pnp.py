"""Blind PnP: success and time over random problems, with nothing known beforehand and with a pose prior.

Run as ``PYTHONPATH=test python test/benchmark/bench_blind_pnp.py [--problems 20]``; on a machine with a GPU it runs
there. Points in a cube of 2 m seen from 4 to 8 m away, as many image points as object points, f = 800 px. Success:
within 5 deg and 5 % of the distance. ``wrong`` counts poses that were believed and are not right.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch

from pnp_ros.geometry import se3, so3
from pnp_ros.solvers.blind_pnp import PosePrior, solve_blind_pnp
from pnp_ros.types import Pose
from synthetic.blind import random_blind_problem

OUT = Path("out/bench")
# points, share with a partner, noise (px), standard deviation of the prior (m and rad; None: no prior)
CASES: list[tuple[int, float, float, float | None]] = [
    (10, 1.0, 1.0, None),
    (20, 0.5, 1.0, None),
    (30, 0.5, 1.0, None),
    (50, 0.5, 1.0, None),
    (50, 0.5, 2.0, None),
    (100, 0.7, 1.0, None),
    (100, 0.5, 1.0, None),
    (20, 0.5, 1.0, 0.1),
    (100, 0.5, 1.0, 0.1),
    (100, 0.5, 1.0, 0.3),
    (100, 0.3, 1.0, 0.2),
]


def measure(
    case: tuple[int, float, float, float | None], problems: int, device: torch.device
) -> dict[str, float | None]:
    n, share, sigma, spread = case
    right, wrong, times, guesses = 0, 0, [], 0
    for seed in range(problems):
        problem = random_blind_problem(n, share, sigma=sigma, seed=seed)
        prior = None
        if spread is not None:
            offset = spread * torch.randn(6, generator=torch.Generator().manual_seed(1000 + seed))
            mean = se3.retract(problem.pose, offset)
            prior = PosePrior(Pose(mean.rotation, mean.translation), spread**2 * torch.eye(6))
        points = (problem.image_points.to(device), problem.object_points.to(device), problem.camera.to(device))
        start = time.perf_counter()
        result = solve_blind_pnp(*points, sigma=sigma, prior=prior, matched_share=share - 1e-3, seed=seed)
        usable = bool(result.estimate.usable)
        times.append(time.perf_counter() - start)
        pose = result.estimate.pose
        turned = so3.angle_between(pose.rotation.cpu(), problem.pose.rotation)
        moved = (pose.translation.cpu() - problem.pose.translation).norm() / problem.pose.translation.norm()
        near = bool(turned < math.radians(5.0)) and bool(moved < 0.05)
        right += usable and near
        wrong += usable and not near
        guesses += result.guesses
    times.sort()
    return {
        "n": n,
        "share": share,
        "sigma_px": sigma,
        "prior": spread,
        "success": right / problems,
        "wrong": wrong / problems,
        "median_s": times[len(times) // 2],
        "max_s": times[-1],
        "guesses": guesses / problems,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measure((10, 1.0, 1.0, None), 1, device)  # compiles
    print(f"blind PnP, {arguments.problems} problems a row, {device.type}")
    print("  N  matched  noise px  prior m, rad  success  wrong  median s    max s   guesses")
    rows = []
    for case in CASES:
        row = measure(case, arguments.problems, device)
        rows.append(row)
        prior = "none" if row["prior"] is None else f"{row['prior']:.1f}"
        print(
            f"{row['n']:3d} {100 * case[1]:6.0f} % {row['sigma_px']:9.1f} {prior:>13s} {row['success']:8.2f}"
            f" {row['wrong']:6.2f} {row['median_s']:9.3f} {row['max_s']:8.2f} {row['guesses']:9.2g}",
            flush=True,
        )
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "blind_pnp.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
