# mypy: disable-error-code="assignment, no-redef"
# ruff: noqa: UP018, RUF059 - Warp's dialect: float(x) makes a variable, and all results of a call are named
"""How many samples of three points a search needs, for kernels: what draws find, and what may have been missed."""

from typing import Any

import warp as wp

from pnp_ros.kernels import accept_reference, search_reference
from pnp_ros.kernels.accept_warp import log_choices
from pnp_ros.kernels.chunks_warp import TRUST, USED, Problem, Settings, residuals
from pnp_ros.kernels.pose_warp import Pose, robust

LOG_MISS = wp.constant(-4.6)  # log of the probability 0.01 to stop before a sample without outliers was seen
GOOD_SAMPLE = wp.constant(search_reference.GOOD_SAMPLE)
MIN_EVIDENCE = wp.constant(accept_reference.MIN_EVIDENCE)
LOG_2_PI = wp.constant(accept_reference.LOG_2_PI)


@wp.func
def inliers_alone(inliers: float, points: float):
    """The share of samples that consist of inliers."""
    n, k = wp.max(points, 3.0), wp.clamp(inliers, 3.0, points)
    return k * (k - 1.0) * (k - 2.0) / wp.max(n * (n - 1.0) * (n - 2.0), 1.0)


@wp.func
def samples_needed(share: float):
    """How many samples find one of inliers alone that leads to their pose, if these are such a share of all."""
    return LOG_MISS / wp.log(1.0 - GOOD_SAMPLE * wp.clamp(share, 1e-12, 1.0))


@wp.func
def trust_in(chunks: wp.array2d(dtype=Any), problem: Problem, pose: Pose, kind: int, c: float):
    """The share of a pose's inliers in the likelihoods: how often a guided draw finds one of them."""
    r, t = wp.quat_to_matrix(pose.rotation), pose.translation
    one = type(chunks[problem.first, 0])(1.0)
    inside, total = 0.0 * one, 0.0 * one
    for chunk in range(problem.count):
        k = problem.first + chunk
        qx, qy, qz, ru, rv, seen, u_x, u_y, u_z, v_x, v_y, v_z = residuals(problem.lens, chunks, k, r, t)
        rho, weight = robust(kind, c, wp.cw_mul(ru, ru) + wp.cw_mul(rv, rv))
        trust = wp.cw_mul(chunks[k, USED], chunks[k, TRUST])
        inside = inside + wp.cw_mul(trust, weight)
        total = total + trust
    return wp.dot(inside, one) / wp.max(wp.dot(total, one), 1e-12)


@wp.func
def highest_trust(packed: wp.array3d(dtype=float), problem: Problem, width: int):
    """The highest likelihood of all points."""
    highest = float(0.0)
    for i in range(problem.points):
        highest = wp.max(highest, packed[problem.first + i // width, TRUST, i % width])
    return highest


@wp.func
def fewest_inliers(problem: Problem, settings: Settings):
    """The fewest inliers that could be more than chance explains: three make the pose, the others speak for it."""
    each = wp.log(wp.max(settings.pixels / wp.max(problem.variance, 1e-30), 1.0)) - LOG_2_PI
    k = float(4.0)
    while k < problem.used and (k - 3.0) * each - log_choices(problem.used, k) < MIN_EVIDENCE:
        k += 1.0
    return k


@wp.func
def chance_of_more(problem: Problem, fewest: float, drawn: float):
    """The chance that so many samples missed a pose that would be believed, any number of inliers being as probable."""
    total = float(0.0)
    missed = float(1.0)
    k = float(fewest)
    while k <= problem.used and missed > 1e-4:
        missed = wp.exp(-GOOD_SAMPLE * inliers_alone(k, problem.used) * drawn)
        total += missed
        k += 1.0
    return total / (problem.used + 1.0)


@wp.func
def explained_by_chance(problem: Problem, settings: Settings, c: float):
    """What share of the points any pose explains, by Geman and McClure's loss: its mean over the image."""
    near = wp.pi * c * c * problem.variance / settings.pixels
    return wp.min(near * wp.log(1.0 + 1.0 / wp.max(near, 1e-20)), 0.5)
