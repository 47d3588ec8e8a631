# ruff: noqa: UP018, RUF046, RUF059 - Warp's dialect: float(x) makes a variable, and all results of a call are named
"""Levenberg-Marquardt on a camera pose as a Warp kernel: one source for CPU and CUDA.

The algorithm is that of :mod:`pnp_ros.kernels.lm_reference`, step by step, after that of
:mod:`pnp_ros.kernels.consensus_warp` if there is no initial pose. The points of a chunk are worked on at once by
vector instructions, and the threads of a block may share a problem and add up their normal equations. How many points
make a chunk and how many threads a problem are constants of a kernel (:func:`build`); the source does not know the
device.
"""

import functools
from typing import Any

import torch
import warp as wp

from pnp_ros.kernels import lm_problem
from pnp_ros.kernels import robust as robust_math
from pnp_ros.kernels.chunks_warp import (
    EPS,
    USED,
    Buffers,
    Calibration,
    Problem,
    Settings,
    pack,
    residuals,
    start_pose,
    survey,
    turn,
)
from pnp_ros.kernels.consensus_warp import consensus, count_different, is_chance
from pnp_ros.kernels.pose_warp import (
    CAUCHY,
    COST,
    GEMAN_MCCLURE,
    NEXT_COST,
    NUM_SUMS,
    UNSEEN,
    WEIGHT_SUM,
    Block,
    Pose,
    Thread,
    about_origin,
    add_up,
    factorise,
    invert,
    mat66,
    robust,
    substitute,
    vec6,
    vec_sums,
)
from pnp_ros.kernels.prior_warp import Prior, add_prior_cost, in_axes, load_prior, prior_tangent, step_from
from pnp_ros.types import SolveStatus

CONVERGED = wp.constant(int(SolveStatus.CONVERGED))
MAX_ITERATIONS = wp.constant(int(SolveStatus.MAX_ITERATIONS))
DEGENERATE = wp.constant(int(SolveStatus.DEGENERATE))
BEHIND_CAMERA = wp.constant(int(SolveStatus.BEHIND_CAMERA))
NOT_FINITE = wp.constant(int(SolveStatus.NOT_FINITE))

UNKNOWN_VARIANCE = wp.constant(lm_problem.UNKNOWN_VARIANCE)
NUM_PARAMETERS = wp.constant(float(robust_math.NUM_PARAMETERS))
MIN_PIVOT_WITH_PRIOR = wp.constant(lm_problem.MIN_PIVOT_WITH_PRIOR[torch.float32])
MIN_PIVOT = wp.constant(lm_problem.MIN_PIVOT[torch.float32])
GOOD_COST = wp.constant(lm_problem.GOOD_COST)
CONSENSUS_SCALE = wp.constant(2.0)  # the loss's scale at a sample's pose, relative to the final one
BIG = wp.constant(1e30)
DONE = wp.constant(3)  # after the stages 0, 1 and 2 of a minimisation
LAMBDA_START = wp.constant(lm_problem.LAMBDA_START)
LAMBDA_MIN = wp.constant(lm_problem.LAMBDA_MIN)
LAMBDA_MAX = wp.constant(lm_problem.LAMBDA_MAX)

# Warp's default depth keeps LLVM from turning the chunks' vectors into SIMD registers; more inlining than this triples
# the time to compile and gains nothing.
CPU_COMPILER_FLAGS = "-march=native -ffp-contract=fast -mllvm=-inline-threshold=1000 -mllvm=-slp-recursion-max-depth=7"


