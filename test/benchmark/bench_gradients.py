"""Gradients of the solution: none silently zero, and all as finite differences say.

``PYTHONPATH=test python test/benchmark/bench_gradients.py --problems 10000`` solves random problems in single precision
over noise levels, losses, points, forms of the weights and with a prior, and counts usable poses whose gradient is
zero. Then it compares gradients by each kind of data with central differences in double precision.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.solvers.bpnp import Implicit, implicit_pose
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy, Gaussian, GemanMcClure, Huber, RobustLoss
from pnp_ros.types import Correspondences, Pose, PoseEstimate
from synthetic.cube import random_problems

LOSSES = (Gaussian(), Huber(), Cauchy(), GemanMcClure())
SIGMAS = (1e-3, 1e-2, 0.1, 1.0, 5.0)
FIELDS = ("image_points", "object_points", "weights", "intrinsics", "prior_rotation", "prior_translation", "prior_cov")
STEPS = (1e-4, 1e-6, 1e-5, 1e-3, 1e-6, 1e-6, 1e-4)  # px, m, 1/px, px, rad, m, share: above the solution's rounding


def problem(
    batch: int, n: int, sigma: float, matrices: bool, seed: int, dtype: torch.dtype = torch.float32
) -> tuple[Correspondences, Camera, Pose, PoseEstimate]:
    """Points of different weights, and a prior about a hundred deviations wide that is off by one of its own."""
    c, camera, truth = random_problems(batch, n, sigma=sigma, seed=seed, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(batch, n, 2, 2, generator=generator, dtype=torch.float64).to(dtype)
    weights = c.weights * (0.5 + factor[..., 0].abs())
    if matrices:
        weights = c.weights[..., None] * (torch.eye(2, dtype=dtype) + 0.4 * factor)
    off = torch.randn(batch, 6, generator=generator, dtype=torch.float64).to(dtype)
    spread = torch.randn(batch, 6, 8, generator=generator, dtype=torch.float64).to(dtype) / 8**0.5
    spread = 0.05 * min(sigma, 1.0) * spread
    moved = se3.retract(truth, 0.05 * min(sigma, 1.0) * off)
    return replace(c, weights=weights), camera, truth, PoseEstimate.of(moved, spread @ spread.mT)


def count_zeros(problems: int) -> tuple[int, int, int]:
    """How many poses were usable, had a zero gradient, or one that is not finite."""
    usable = zeros = broken = 0
    cells = [(s, loss, m, p) for s in SIGMAS for loss in LOSSES for m in (False, True) for p in (False, True)]
    each = -(-problems // len(cells))
    for seed, (sigma, loss, matrices, with_prior) in enumerate(cells):
        c, camera, truth, prior = problem(each, (6, 12, 40)[seed % 3], sigma, matrices, seed)
        leaf = c.image_points.clone().requires_grad_()
        estimate = solve_pnp(
            replace(c, image_points=leaf),
            camera,
            init=truth,
            loss=loss,
            prior=prior if with_prior else None,
            gradient=Implicit(),
        )
        (gradient,) = torch.autograd.grad((estimate.pose.translation / sigma).sum(), leaf)
        zero = (gradient == 0).flatten(1).all(-1)
        usable += int(estimate.usable.sum())
        zeros += int((zero & estimate.usable).sum())
        broken += int((~gradient.isfinite()).flatten(1).any(-1).sum())
    return usable, zeros, broken


def differences(loss: RobustLoss, matrices: bool, seed: int = 1) -> dict[str, float]:
    """Largest difference to finite differences, as a share of the gradient's largest entry, by kind of data.

    With seed 0 a residual lies 4e-5 deviations from where Huber's loss bends, which no finite difference forgives.
    """
    c, camera, truth, prior = problem(1, 12, 1.0, matrices, seed, torch.float64)
    estimate = solve_pnp(c, camera, init=truth, loss=loss, prior=prior)  # where all the Newton steps start
    probe = torch.randn(12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    data = [c.image_points, c.object_points, c.weights, camera.intrinsics]
    data += [prior.pose.rotation, prior.pose.translation, prior.covariance]

    def value(*fields: Tensor) -> Tensor:
        """(B) of fields with a first dimension of B."""
        # rotations and covariances move on their manifolds
        skew = 0.5 * (fields[4] - fields[4].mT)
        turned = so3.exp(so3.vee(skew)) @ prior.pose.rotation
        covariance = 0.5 * (fields[6] + fields[6].mT)
        before = PoseEstimate.of(Pose(turned, fields[5]), covariance)
        seen = replace(camera, intrinsics=fields[3])
        batch = len(fields[0])
        start = Pose(estimate.pose.rotation.expand(batch, 3, 3), estimate.pose.translation.expand(batch, 3))
        claimed = PoseEstimate.of(start, estimate.covariance.expand(batch, 6, 6))
        pose = implicit_pose(Correspondences(*fields[:3]), seen, claimed, loss, before)
        return torch.cat([pose.rotation.flatten(1), pose.translation], dim=-1) @ probe

    data[3] = data[3].expand(1, -1)
    data[4] = torch.zeros_like(data[4])
    leaves = [tensor.clone().requires_grad_() for tensor in data]
    gradients = torch.autograd.grad(value(*leaves).sum(), leaves)
    return {name: _difference(value, data, i, gradient) for i, (name, gradient) in enumerate(zip(FIELDS, gradients))}


def _difference(value: Callable[..., Tensor], data: list[Tensor], index: int, gradient: Tensor) -> float:
    """Of all entries of a field at once: the rows of a batch differ from the data in one of them each."""
    step = STEPS[index] * float(data[index].abs().max() if index == 6 else 1.0)
    count = data[index].numel()
    steps = step * torch.eye(count, dtype=torch.float64).view(count, *data[index].shape[1:])
    rows = [tensor.expand(2 * count, *tensor.shape[1:]) for tensor in data]
    rows[index] = rows[index] + torch.cat([steps, -steps])
    ends = value(*rows).detach().view(2, count)
    expected = (ends[0] - ends[1]) / (2.0 * step)
    return float((gradient.flatten() - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--problems", type=int, default=10_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    usable, zeros, broken = count_zeros(arguments.problems)
    print(f"{usable} usable poses: {zeros} with a zero gradient, {broken} gradients that are not finite")
    print("largest difference to finite differences, share of the largest entry")
    for matrices in (False, True):
        for loss in LOSSES:
            shares = differences(loss, matrices)
            form = "2x2" if matrices else "per axis"
            print(f"{type(loss).__name__:13} {form:9}" + "  ".join(f"{n} {v:.0e}" for n, v in shares.items()))


if __name__ == "__main__":
    main()
