# ruff: noqa: UP018, RUF046 - Warp's dialect: float(x) makes a variable, and all results of a call are named
"""Levenberg-Marquardt on a camera pose as a Warp kernel: one source for CPU and CUDA.

The algorithm is that of :mod:`pnp_ros.kernels.lm_reference`, step by step. The points of a chunk are worked on at once
by vector instructions, and the threads of a block may share a problem and add up their normal equations.
"""

from typing import Any

import warp as wp

from pnp_ros.kernels import lm_problem
from pnp_ros.kernels.chunks_warp import EPS, USED, Problem, Settings, by_pose, residuals
from pnp_ros.kernels.pose_warp import (
    CAUCHY,
    COST,
    NEXT_COST,
    NUM_SUMS,
    UNSEEN,
    WEIGHT_SUM,
    Pose,
    add_up,
    factorise,
    robust,
    substitute,
    vec6,
    vec_sums,
)
from pnp_ros.kernels.prior_warp import Prior, add_prior_cost, in_axes, prior_tangent, step_from

GOOD_COST = wp.constant(lm_problem.GOOD_COST)
BIG = wp.constant(1e30)
DONE = wp.constant(3)  # after the stages 0, 1 and 2 of a minimisation
LAMBDA_START = wp.constant(lm_problem.LAMBDA_START)
LAMBDA_MIN = wp.constant(lm_problem.LAMBDA_MIN)
LAMBDA_MAX = wp.constant(lm_problem.LAMBDA_MAX)

# Warp's default depth keeps LLVM from turning the chunks' vectors into SIMD registers; more inlining than this triples
# the time to compile and gains nothing.
CPU_COMPILER_FLAGS = "-march=native -ffp-contract=fast -mllvm=-inline-threshold=1000 -mllvm=-slp-recursion-max-depth=7"


@wp.func
def normal_equations_of(
    chunks: wp.array2d(dtype=Any), problem: Problem, lane: int, lanes: int, pose: Pose, kind: int, c: float,
    c_next: float, sums: Any, a: Any,
):  # fmt: skip
    """Sums over every ``lanes``-th chunk, from ``lane`` on, at a pose; see :func:`normal_equations`."""
    r = wp.quat_to_matrix(pose.rotation)
    t = pose.translation
    b = a
    for chunk in range(lane, problem.count, lanes):
        k = problem.first + chunk
        qx, qy, qz, ru, rv, seen, u_x, u_y, u_z, v_x, v_y, v_z = residuals(problem.lens, chunks, k, r, t)
        one = type(qx)(1.0)
        s = wp.cw_mul(ru, ru) + wp.cw_mul(rv, rv)
        rho, w = robust(kind, c, s)
        if c_next != c:
            sums[COST] = sums[COST] + rho
            rho, w = robust(kind, c_next, s)
            sums[NEXT_COST] = sums[NEXT_COST] + rho
        else:
            sums[COST] = sums[COST] + rho
            sums[NEXT_COST] = sums[NEXT_COST] + rho
        sums[WEIGHT_SUM] = sums[WEIGHT_SUM] + wp.cw_mul(chunks[k, USED], w)
        sums[UNSEEN] = sums[UNSEEN] + wp.cw_mul(chunks[k, USED], one - seen)
        # rows of the Jacobian: derivative by dt, and by dtheta: q x derivative
        a = by_pose(a, qx, qy, qz, u_x, u_y, u_z)
        b = by_pose(b, qx, qy, qz, v_x, v_y, v_z)
        for i in range(6):
            wa, wb = wp.cw_mul(w, a[i]), wp.cw_mul(w, b[i])
            for j in range(i, 6):
                n = (i * (11 - i)) // 2 + j
                sums[n] = sums[n] + wp.cw_mul(wa, a[j]) + wp.cw_mul(wb, b[j])
            sums[21 + i] = sums[21 + i] + wp.cw_mul(wa, ru) + wp.cw_mul(wb, rv)
    total = vec_sums(0.0)
    for n in range(NUM_SUMS):
        total[n] = wp.dot(sums[n], type(sums[n])(1.0))
    total[COST] = 0.5 * total[COST]
    total[NEXT_COST] = 0.5 * total[NEXT_COST]
    return total