@wp.func
def normal_equations(
    chunks: wp.array2d(dtype=Any), problem: Problem, group: Any, pose: Pose, kind: int, c: float, c_next: float,
    sums: Any, a: Any,
):  # fmt: skip
    """Sums over all points at a pose. ``sums`` is zero, and ``a`` any, in the types that the chunks ask for."""
    r = wp.quat_to_matrix(pose.rotation)
    t = pose.translation
    b = a
    for chunk in range(group.lane, problem.count, group.lanes):
        k = problem.first + chunk
        qx, qy, qz = turn(r, chunks, k)
        one = type(qx)(1.0)
        ru, rv, seen, u_x, u_y, u_z, v_x, v_y, v_z = residuals(
            problem.lens, chunks, k, qx + t[0] * one, qy + t[1] * one, qz + t[2] * one
        )
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
        a[0] = u_x
        a[1] = u_y
        a[2] = u_z
        a[3] = wp.cw_mul(qy, u_z) - wp.cw_mul(qz, u_y)
        a[4] = wp.cw_mul(qz, u_x) - wp.cw_mul(qx, u_z)
        a[5] = wp.cw_mul(qx, u_y) - wp.cw_mul(qy, u_x)
        b[0] = v_x
        b[1] = v_y
        b[2] = v_z
        b[3] = wp.cw_mul(qy, v_z) - wp.cw_mul(qz, v_y)
        b[4] = wp.cw_mul(qz, v_x) - wp.cw_mul(qx, v_z)
        b[5] = wp.cw_mul(qx, v_y) - wp.cw_mul(qy, v_x)
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
    c_first: float, ratio: float, sums: Any, rows: Any,
):  # fmt: skip
    """The minimum from a pose: its pose, whether the iterations converged, and the sums there.

    The scale falls from ``c_first`` to the final one. Where a given pose leads to a minimum that explains little, a
    second stage starts there again with a Cauchy loss, and a third goes on with the loss itself; the lower cost wins.
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
                if settings.samples == 0 and c_first > settings.scale and not explained:
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


@wp.func
def solve(
    chunks: wp.array2d(dtype=Any), packed: wp.array3d(dtype=float), problem: Problem, prior: Prior,
    settings: Settings, data: Buffers, group: Any, width: int, index: int, sums: Any, rows: Any,
):  # fmt: skip
    """From consensus, or from the given pose: :func:`minimise`."""
    c_first, ratio = float(settings.anneal_from), float(settings.anneal_ratio)
    start = Pose()
    if settings.samples > 0:
        c_first = CONSENSUS_SCALE * settings.scale
        ratio = 0.5
        start, cost = consensus(chunks, packed, problem, settings, group, width, index, c_first)
    else:
        start = start_pose(data, problem, index)
    return minimise(chunks, problem, prior, settings, group, start, c_first, ratio, sums, rows)


@wp.func
def calibrate(settings: Settings, problem: Problem):
    """The loss's calibration for a problem's share of lines; see :func:`robust.covariance_scale`."""
    share = (2.0 * problem.used - problem.residuals) / wp.max(problem.residuals, 1.0)
    mixed = Calibration()
    mixed.information = wp.lerp(settings.plane.information, settings.line.information, share)
    mixed.mean_weight = wp.lerp(settings.plane.mean_weight, settings.line.mean_weight, share)
    mixed.excess = wp.lerp(settings.plane.excess, settings.line.excess, share)
    return mixed


@wp.func
def write_pose(
    data: Buffers, settings: Settings, problem: Problem, prior: Prior, index: int, pose: Pose, converged: bool,
    sums: vec_sums,
):  # fmt: skip
    """Pose about the object's origin, covariance, cost and status of problem ``index``; 1 if all is finite, else 0."""
    r = wp.quat_to_matrix(pose.rotation)
    lever = r * problem.centroid
    t = pose.translation - lever
    calibration = calibrate(settings, problem)
    inliers = sums[WEIGHT_SUM] / calibration.mean_weight
    told = inliers * problem.residuals / wp.max(problem.used, 1.0)
    covariance_scale = 1.0 + NUM_PARAMETERS / wp.max(told, NUM_PARAMETERS) * calibration.excess
    covariance_scale = covariance_scale / calibration.information
    covariance = mat66(0.0)
    pivot = float(0.0)
    if prior.active:
        tangent = prior_tangent(prior, pose)
        covariance, pivot = invert(in_axes(prior, pose, tangent, sums, 1.0 / covariance_scale), 1.0)
        covariance = tangent * covariance * wp.transpose(tangent)
    else:
        covariance, pivot = invert(sums, covariance_scale)
    covariance = about_origin(covariance, lever)
    cost = sums[NEXT_COST]
    status = wp.where(converged, CONVERGED, MAX_ITERATIONS)
    least = wp.where(prior.active, MIN_PIVOT_WITH_PRIOR, MIN_PIVOT)
    determined = pivot > least and problem.residuals + prior.rank >= NUM_PARAMETERS
    allowed = float(0.0)
    if settings.kind == CAUCHY or settings.kind == GEMAN_MCCLURE:
        allowed = wp.floor(0.5 * problem.used)
        radius2 = settings.scale * settings.scale * problem.variance
        # With a prior no agreement of the points is needed: they may all be outliers, and the prior remains.
        if not prior.active and is_chance(inliers, problem.used, radius2, settings.pixels):
            determined = False
    if settings.samples > 0 and (problem.different < 4 or problem.residuals - problem.used < 3.0):
        determined = False
    if not determined:
        status = DEGENERATE
        covariance = UNKNOWN_VARIANCE * wp.identity(n=6, dtype=float)
    if sums[UNSEEN] > allowed and (determined or settings.samples == 0):
        status = BEHIND_CAMERA
    sound = wp.isfinite(r) and wp.isfinite(t) and wp.isfinite(covariance) and wp.isfinite(cost) and problem.finite
    if not sound:
        status = wp.where(problem.finite, DEGENERATE, NOT_FINITE)
        r, t, cost = wp.identity(n=3, dtype=float), wp.vec3(0.0), 0.0
        covariance = UNKNOWN_VARIANCE * wp.identity(n=6, dtype=float)
    for i in range(3):
        for j in range(3):
            data.rotation[index, i, j] = r[i, j]
        data.translation[index, i] = t[i]
    for i in range(6):
        for j in range(6):
            data.covariance[index, i, j] = covariance[i, j]
    data.cost[index] = cost
    data.status[index] = wp.int8(status)
    return wp.where(sound, 1.0, 0.0)


