"""BPnP's time, forward and backward, against a plain torch form of the same computation.

Run as ``PYTHONPATH=test python test/benchmark/bench_bpnp.py [--threads 1] [--repeat 20]``; on a machine with a GPU it
measures that as well. The plain form takes one Newton step at the solution with everything left to automatic
differentiation: the Hessian by ``torch.func.jacrev`` of the cost's gradient, the data's gradient by autograd through
that gradient. Times are of a batch of 32; those of the authors' implementation, which loops over the batch, are 32
times theirs for one problem. ``attach`` is the forward part beside the solve: derivatives at the solution, which the
backward part uses.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3
from pnp_ros.solvers import bpnp
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Huber
from pnp_ros.types import Correspondences, Pose
from synthetic.cube import random_problems

OUT = Path("out/bench")
BATCH = 32
LOSS = Huber()
# ms a problem, the authors' implementation on one core of a Zen 5, idle: forward, backward
PUBLISHED = {8: (0.6, 24.0), 64: (2.3, 26.0), 512: (2.8, 326.0)}


def cost(
    delta: Tensor, image_points: Tensor, object_points: Tensor, weights: Tensor, pose: Pose, camera: Camera
) -> Tensor:
    moved = se3.retract(pose, delta)
    residual = weights * (camera.project(moved.transform(object_points)) - image_points)
    return 0.5 * LOSS.rho(residual.square().sum(-1)).sum()


def plain_implicit_pose(correspondences: Correspondences, camera: Camera, pose: Pose) -> Pose:
    """The pose after a Newton step whose gradient is that of the solution."""
    fields = (correspondences.image_points, correspondences.object_points, correspondences.weights)
    zero = torch.zeros_like(pose.translation).repeat(1, 2)

    def of(rotation: Tensor, translation: Tensor, *data: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda delta: cost(delta, *data, Pose(rotation, translation), camera)

    def gradient(delta: Tensor, rotation: Tensor, translation: Tensor, *data: Tensor) -> Tensor:
        return torch.func.grad(of(rotation, translation, *data))(delta)

    def hessian(delta: Tensor, rotation: Tensor, translation: Tensor, *data: Tensor) -> Tensor:
        return torch.func.jacrev(torch.func.grad(of(rotation, translation, *data)))(delta)

    arguments = (zero, pose.rotation, pose.translation, *fields)
    with torch.no_grad():
        matrix = torch.func.vmap(hessian)(*arguments)
    step = torch.linalg.solve(matrix, torch.func.vmap(gradient)(*arguments))
    return se3.retract(pose, -step)


def milliseconds(call: Callable[[], object], device: torch.device, repeat: int) -> float:
    times = []
    for _ in range(repeat + 2):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[2:])


def measure(n: int, device: torch.device, repeat: int) -> dict[str, float | int | str]:
    data, camera, truth = random_problems(BATCH, n, sigma=2.0)
    camera = camera.to(device)
    leaves = [x.to(device).requires_grad_() for x in (data.image_points, data.object_points, data.weights)]
    correspondences = Correspondences(*leaves)
    start = Pose(truth.rotation.to(device), truth.translation.to(device))
    estimate = solve_pnp(correspondences, camera, init=start, loss=LOSS)
    ours = bpnp.implicit_pose(correspondences, camera, estimate, LOSS)
    solved = Pose(ours.rotation.detach(), ours.translation.detach())
    plain = plain_implicit_pose(correspondences, camera, solved)
    towards = torch.randn(BATCH, 4, 4, generator=torch.Generator().manual_seed(0)).to(device)

    def backward(pose: Pose) -> list[Tensor]:
        return list(torch.autograd.grad((pose.matrix() * towards).sum(), leaves, retain_graph=True))

    pairs = list(zip(backward(ours), backward(plain), strict=True))
    published = PUBLISHED[n]
    return {
        "n": n,
        "device": device.type,
        "solve_ms": milliseconds(lambda: solve_pnp(correspondences, camera, init=start, loss=LOSS), device, repeat),
        "attach_ms": milliseconds(lambda: bpnp.implicit_pose(correspondences, camera, estimate, LOSS), device, repeat),
        "backward_ms": milliseconds(lambda: backward(ours), device, repeat),
        "plain_ms": milliseconds(
            lambda: backward(plain_implicit_pose(correspondences, camera, solved)), device, repeat
        ),
        "published_backward_ms": BATCH * published[1],
        "difference": max(float((a - b).norm() / b.norm()) for a, b in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    devices = [torch.device("cpu")] + ([torch.device("cuda")] if torch.cuda.is_available() else [])
    rows = [measure(n, device, arguments.repeat) for device in devices for n in (8, 64, 512)]
    print(f"BPnP, batch of {BATCH}, Huber, float32, {arguments.threads} thread(s); ms a batch")
    print("device    N    solve   attach  backward  plain torch  published  both vs plain, vs published  difference")
    for row in rows:
        numbers = {key: float(value) for key, value in row.items() if key != "device"}
        both = numbers["attach_ms"] + numbers["backward_ms"]
        print(
            f"{row['device']:6s} {row['n']:4d} {numbers['solve_ms']:8.2f} {numbers['attach_ms']:8.2f}"
            f" {numbers['backward_ms']:9.2f} {numbers['plain_ms']:12.2f} {numbers['published_backward_ms']:10.0f}"
            f" {numbers['plain_ms'] / both:12.1f}x {numbers['published_backward_ms'] / both:12.0f}x"
            f" {numbers['difference']:11.1e}"
        )
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "bpnp.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
