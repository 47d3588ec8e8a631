"""Reconstruction from synthetic tracks: error after scale alignment, honesty of the covariance, and time.

Run as ``PYTHONPATH=test python test/benchmark/bench_reconstruction.py``. A camera circles an object of 20 cm by 270
degrees half a metre away (f = 800 px); each point is seen up to a share of the way before and after its best view:
with 10 % and less, neighbouring views share 7 to 10 points. The table gives medians over scenes; bent is the share of
scenes whose points are wrong by more than 10 mm in the median.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from pnp_ros.multiview.bundle_adjustment import similarity
from pnp_ros.multiview.reconstruction import ReconstructionError, reconstruct
from synthetic.tracks import random_tracks

OUT = Path("out/bench")
# views, points, noise (px), share of wrong image points, share of the way that a point is seen
CASES = [
    (10, 30, 0.5, 0.0, 0.4),
    (20, 60, 0.5, 0.0, 0.4),
    (20, 60, 0.5, 0.1, 0.4),
    (20, 60, 1.0, 0.2, 0.4),
    (40, 100, 0.5, 0.1, 0.4),
    (30, 60, 0.3, 0.0, 0.1),
    (42, 80, 0.5, 0.05, 0.08),
    (60, 90, 0.3, 0.0, 0.07),
]


def scene(views: int, points: int, sigma: float, outliers: float, visible: float, seed: int) -> dict[str, float]:
    tracks, camera, truth = random_tracks(views, points, sigma=sigma, outliers=outliers, visible=visible, seed=seed)
    start = time.perf_counter()
    try:
        result = reconstruct(tracks, camera)
    except ReconstructionError:
        return {"failed": 1.0}
    seconds = time.perf_counter() - start
    found, reference = result.structure.points[result.found], truth.points[result.found]
    scale, rotation, translation = similarity(found, reference)
    errors = scale * found @ rotation.mT + translation - reference
    covariance = scale**2 * rotation @ result.covariance[result.found] @ rotation.mT
    nees = (errors[:, None] @ torch.linalg.solve(covariance, errors[..., None])).mean() / 3.0
    lengths = 1e3 * errors.norm(dim=-1)
    return {
        "failed": 0.0,
        "found": float(result.found.float().mean()),
        "placed": float(result.placed.float().mean()),
        "median_mm": float(lengths.median()),
        "bent": float(lengths.median() > 10.0),
        "rms_mm": float(lengths.square().mean().sqrt()),
        "nees": float(nees),
        "sigma_px": result.sigma,
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    scene(10, 30, 0.5, 0.0, 0.4, 0)  # compiles
    print(f"reconstruction, {arguments.scenes} scenes a row; error after scale alignment, of an object of 20 cm")
    print(
        "views points noise px  wrong   seen  failed   bent  found  placed  median mm  rms mm  NEES/3  sigma px       s"
    )
    rows = []
    for case in CASES:
        scenes = [scene(*case, seed=seed) for seed in range(arguments.scenes)]
        good = [s for s in scenes if not s["failed"]]
        row = {key: statistics.median(s[key] for s in good) for key in good[0]}
        row["failed"] = statistics.mean(s["failed"] for s in scenes)
        row["bent"] = statistics.mean(s["bent"] for s in good)
        rows.append(
            {"views": case[0], "points": case[1], "noise_px": case[2], "outliers": case[3], "visible": case[4], **row}
        )
        print(
            f"{case[0]:5d} {case[1]:6d} {case[2]:8.1f} {100 * case[3]:4.0f} % {100 * case[4]:4.0f} %"
            f" {row['failed']:7.2f} {row['bent']:6.2f} {row['found']:6.2f}"
            f" {row['placed']:7.2f} {row['median_mm']:10.3f} {row['rms_mm']:7.3f} {row['nees']:7.2f}"
            f" {row['sigma_px']:9.3f} {row['seconds']:8.2f}",
            flush=True,
        )
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "reconstruction.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
