# mypy: disable-error-code="assignment, no-redef, type-var"
# ruff: noqa: UP018, RUF059 - Warp's dialect: float(x) makes a variable, and all results of a call are named
"""What a solve answers, for kernels: the two best poses, the covariance that knows of both, and the status."""

from typing import Any

import torch
import warp as wp

from pnp_ros.geometry import covariance as pose_covariance
from pnp_ros.kernels import accept_reference, lm_problem, packed_estimate
from pnp_ros.kernels import robust as robust_math
from pnp_ros.kernels.accept_warp import GAUSSIAN, Weighed, fits
from pnp_ros.kernels.alternatives_warp import close, step_between
from pnp_ros.kernels.chunks_warp import USED, Buffers, Calibration, Problem, Settings, residuals
from pnp_ros.kernels.pose_warp import (
    CAUCHY,
    EPS,
    GEMAN_MCCLURE,
    NEXT_COST,
    UNSEEN,
    WEIGHT_SUM,
    Pose,
    about_origin,
    invert,
    mat66,
    robust,
    vec_sums,
)
from pnp_ros.kernels.prior_warp import Prior, in_axes, prior_square, prior_tangent
from pnp_ros.types import SolveStatus

CONVERGED = wp.constant(int(SolveStatus.CONVERGED))
MAX_ITERATIONS = wp.constant(int(SolveStatus.MAX_ITERATIONS))
DEGENERATE = wp.constant(int(SolveStatus.DEGENERATE))
BEHIND_CAMERA = wp.constant(int(SolveStatus.BEHIND_CAMERA))
NOT_FINITE = wp.constant(int(SolveStatus.NOT_FINITE))
UNEXPLAINED = wp.constant(int(SolveStatus.UNEXPLAINED))

SECOND = wp.constant(lm_problem.SECOND)
COVARIANCE = wp.constant(packed_estimate.COVARIANCE)
COST = wp.constant(packed_estimate.COST)
STATUS = wp.constant(packed_estimate.STATUS)
ALTERNATIVE = wp.constant(packed_estimate.ALTERNATIVE)
INLIER_WEIGHTS = wp.constant(packed_estimate.INLIER_WEIGHTS)
UNKNOWN_VARIANCE = wp.constant(pose_covariance.UNKNOWN_VARIANCE)
NUM_PARAMETERS = wp.constant(float(robust_math.NUM_PARAMETERS))
MIN_PIVOT = wp.constant(lm_problem.MIN_PIVOT[torch.float32])
MIN_PIVOT_WITH_PRIOR = wp.constant(lm_problem.MIN_PIVOT_WITH_PRIOR[torch.float32])
MIN_EVIDENCE = wp.constant(accept_reference.MIN_EVIDENCE)
MIN_EVIDENCE_WITH_PRIOR = wp.constant(accept_reference.MIN_EVIDENCE_WITH_PRIOR)
MIN_PROBABILITY = wp.constant(accept_reference.MIN_PROBABILITY)
MAX_DOUBT = wp.constant(accept_reference.MAX_DOUBT)
MAX_ROUNDING2 = wp.constant(accept_reference.MAX_ROUNDING2)
NO_EVIDENCE = wp.constant(-1e30)


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
def covariance_scale(problem: Problem, calibration: Calibration, minimum: Minimum):
    """As :func:`robust.covariance_scale`."""
    inliers = minimum.sums[WEIGHT_SUM] / calibration.mean_weight
    told = inliers * problem.residuals / wp.max(problem.used, 1.0)
    return (1.0 + NUM_PARAMETERS / wp.max(told, NUM_PARAMETERS) * calibration.excess) / calibration.information


@wp.func
def covariance_of(prior: Prior, minimum: Minimum, scale: float):
    """Covariance about the points' centroid, and the smallest pivot of the information."""
    covariance = mat66(0.0)
    pivot = float(0.0)
    if prior.active:
        tangent = prior_tangent(prior, minimum.pose)
        covariance, pivot = invert(in_axes(prior, minimum.pose, tangent, minimum.sums, 1.0 / scale), 1.0)
        covariance = tangent * covariance * wp.transpose(tangent)
    else:
        covariance, pivot = invert(minimum.sums, scale)
    return covariance, pivot


