"""The pose posterior's time, forward and backward, against a plain torch form of the same computation.

Run as ``PYTHONPATH=test python test/benchmark/bench_epropnp.py [--threads 1] [--repeat 10]``; on a machine with a GPU
it measures that as well. Both forms start at the same mode and draw 512 samples in 4 rounds from the same proposals;
the plain one projects all points for all poses and leaves the gradient to autograd.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels import posterior_sampler_reference
from pnp_ros.kernels.posterior_sampler import whitened_rows
from pnp_ros.solvers import epropnp
from pnp_ros.solvers.posterior_modes import modes_at, point_features
from pnp_ros.solvers.robust_loss import Gaussian
from pnp_ros.types import Correspondences, Pose
from synthetic.cube import random_problems

SAMPLES, ROUNDS, BATCH = 512, 4, 32
# ms, the authors' implementation on one core of a Zen 5, idle: B = 32; forward, forward and backward
PUBLISHED = {64: (45.0, 78.0), 512: (281.0, 606.0)}


def plain_log_evidence(correspondences: Correspondences, camera: Camera, pose: Pose) -> Tensor:
    """The straightforward form: residuals of all points at all poses, one operation after the other."""
    rows = whitened_rows(correspondences, camera)
    points = correspondences.object_points
    with torch.no_grad():
        features = point_features(rows, points)
        start = Pose(pose.rotation[:, None], pose.translation[:, None])
        found = modes_at(features, correspondences, camera, start, Gaussian())
        sampler = epropnp._Sampler(rows, points, found, Gaussian())
    costs: list[Tensor] = []

    def pose_costs(offsets: Tensor) -> Tensor:
        matrix = torch.cat([sampler.rotation, sampler.translation[..., None]], dim=-1).flatten(-2)
        poses = (matrix[..., None] + offsets).to(points).squeeze(1).mT.unflatten(-1, (3, 4))
        least = found.min_depth.to(points).expand(-1, poses.shape[1])
        with torch.enable_grad():
            cost = posterior_sampler_reference.pose_costs(rows, points, poses[..., :3], poses[..., 3], least)
            costs.append(cost[:, None])
        return costs[-1].detach()

    sampler.pose_costs = pose_costs  # type: ignore[assignment]
    with torch.no_grad():
        sampler.run(SAMPLES, ROUNDS, None)
    return sampler.log_weights(torch.cat(costs, dim=-1)).flatten(1).logsumexp(-1) - math.log(SAMPLES)


def fused_log_evidence(correspondences: Correspondences, camera: Camera, pose: Pose) -> Tensor:
    """The package's."""
    posterior = epropnp.sample_posterior(correspondences, camera, modes=pose, num_samples=SAMPLES, iterations=ROUNDS)
    return posterior.log_evidence


def _problem(points: int, device: str) -> tuple[Correspondences, Camera, Pose]:
    problem, camera, pose = random_problems(BATCH, points, seed=1)
    inputs = [value.to(device).requires_grad_() for value in vars(problem).values()]
    return Correspondences(*inputs), camera.to(device), Pose(pose.rotation.to(device), pose.translation.to(device))


def _milliseconds(function: Callable[[], object], device: str, repeat: int) -> float:
    times = []
    for index in range(repeat + 2):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        if index >= 2:
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def measure(points: int, device: str, repeat: int) -> dict[str, float | int | str]:
    """One record: times of both forms, in ms."""
    problem, camera, pose = _problem(points, device)
    inputs = list(vars(problem).values())
    record: dict[str, float | int | str] = {"n": points, "batch": BATCH, "samples": SAMPLES, "device": device}
    forms = {"fused": fused_log_evidence, "plain": plain_log_evidence}
    for form in forms.values():  # so that the allocator holds what either needs, as it does in training
        torch.autograd.grad(form(problem, camera, pose).sum(), inputs)
    for name, form in forms.items():

        def forward(form: Callable[..., Tensor] = form) -> None:
            with torch.no_grad():
                form(problem, camera, pose)

        def both(form: Callable[..., Tensor] = form) -> None:
            torch.autograd.grad(form(problem, camera, pose).sum(), inputs)

        record[f"{name}_forward_ms"] = _milliseconds(forward, device, repeat)
        record[f"{name}_ms"] = _milliseconds(both, device, repeat)
    record["published_forward_ms"], record["published_ms"] = PUBLISHED[points]
    return record


def main() -> None:
    """Prints the table and writes ``out/bench/epropnp.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    records = [measure(points, device, args.repeat) for device in devices for points in PUBLISHED]
    print(f"log-evidence of {BATCH} problems, {SAMPLES} samples; ms forward / forward and backward")
    print("device    N         fused            plain     ratio       published")
    for r in records:
        pairs = [f"{r[k + '_forward_ms']:7.1f} / {r[k + '_ms']:7.1f}" for k in ("fused", "plain", "published")]
        ratio = float(r["plain_ms"]) / float(r["fused_ms"])
        print(f"{r['device']:6} {r['n']:4} {pairs[0]} {pairs[1]} {ratio:6.1f} x {pairs[2]}")
    path = Path("out/bench/epropnp.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
