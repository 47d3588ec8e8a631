# mypy: disable-error-code="assignment, no-redef, type-var"
# ruff: noqa: UP018, RUF059 - Warp's dialect: float(x) makes a variable, and all results of a call are named
"""A whole solve as one kernel: start, refine, accept.

The start is given, or found by :mod:`pnp_ros.kernels.search_warp`; :mod:`pnp_ros.kernels.lm_warp` refines it. A flat
object is refined from its mirrored pose, too, and so is a second hypothesis of the search that is nearly as good; what
has most evidence (:mod:`pnp_ros.kernels.accept_warp`) is the pose, the next best its alternative. How many points make
a chunk and how many threads a problem are constants of a kernel (:func:`build`); the source does not know the device.
"""

import functools
from typing import Any

import torch
import warp as wp

from pnp_ros.geometry import covariance as pose_covariance
from pnp_ros.kernels import accept_reference, lm_problem
from pnp_ros.kernels import robust as robust_math
from pnp_ros.kernels.accept_warp import (
    GAUSSIAN,
    Weighed,
    close,
    distinct,
    fits,
    mirrored,
    shared_inliers,
    spread,
    step_between,
    vague,
    weigh,
)
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
from pnp_ros.kernels.consensus_warp import cofactors, count_different
from pnp_ros.kernels.lm_warp import CPU_COMPILER_FLAGS, minimise
from pnp_ros.kernels.pose_warp import (
    CAUCHY,
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
    invert,
    mat66,
    robust,
    vec_sums,
)
from pnp_ros.kernels.prior_warp import Prior, in_axes, load_prior, prior_square, prior_tangent
from pnp_ros.kernels.search_warp import FEW, search
from pnp_ros.types import SolveStatus

CONVERGED = wp.constant(int(SolveStatus.CONVERGED))
MAX_ITERATIONS = wp.constant(int(SolveStatus.MAX_ITERATIONS))
DEGENERATE = wp.constant(int(SolveStatus.DEGENERATE))
BEHIND_CAMERA = wp.constant(int(SolveStatus.BEHIND_CAMERA))
NOT_FINITE = wp.constant(int(SolveStatus.NOT_FINITE))
UNEXPLAINED = wp.constant(int(SolveStatus.UNEXPLAINED))

SECOND = wp.constant(lm_problem.SECOND)
UNKNOWN_VARIANCE = wp.constant(pose_covariance.UNKNOWN_VARIANCE)
NUM_PARAMETERS = wp.constant(float(robust_math.NUM_PARAMETERS))
MIN_PIVOT = wp.constant(lm_problem.MIN_PIVOT[torch.float32])
MIN_PIVOT_WITH_PRIOR = wp.constant(lm_problem.MIN_PIVOT_WITH_PRIOR[torch.float32])
MIN_EVIDENCE = wp.constant(accept_reference.MIN_EVIDENCE)
MIN_EVIDENCE_WITH_PRIOR = wp.constant(accept_reference.MIN_EVIDENCE_WITH_PRIOR)
MIN_PROBABILITY = wp.constant(accept_reference.MIN_PROBABILITY)
MAX_DOUBT = wp.constant(accept_reference.MAX_DOUBT)
TRUSTED_EVIDENCE = wp.constant(accept_reference.TRUSTED_EVIDENCE)
MAX_ROUNDING2 = wp.constant(accept_reference.MAX_ROUNDING2)
NO_EVIDENCE = wp.constant(-1e30)
RUNNER_UP = wp.constant(10.0)  # of standing that another hypothesis may have less and still be tried
RUNNER_UP_POINTS = wp.constant(1.5)  # points, likewise, of few points or a loss without bound
OTHER_SCALE = wp.constant(4.0)  # the loss's scale at the start of another hypothesis, relative to the final one
EXPLAINED = wp.constant(accept_reference.EXPLAINED)
EXPLAINED_FOR_SURE = wp.constant(accept_reference.EXPLAINED_FOR_SURE)
SURE_EVIDENCE = wp.constant(accept_reference.SURE_EVIDENCE)
SLENDER = wp.constant(accept_reference.SLENDER)
SLENDER_WORTH = wp.constant(accept_reference.SLENDER_WORTH)
GIVEN, SEARCH, MIRROR, OTHER, END = (wp.constant(i) for i in range(5))