@wp.func
def normal_equations(
    chunks: wp.array2d(dtype=Any), problem: Problem, group: Any, pose: Pose, kind: int, c: float, c_next: float,
    sums: Any, a: Any,
):  # fmt: skip
    """Sums over all points at a pose. ``sums`` is zero, and ``a`` any, in the types that the chunks ask for."""
    total = normal_equations_of(chunks, problem, group.lane, group.lanes, pose, kind, c, c_next, sums, a)
    return add_up(group, total)


@wp.func
def newton_step(prior: Prior, pose: Pose, sums: vec_sums, damping: float):
    """The damped step, in a prior's axes, and its squared length in deviations; zero where the Hessian is singular."""
    if prior.active:
        sums = in_axes(prior, pose, prior_tangent(prior, pose), sums, 1.0)
    factor, scale, pivot = factorise(sums, damping)
    gradient = vec6(sums[21], sums[22], sums[23], sums[24], sums[25], sums[26])
    step = -wp.cw_mul(scale, substitute(factor, wp.cw_mul(scale, gradient)))
    if pivot <= 0.0:
        step = vec6(0.0)
    return step, -wp.dot(gradient, step) * (1.0 + damping)


@wp.func
def minimise(
    chunks: wp.array2d(dtype=Any), problem: Problem, prior: Prior, settings: Settings, group: Any, start: Pose,
    c_first: float, ratio: float, restart: bool, sums: Any, rows: Any,
):  # fmt: skip
    """The minimum from a pose: its pose, whether the iterations converged, and the sums there.

    The scale falls from ``c_first`` to the final one. Where that leads to a minimum that explains little, and
    ``restart`` allows it, a second stage starts there again with a Cauchy loss, and a third goes on with the loss
    itself; the lower cost wins.
    """
    kind = int(settings.kind)
    c, c_next, damping = float(c_first), float(c_first), float(LAMBDA_START)
    resolution = problem.resolution + prior.resolution
    tolerance2 = settings.tolerance2 + 8.0 * resolution * resolution
    # One by one: assigned together, structs would share memory.
    pose = start
    candidate = start
    first_pose = start
    first_converged = bool(False)
    now, first_sums = vec_sums(0.0), vec_sums(0.0)
    cost = float(BIG)
    converged, fresh = bool(False), bool(True)  # fresh: nothing to compare with yet
    iteration, stage = int(0), int(0)
    while stage < DONE:
        trial = normal_equations(chunks, problem, group, candidate, kind, c, c_next, sums, rows)
        trial = add_prior_cost(prior, candidate, trial)
        # Near the minimum differences vanish in rounding: a step that changes nothing must not be refused for ever.
        slack = 4.0 * (EPS * cost + resolution * wp.sqrt(cost))
        if fresh or trial[COST] <= cost + slack:
            pose = candidate
            now = trial
            cost = trial[NEXT_COST]
            c = c_next
            damping = wp.where(fresh, LAMBDA_START, wp.max(0.1 * damping, LAMBDA_MIN))
        else:
            damping = wp.min(10.0 * damping, LAMBDA_MAX)
        fresh = False
        step, length2 = newton_step(prior, pose, now, damping)
        converged = c <= settings.scale and length2 <= tolerance2
        ended = converged or iteration >= settings.max_iterations
        if not ended:
            candidate = step_from(prior, pose, step)
            c_next = wp.max(c * ratio, settings.scale)
            iteration += 1
        elif c > settings.scale:  # out of iterations before the last scale
            candidate = pose
            c_next = settings.scale
            fresh = True
        else:
            if stage == 0:
                first_pose = pose
                first_converged = converged
                first_sums = now
                stage = DONE
                explained = cost <= GOOD_COST * settings.scale * settings.scale * problem.used
                if restart and c_first > settings.scale and not explained:
                    stage = 1
                    candidate = start
                    kind = CAUCHY
            elif stage == 1:
                stage = 2
                candidate = pose
                kind = settings.kind
            else:
                stage = DONE
            fresh = True
            iteration = 0
    if first_sums[NEXT_COST] <= now[NEXT_COST]:
        pose = first_pose
        converged = first_converged
        now = first_sums
    return pose, converged, now