@wp.func
def write_inlier_weights(
    data: Buffers, chunks: wp.array2d(dtype=Any), settings: Settings, problem: Problem, group: Any, index: int,
    pose: Pose, sound: float,
):  # fmt: skip
    """The robust weight of each point that has a weight, else 0; all zero unless ``sound``."""
    r, t = wp.quat_to_matrix(pose.rotation), pose.translation
    for chunk in range(group.lane, problem.count, group.lanes):
        k = problem.first + chunk
        qx, qy, qz = turn(r, chunks, k)
        one = type(qx)(1.0)
        ru, rv, seen, u_x, u_y, u_z, v_x, v_y, v_z = residuals(
            problem.lens, chunks, k, qx + t[0] * one, qy + t[1] * one, qz + t[2] * one
        )
        rho, weight = robust(settings.kind, settings.scale, wp.cw_mul(ru, ru) + wp.cw_mul(rv, rv))
        weight = wp.cw_mul(weight, chunks[k, USED])
        for slot in range(len(weight)):
            i = chunk * len(weight) + slot
            if i < data.inlier_weights.shape[1]:
                data.inlier_weights[index, i] = wp.where(sound > 0.0, weight[slot], 0.0)


@functools.cache
def build(width: int, lanes: int) -> wp.Kernel:
    """The kernel that works on ``width`` points at once, with ``lanes`` threads a problem.

    Launch it with ``dim = problems * lanes``. More than one lane needs ``block_dim = lanes`` and a width of one.
    """
    vector = wp.types.vector(length=width, dtype=wp.float32)
    rows_type = wp.types.matrix(shape=(6, width), dtype=wp.float32)
    sums_type = wp.types.matrix(shape=(NUM_SUMS, width), dtype=wp.float32)
    group_type = Thread if lanes == 1 else Block

    def solve_poses(
        data: Buffers, settings: Settings, chunks: wp.array2d(dtype=vector), packed: wp.array3d(dtype=float)
    ):
        thread = wp.tid()
        index = thread // lanes
        group = group_type()
        group.lane = thread % lanes
        group.lanes = lanes
        pack(packed, data, group, index, width)
        problem = survey(chunks, data, settings, group, index, width)
        if settings.samples > 0:
            problem.different = count_different(packed, problem, group, width)
        prior = load_prior(data.priors, index, -problem.centroid)
        pose, converged, sums = solve(
            chunks, packed, problem, prior, settings, data, group, width, index, sums_type(0.0), rows_type(0.0)
        )
        sound = float(0.0)
        if group.lane == 0:
            sound = write_pose(data, settings, problem, prior, index, pose, converged, sums)
        sound = add_up(group, sound)
        write_inlier_weights(data, chunks, settings, problem, group, index, pose, sound)

    options = {"cpu_compiler_flags": CPU_COMPILER_FLAGS, "enable_backward": False}
    return wp.kernel(solve_poses, module="unique", module_options=options, enable_backward=False)