@wp.struct
class Minimum:
    """A pose of the centroid, whether it converged, the normal equations there, and what speaks for it."""

    pose: Pose
    converged: bool
    sums: vec_sums
    weighed: Weighed


@wp.struct
class Answer:
    """The minimum of most standing, and another one whose standing is ``NO_EVIDENCE`` if there is none."""

    best: Minimum
    other: Minimum
    shared: float  # inliers of both
    vague: bool  # whether many poses are to be expected beforehand: as long as no prior tells much


@wp.func
def solve(
    chunks: wp.array2d(dtype=Any), packed: wp.array3d(dtype=float), problem: Problem, prior: Prior,
    settings: Settings, data: Buffers, group: Any, width: int, index: int, calibration: Calibration, sums: Any,
    rows: Any,
):  # fmt: skip
    """All minima worth trying, and the two best of them."""
    c_first, ratio = float(settings.anneal_from), float(settings.anneal_ratio)
    start = Pose()
    runner_up = Pose()
    worth_trying = bool(False)
    restart = bool(True)
    others = settings.accept != 0 and settings.max_iterations > 0  # whether other minima are sought
    answer = Answer()
    answer.vague = True
    answer.best.weighed.standing = NO_EVIDENCE
    answer.other.weighed.standing = NO_EVIDENCE
    stage = int(SEARCH)
    first = bool(True)
    known = float(0.0)  # inliers of the given start's minimum, where that is beyond doubt
    if settings.given != 0:
        stage = GIVEN
        start = start_pose(data, problem, index)
    while stage != END:
        if stage == SEARCH:
            found = search(
                chunks, packed, problem, settings, group, width, calibration.information, calibration.mean_weight,
                answer.best.pose, known, sums, rows,
            )  # fmt: skip
            start = found.pose
            runner_up = found.other
            worth = float(RUNNER_UP)
            if settings.kind < CAUCHY or problem.used < FEW:
                worth = RUNNER_UP_POINTS * 0.5 * settings.scale * settings.scale
            worth_trying = others and found.other_standing > found.standing - worth
            c_first = settings.scale
            restart = False
        pose, converged, equations = minimise(
            chunks, problem, prior, settings, group, start, c_first, ratio, restart, sums, rows
        )
        minimum = Minimum()
        minimum.pose = pose
        minimum.converged = converged
        minimum.sums = equations
        weighed = Weighed()
        if settings.accept != 0:
            weighed = weigh(
                chunks, problem, settings, prior, group, pose, equations, calibration.information,
                calibration.mean_weight,
            )  # fmt: skip
        minimum.weighed = weighed
        step = step_between(answer.best.pose, pose)
        if first:
            answer.best = minimum
        elif distinct(answer.best.sums, step) or distinct(equations, step):
            if weighed.standing > answer.best.weighed.standing:
                answer.other = answer.best
                answer.best = minimum
            elif weighed.standing > answer.other.weighed.standing:
                answer.other = minimum
        elif weighed.standing > answer.best.weighed.standing:
            answer.best = minimum
        if first and prior.active:
            answer.vague = vague(prior, problem, settings, pose)
            others = others and answer.vague
        first = False
        slender = wp.trace(cofactors(problem.scatter)) < SLENDER * problem.extent2 * problem.extent2
        explained = weighed.inliers >= EXPLAINED * problem.used
        explained = explained or (
            weighed.inliers >= EXPLAINED_FOR_SURE * problem.used and weighed.evidence > SURE_EVIDENCE * problem.used
        )
        explained = explained and weighed.evidence > TRUSTED_EVIDENCE and not slender
        c_first = OTHER_SCALE * settings.scale
        ratio = 0.5
        restart = False
        next_stage = int(END)
        if stage == GIVEN and others and settings.samples > 0 and not explained:
            next_stage = SEARCH
            if weighed.evidence > TRUSTED_EVIDENCE:
                known = weighed.inliers
                if slender:
                    known *= SLENDER_WORTH
        elif stage <= SEARCH and others:
            mirror, thin = mirrored(problem.scatter, problem, answer.best.pose)
            if thin:
                next_stage = MIRROR
                start = mirror
        if next_stage == END and stage != OTHER and worth_trying:
            next_stage = OTHER
            start = runner_up
            c_first = settings.scale
        stage = next_stage
    if answer.other.weighed.standing > NO_EVIDENCE:
        a, b = answer.best, answer.other
        answer.shared = shared_inliers(chunks, problem, group, a.pose, a.weighed, b.pose, b.weighed)
    return answer


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
def covariance_of(settings: Settings, problem: Problem, prior: Prior, calibration: Calibration, minimum: Minimum):
    """Covariance about the object's origin, and the smallest pivot of the information."""
    inliers = minimum.sums[WEIGHT_SUM] / calibration.mean_weight
    told = inliers * problem.residuals / wp.max(problem.used, 1.0)
    scale = 1.0 + NUM_PARAMETERS / wp.max(told, NUM_PARAMETERS) * calibration.excess
    scale = scale / calibration.information
    covariance = mat66(0.0)
    pivot = float(0.0)
    if prior.active:
        tangent = prior_tangent(prior, minimum.pose)
        covariance, pivot = invert(in_axes(prior, minimum.pose, tangent, minimum.sums, 1.0 / scale), 1.0)
        covariance = tangent * covariance * wp.transpose(tangent)
    else:
        covariance, pivot = invert(minimum.sums, scale)
    return about_origin(covariance, wp.quat_to_matrix(minimum.pose.rotation) * problem.centroid), pivot