@wp.func
def lever_of(pose: Pose, problem: Problem):
    """From the object's origin to the centroid, in camera axes."""
    return wp.quat_to_matrix(pose.rotation) * problem.centroid


@wp.func
def at_origin(pose: Pose, problem: Problem):
    """The pose of the object's origin."""
    moved = Pose()
    moved.rotation = pose.rotation
    moved.translation = pose.translation - lever_of(pose, problem)
    return moved


@wp.func
def write_pose(
    data: Buffers, settings: Settings, problem: Problem, prior: Prior, calibration: Calibration, index: int,
    answer: Answer, covariance: mat66, pivot: float,
):  # fmt: skip
    """Pose about the object's origin, covariance, cost and status of problem ``index``; 1 if all is finite, else 0.

    ``covariance`` and the smallest ``pivot`` of the information are those of the best pose, about the centroid.
    """
    best = answer.best
    pose = at_origin(best.pose, problem)
    r = wp.quat_to_matrix(pose.rotation)
    t = 1.0 * pose.translation
    covariance, told = about_origin(covariance, lever_of(best.pose, problem))
    cost = best.sums[NEXT_COST]
    status = wp.where(best.converged, CONVERGED, MAX_ITERATIONS)
    least = wp.where(prior.active, MIN_PIVOT_WITH_PRIOR, MIN_PIVOT)
    determined = pivot > least and problem.residuals + prior.rank >= NUM_PARAMETERS and told
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
        other_scale = covariance_scale(problem, calibration, answer.other)
        other_covariance, other_pivot = covariance_of(prior, answer.other, other_scale)
        other_covariance, other_told = about_origin(other_covariance, lever_of(answer.other.pose, problem))
        if other_told and other_pivot > MIN_PIVOT and answer.other.sums[UNSEEN] <= allowed:
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
    data.usable[index] = status <= MAX_ITERATIONS
    data.rest[COST * data.problems + index] = cost
    data.rest[STATUS * data.problems + index] = float(status)
    own, other = COVARIANCE * data.problems + 36 * index, ALTERNATIVE * data.problems + SECOND * index
    for i in range(6):
        for j in range(6):
            data.rest[own + 6 * i + j] = covariance[i, j]
            data.rest[other + 12 + 6 * i + j] = second_covariance[i, j]
    for i in range(3):
        for j in range(3):
            data.rest[other + 3 * i + j] = second_r[i, j]
        data.rest[other + 9 + i] = second_t[i]
    data.rest[other + SECOND - 1] = probability
    return wp.where(sound, 1.0, 0.0)


@wp.func
def write_inlier_weights(
    data: Buffers, chunks: wp.array2d(dtype=Any), settings: Settings, problem: Problem, group: Any, index: int,
    pose: Pose, sound: float,
):  # fmt: skip
    """The robust weight of each point that has a weight, else 0; all zero unless ``sound``."""
    r, t = wp.quat_to_matrix(pose.rotation), pose.translation
    mine = INLIER_WEIGHTS * data.problems + data.points * index
    for chunk in range(group.lane, problem.count, group.lanes):
        k = problem.first + chunk
        qx, qy, qz, ru, rv, seen, u_x, u_y, u_z, v_x, v_y, v_z = residuals(problem.lens, chunks, k, r, t)
        rho, weight = robust(settings.kind, settings.scale, wp.cw_mul(ru, ru) + wp.cw_mul(rv, rv))
        weight = wp.cw_mul(weight, chunks[k, USED])
        for slot in range(len(weight)):
            i = chunk * len(weight) + slot
            if i < data.points:
                data.rest[mine + i] = wp.where(sound > 0.0, weight[slot], 0.0)
