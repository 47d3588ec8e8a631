# mypy: disable-error-code="assignment, no-redef, type-var"
# ruff: noqa: UP018 - Warp's dialect: float(x) makes a variable, and all results of a call are named
"""A whole solve as one kernel: start, refine, accept.

The start is given, or found by :mod:`pnp_ros.kernels.search_warp`; :mod:`pnp_ros.kernels.lm_warp` refines it. A flat
object is refined from its mirrored pose, too, and so is a second hypothesis of the search that is nearly as good; what
has most evidence (:mod:`pnp_ros.kernels.accept_warp`) is the pose, the next best its alternative. How many points make
a chunk and how many threads a problem are constants of a kernel (:func:`build`); the source does not know the device.
"""

import functools
from typing import Any

import warp as wp

from pnp_ros.kernels import accept_reference, doubt_reference
from pnp_ros.kernels.accept_warp import Weighed, shared_inliers, vague, weigh
from pnp_ros.kernels.alternatives_warp import distinct, mirrored, spread, step_between
from pnp_ros.kernels.answer_warp import (
    NO_EVIDENCE,
    Answer,
    Minimum,
    covariance_of,
    covariance_scale,
    write_inlier_weights,
    write_pose,
)
from pnp_ros.kernels.chunks_warp import Buffers, Calibration, Problem, Settings, pack, start_pose, survey
from pnp_ros.kernels.consensus_warp import cofactors, count_different
from pnp_ros.kernels.doubt_warp import with_doubt
from pnp_ros.kernels.lm_warp import CPU_COMPILER_FLAGS, minimise
from pnp_ros.kernels.pose_warp import CAUCHY, NUM_SUMS, Block, Pose, Thread, add_up
from pnp_ros.kernels.prior_warp import Prior, load_prior
from pnp_ros.kernels.search_warp import FEW, search

MIN_EVIDENCE = wp.constant(accept_reference.MIN_EVIDENCE)
TRUSTED_EVIDENCE = wp.constant(accept_reference.TRUSTED_EVIDENCE)
RUNNER_UP = wp.constant(10.0)  # of standing that another hypothesis may have less and still be tried
RUNNER_UP_POINTS = wp.constant(1.5)  # points, likewise, of few points or a loss without bound
OTHER_SCALE = wp.constant(4.0)  # the loss's scale at the start of another hypothesis, relative to the final one
EXPLAINED = wp.constant(accept_reference.EXPLAINED)
EXPLAINED_FOR_SURE = wp.constant(accept_reference.EXPLAINED_FOR_SURE)
SURE_EVIDENCE = wp.constant(accept_reference.SURE_EVIDENCE)
SLENDER = wp.constant(accept_reference.SLENDER)
SLENDER_WORTH = wp.constant(accept_reference.SLENDER_WORTH)
MANY_INLIERS = wp.constant(float(doubt_reference.MANY_INLIERS))
GIVEN, SEARCH, MIRROR, OTHER, END = (wp.constant(i) for i in range(5))


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
                calibration.mean_weight, True,
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
        best = answer.best
        scale = covariance_scale(problem, calibration, best)
        covariance, pivot = covariance_of(prior, best, scale)
        doubtful = best.weighed.evidence > MIN_EVIDENCE and best.weighed.inliers < MANY_INLIERS
        if settings.accept != 0 and settings.kind >= CAUCHY and doubtful:
            covariance = with_doubt(
                chunks,
                problem,
                settings,
                group,
                best.pose,
                best.weighed,
                covariance,
                scale,
                sums_type(0.0),
                rows_type(0.0),
            )
        sound = float(0.0)
        if group.lane == 0:
            sound = write_pose(data, settings, problem, prior, calibration, index, answer, covariance, pivot)
        sound = add_up(group, sound)
        write_inlier_weights(data, chunks, settings, problem, group, index, answer.best.pose, sound)

    options = {"cpu_compiler_flags": CPU_COMPILER_FLAGS, "enable_backward": False}
    return wp.kernel(solve_poses, module="unique", module_options=options, enable_backward=False)