@wp.func
def at_origin(pose: Pose, problem: Problem):
    """The pose of the object's origin."""
    moved = Pose()
    moved.rotation = pose.rotation
    moved.translation = pose.translation - wp.quat_to_matrix(pose.rotation) * problem.centroid
    return moved


@wp.func
def write_pose(data: Buffers, settings: Settings, problem: Problem, prior: Prior, index: int, answer: Answer):
    """Pose about the object's origin, covariance, cost and status of problem ``index``; 1 if all is finite, else 0."""
    calibration = calibrate(settings, problem)
    best = answer.best
    pose = at_origin(best.pose, problem)
    r = wp.quat_to_matrix(pose.rotation)
    t = 1.0 * pose.translation
    covariance, pivot = covariance_of(settings, problem, prior, calibration, best)
    cost = best.sums[NEXT_COST]
    status = wp.where(best.converged, CONVERGED, MAX_ITERATIONS)
    least = wp.where(prior.active, MIN_PIVOT_WITH_PRIOR, MIN_PIVOT)
    determined = pivot > least and problem.residuals + prior.rank >= NUM_PARAMETERS
    # An origin so far away that single precision rounds the points by more than half a deviation of the image's.
    rounding = EPS * wp.length(problem.centroid)
    rounding2 = rounding * rounding * problem.lens.focal[0] * problem.lens.focal[1]
    if rounding2 > MAX_ROUNDING2 * problem.variance * wp.length_sq(best.pose.translation):
        determined = False
    allowed = float(0.0)
    if settings.kind == CAUCHY or settings.kind == GEMAN_MCCLURE:
        allowed = wp.floor(0.5 * problem.used)
    if settings.accept != 0 and answer.vague:
        determined = determined and problem.different >= 4
    if settings.accept != 0 and not prior.active:
        determined = determined and (settings.given != 0 or problem.residuals - problem.used >= 3.0)
    if settings.accept != 0 and not (prior.active and problem.used == 0.0):  # no points contradict no prior
        squares = best.weighed.squares
        if prior.active:
            squares += prior_square(prior, best.pose)
        believed = best.weighed.evidence > wp.where(prior.active, MIN_EVIDENCE_WITH_PRIOR, MIN_EVIDENCE)
        believed = believed or (settings.kind == GAUSSIAN and not answer.vague)
        if not (believed and fits(settings.kind, squares, problem.residuals + prior.rank - NUM_PARAMETERS)):
            status = UNEXPLAINED
    if not determined:
        status = DEGENERATE
    if best.sums[UNSEEN] > allowed and (determined or settings.given != 0):
        status = BEHIND_CAMERA
    # the other hypothesis
    second = pose
    second_covariance = covariance
    probability = float(0.0)
    if answer.other.weighed.standing > NO_EVIDENCE:
        other_covariance, other_pivot = covariance_of(settings, problem, prior, calibration, answer.other)
        if other_pivot > MIN_PIVOT and answer.other.sums[UNSEEN] <= allowed:
            second = at_origin(answer.other.pose, problem)
            second_covariance = other_covariance
            probability = 1.0 / (1.0 + wp.exp(wp.min(best.weighed.standing - answer.other.weighed.standing, 80.0)))
            swapped = answer.shared < wp.min(best.weighed.inliers, answer.other.weighed.inliers) - 0.5
            swapped = swapped and not close(best.pose, answer.other.pose)
            usable = status <= MAX_ITERATIONS
            if settings.accept != 0 and usable and swapped and probability > MAX_DOUBT:
                status = UNEXPLAINED
            if probability > MIN_PROBABILITY:
                step = step_between(pose, second)
                apart = other_covariance + wp.outer(step, step)
                covariance = covariance + probability / (1.0 - probability) * apart
    if status != CONVERGED and status != MAX_ITERATIONS:
        covariance = UNKNOWN_VARIANCE * wp.identity(n=6, dtype=float)
    sound = wp.isfinite(r) and wp.isfinite(t) and wp.isfinite(covariance) and wp.isfinite(cost) and problem.finite
    sound = sound and wp.isfinite(second.rotation) and wp.isfinite(second.translation)
    sound = sound and wp.isfinite(second_covariance) and wp.isfinite(probability)
    if not sound:
        status = wp.where(problem.finite, DEGENERATE, NOT_FINITE)
        r, t, cost = wp.identity(n=3, dtype=float), wp.vec3(0.0), 0.0
        covariance = UNKNOWN_VARIANCE * wp.identity(n=6, dtype=float)
    if not sound or probability == 0.0:
        second_covariance = covariance
        probability = 0.0
    second_r = wp.quat_to_matrix(second.rotation)
    second_t = 1.0 * second.translation
    if probability == 0.0:
        second_r, second_t = 1.0 * r, 1.0 * t
    data.rotation[index] = r
    data.translation[index] = t
    data.covariance[index] = covariance
    first = SECOND * index
    for i in range(3):
        for j in range(3):
            data.second[first + 3 * i + j] = second_r[i, j]
        data.second[first + 9 + i] = second_t[i]
    for i in range(6):
        for j in range(6):
            data.second[first + 12 + 6 * i + j] = second_covariance[i, j]
    data.second[first + SECOND - 1] = probability
    data.cost[index] = cost
    data.status[index] = wp.int8(status)
    data.usable[index] = status <= MAX_ITERATIONS
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
            if i < data.points:
                data.inlier_weights[index * data.points + i] = wp.where(sound > 0.0, weight[slot], 0.0)


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
        pack(packed, data, settings.guided, group, index, width)
        problem = survey(chunks, data, settings, group, index, width)
        problem.different = count_different(packed, problem, group, width)
        problem.scatter = spread(chunks, problem, group)
        problem.extent2 = wp.trace(problem.scatter)
        calibration = calibrate(settings, problem)
        prior = load_prior(data.prior, data.priors, index, -problem.centroid)
        answer = solve(
            chunks,
            packed,
            problem,
            prior,
            settings,
            data,
            group,
            width,
            index,
            calibration,
            sums_type(0.0),
            rows_type(0.0),
        )
        sound = float(0.0)
        if group.lane == 0:
            sound = write_pose(data, settings, problem, prior, index, answer)
        sound = add_up(group, sound)
        write_inlier_weights(data, chunks, settings, problem, group, index, answer.best.pose, sound)

    options = {"cpu_compiler_flags": CPU_COMPILER_FLAGS, "enable_backward": False}
    return wp.kernel(solve_poses, module="unique", module_options=options, enable_backward=False)
