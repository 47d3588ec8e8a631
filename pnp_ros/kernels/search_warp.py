# mypy: disable-error-code="assignment, no-redef"
# ruff: noqa: UP018, RUF046 - Warp's dialect: float(x) makes a variable, and all results of a call are named
"""An initial pose from samples of three points, for kernels: P3P, and local optimisation of the promising ones.

A sample's pose misses the other points by more than the noise. One that explains as many points as the best so far, or
nearly, is refined by a few steps with the robust loss (LO-RANSAC: Chum, Matas, Kittler, 2003; Lebeda, Matas, Chum,
2012), and refined poses compete by the loss itself. Sampling ends when a sample of inliers alone has most probably been
seen: of as many inliers as the best pose has, once these are more than chance explains. A pose beyond doubt ends it
sooner: then only a still better one could be missed. Until a pose is believed, it goes on as long as one that would be
may have been missed (:func:`chance_of_more`).
"""

import math
from typing import Any

import warp as wp

from pnp_ros.kernels import accept_reference, search_reference
from pnp_ros.kernels.accept_warp import Weighed, weigh
from pnp_ros.kernels.alternatives_warp import distinct, step_between
from pnp_ros.kernels.chunks_warp import BEARING, Problem, Settings
from pnp_ros.kernels.consensus_warp import (
    Conics,
    draw,
    gather,
    intersect_cones,
    nth_sample,
    pose_of,
    promising,
    score,
    unproject,
)
from pnp_ros.kernels.lm_warp import newton_step, normal_equations_of
from pnp_ros.kernels.pose_warp import (
    CAUCHY,
    GEMAN_MCCLURE,
    NEXT_COST,
    Pose,
    Thread,
    add_up,
    pick_lowest,
    retract,
    vec9,
    vec_sums,
)
from pnp_ros.kernels.prior_warp import Prior
from pnp_ros.kernels.sampling_warp import (
    LOG_MISS,
    chance_of_more,
    explained_by_chance,
    fewest_inliers,
    highest_trust,
    inliers_alone,
    samples_needed,
    trust_in,
)

SAMPLE_SCALE = wp.constant(2.0)  # the loss's scale at a sample's pose, relative to the final one
POLISH_STEPS = wp.constant(4)
POLISH_DAMPING = wp.constant(1e-3)
NEARLY = wp.constant(1.0)  # points that a sample's pose may explain less than the best one's, to be refined
RIVAL = wp.constant(3.0)  # points that a refined pose may explain less by the loss and still be weighed
RIVAL_SAMPLE = wp.constant(2.0)  # points likewise of a sample, once a pose among near outliers is believed
RELAX = wp.constant(0.005)  # points that the bar rises with each sample until a pose is beyond doubt
SUPPORT = wp.constant(0.5)  # points that a sample's pose explains beside its own three and by chance, to be refined
PREVIEWED = wp.constant(10.0)  # inliers among the points that a sample's pose is first tried on
FEW = wp.constant(float(search_reference.FEW))  # of fewer points, another hypothesis may explain as many
FEW_SAMPLES = wp.constant(8.0)  # at least, of few points
EVERY = wp.constant(search_reference.EVERY)
SOLUTIONS = wp.constant(4.0)  # of a sample, at most
POLISH_FEW = wp.constant(8)  # steps, where refined poses must be told apart closely
POLISHED2 = wp.constant(1e-2)  # squared deviations of a step, after which there
TRUSTING_SAMPLES = wp.constant(16)  # for a loss without bound, which trusts every point
LOG_MISS_TRUSTED = wp.constant(-3.0)  # of 0.05, where a pose is beyond doubt and only a still better one is sought
GOOD_SAMPLE = wp.constant(search_reference.GOOD_SAMPLE)
CHANCE_MISSED = wp.constant(search_reference.CHANCE_MISSED)
FIRST_CHECK = wp.constant(search_reference.FIRST_CHECK)
CHECK_AGAIN = wp.constant(search_reference.CHECK_AGAIN)
BETTER = wp.constant(search_reference.BETTER)
LEAST_SAMPLES = wp.constant(search_reference.LEAST_SAMPLES)
MIN_EVIDENCE = wp.constant(accept_reference.MIN_EVIDENCE)
TRUSTED_EVIDENCE = wp.constant(accept_reference.TRUSTED_EVIDENCE)
BACK_TURN = wp.constant(search_reference.APART)  # rad, to what leads back to the best pose
NOTHING = wp.constant(-1e30)  # standing of no pose
APART = wp.constant(math.cos(0.5 * search_reference.APART))  # of unit quaternions of two hypotheses, their product


@wp.struct
class Hypotheses:
    """The best pose and the best other one, with their standing (of a loss that trusts every point: minus the cost)."""

    pose: Pose
    cost: float
    standing: float
    sums: vec_sums  # the normal equations at the best one
    near: bool  # whether its outliers lie about their places
    other: Pose
    other_standing: float


@wp.func
def apart(problem: Problem, a: Pose, sums_a: vec_sums, b: Pose, sums_b: vec_sums, near: bool):
    """Whether two poses are different hypotheses; of few points, or among near outliers, different minima."""
    if problem.used < FEW or near:
        step = step_between(a, b)
        return distinct(sums_a, step) or distinct(sums_b, step)
    p, q = a.rotation, b.rotation
    return wp.abs(p[0] * q[0] + p[1] * q[1] + p[2] * q[2] + p[3] * q[3]) < APART


@wp.func
def leads_back(found: Pose, sums: vec_sums, sample: Pose):
    """Whether a sample's pose is so near the best one that refining it would end there.

    Near by the normal equations at the best one, and as poses: far away an object is so small that these allow any.
    """
    step = step_between(found, sample)
    moved, turned = wp.vec3(step[0], step[1], step[2]), wp.vec3(step[3], step[4], step[5])
    near = wp.length(moved) < 0.5 * wp.length(sample.translation) and wp.length(turned) < BACK_TURN
    return near and not distinct(sums, step)


@wp.func
def polish(
    chunks: wp.array2d(dtype=Any), problem: Problem, settings: Settings, start: Pose, kind: int, sums: Any, rows: Any
):
    """A sample's pose after a few steps, its cost, and the normal equations there; by one thread."""
    nothing = Prior()
    nothing.active = False
    pose = start
    lowest = start
    c = SAMPLE_SCALE * settings.scale
    cost = float(1e30)
    now = vec_sums(0.0)
    iteration = int(0)
    steps = wp.where(problem.used < FEW, POLISH_FEW, POLISH_STEPS)
    while iteration <= steps:
        trial = normal_equations_of(chunks, problem, 0, 1, pose, kind, c, settings.scale, sums, rows)
        if trial[NEXT_COST] < cost:
            cost = trial[NEXT_COST]
            lowest = pose
            now = trial
        c = settings.scale
        step, length2 = newton_step(nothing, pose, trial, POLISH_DAMPING)
        pose = retract(pose, step)
        if steps == POLISH_FEW and iteration > 0 and length2 < POLISHED2:
            iteration = steps
        iteration += 1
    return lowest, cost, now


@wp.func
def search(
    chunks: wp.array2d(dtype=Any), packed: wp.array3d(dtype=float), problem: Problem, settings: Settings, group: Any,
    width: int, information: float, mean_weight: float, known: Pose, inliers: float, sums: Any, rows: Any,
):  # fmt: skip
    """The best hypotheses of random samples.

    With ``inliers`` > 0, ``known`` is a pose beyond doubt that explains so many points. It is the one to beat, and only
    one that explains more is sought: a wrong minimum explains less than half as many as the right one.
    """
    nothing = Prior()
    nothing.active = False
    kind = int(settings.kind)
    if kind == CAUCHY:
        kind = GEMAN_MCCLURE
    for chunk in range(group.lane, problem.count, group.lanes):
        unproject(chunks, problem, problem.first + chunk)
    found = Hypotheses()
    found.pose.rotation = wp.quat_identity()
    found.other.rotation = wp.quat_identity()
    found.cost = 1e30
    found.standing = NOTHING
    found.other_standing = NOTHING
    alone = Thread()
    alone.lane = 0
    alone.lanes = 1
    # Adding up waits for all threads: each draws from all points.
    most = add_up(group, float(settings.samples)) / float(group.lanes)
    if kind != GEMAN_MCCLURE:
        most = wp.min(most, float(TRUSTING_SAMPLES))
    if problem.different < 4 or problem.residuals - problem.used < 3.0:
        most = 0.0
    every = problem.points <= EVERY and kind == GEMAN_MCCLURE and most > 0.0
    if every:
        n = float(problem.points)
        most = SOLUTIONS * n * (n - 1.0) * (n - 2.0) / 6.0
    needed = float(most)
    c = SAMPLE_SCALE * settings.scale
    near = 0.5 * NEARLY * c * c
    many = kind == GEMAN_MCCLURE and problem.used >= FEW
    rival = wp.where(many, 0.5 * RIVAL * settings.scale * settings.scale, 0.0)
    by_chance = explained_by_chance(problem, settings, c)
    top = float(1e30)
    if kind == GEMAN_MCCLURE and problem.used >= FEW:
        top = 0.5 * c * c * ((1.0 - by_chance) * problem.used - 3.0 - SUPPORT)
    highest_bar = float(top)
    bar = float(top)  # a sample's pose of lower cost is refined
    believed = bool(False)
    sure = bool(False)  # beyond doubt
    if inliers > 0.0 and problem.used >= FEW:
        believed = True
        sure = True
        found.pose = known
        found.sums = normal_equations_of(
            chunks, problem, 0, 1, known, kind, settings.scale, settings.scale, sums, rows
        )  # fmt: skip
        found.cost = found.sums[NEXT_COST]
        known_weighed = weigh(
            chunks, problem, settings, nothing, alone, known, found.sums, information, mean_weight, False
        )  # fmt: skip
        found.standing = known_weighed.standing
        found.near = known_weighed.near
        bar = wp.min(bar, score(chunks, problem, known, kind, c, bar) + near)
        better = samples_needed(inliers_alone(BETTER * inliers, problem.used)) * LOG_MISS_TRUSTED / LOG_MISS
        needed = wp.min(most, wp.max(better, LEAST_SAMPLES))
    reach = wp.pow(
        -LOG_MISS / (GOOD_SAMPLE * wp.max(most, 1.0)), 1.0 / 3.0
    )  # the fewest inliers that are found, of all
    previewed = int(PREVIEWED / (reach * float(width))) + 1
    if kind != GEMAN_MCCLURE:  # a loss without bound tells nothing of single points
        previewed = problem.count
    fewest = float(0.0)
    check = float(FIRST_CHECK)
    state = wp.rand_init(1 + group.lane, problem.points)
    drawn = float(0.0)
    highest = float(0.0)
    if settings.guided != 0:
        highest = highest_trust(packed, problem, width)
    sample = wp.vec3i(-1, -1, -1)
    conics = Conics()
    while drawn < needed:
        guided = settings.guided != 0 and int(drawn) // group.lanes % 2 == 0  # the others trust nobody
        fresh = not every or group.lanes > 1 or int(drawn) % 4 == 0  # of all samples one thread solves each once
        if every and fresh:
            sample = nth_sample(packed, problem, width, (int(drawn) + group.lane) // 4)
        elif fresh:
            sample, state = draw(packed, problem, width, state, wp.where(guided, highest, 0.0))
        whole = sample[0] >= 0 and sample[1] >= 0 and sample[2] >= 0
        if whole and fresh:
            bearings = gather(packed, problem, width, sample, BEARING)
            bearings = wp.matrix_from_rows(
                wp.normalize(wp.vec3(bearings[0])),
                wp.normalize(wp.vec3(bearings[1])),
                wp.normalize(wp.vec3(bearings[2])),
            )
            conics = intersect_cones(bearings, gather(packed, problem, width, sample, 2))
        if whole:
            best = Pose()
            cost = float(bar)
            solution = int(0)
            if every:  # one at a time: another than the best may lead to the pose
                solution = (int(drawn) + group.lane) % 4
            while solution < 4:  # a loop that is not unrolled: the body is large
                pose, exists = pose_of(conics, solution)
                if exists and 2 * previewed < problem.count:
                    exists = promising(chunks, problem, pose, kind, c, by_chance, previewed, int(drawn))
                if exists:
                    pose_cost = score(chunks, problem, pose, kind, c, cost)
                    if pose_cost < cost:
                        cost = pose_cost
                        best = pose
                solution += wp.where(every, 4, 1)
            settled = bool(False)  # of few points: it would only lead to the best pose again
            if cost < bar and problem.used < FEW and found.cost < 1e29:
                settled = leads_back(found.pose, found.sums, best)
            if cost < bar and not settled:
                refined, refined_cost, equations = polish(chunks, problem, settings, best, kind, sums, rows)
                bar = wp.min(bar, cost + near)
                standing = float(-refined_cost)
                weighed = Weighed()
                if kind == GEMAN_MCCLURE:
                    if many:
                        standing = NOTHING
                    if refined_cost < found.cost + rival:
                        weighed = weigh(
                            chunks, problem, settings, nothing, alone, refined, equations, information, mean_weight,
                            False,
                        )  # fmt: skip
                        if many:
                            standing = weighed.standing
                near_by = weighed.near or found.near
                if standing > found.standing:
                    if apart(problem, refined, equations, found.pose, found.sums, near_by):
                        found.other = found.pose
                        found.other_standing = found.standing
                    found.pose = refined
                    found.sums = equations
                    found.cost = refined_cost
                    found.standing = standing
                    found.near = weighed.near
                    if kind == GEMAN_MCCLURE:
                        sure = weighed.evidence > TRUSTED_EVIDENCE
                        if weighed.evidence > MIN_EVIDENCE:
                            believed = True
                            share = inliers_alone(weighed.inliers, problem.used)
                            if settings.guided != 0:
                                trusted = trust_in(chunks, problem, refined, kind, settings.scale)
                                share = 0.5 * (share + trusted * trusted * trusted)
                            needed = samples_needed(share)
                            if sure:
                                needed = needed * LOG_MISS_TRUSTED / LOG_MISS
                            if problem.used < FEW:
                                needed = wp.max(2.0 * needed, FEW_SAMPLES)
                            needed = wp.min(most, needed)
                            if every and weighed.inliers < problem.used:  # which points are wrong is to be known
                                needed = float(most)
                            if problem.used >= FEW:
                                at_best = score(chunks, problem, refined, kind, c, top)
                                bar = wp.min(bar, at_best)
                                if found.near:
                                    highest_bar = wp.min(top, at_best + RIVAL_SAMPLE * near)
                elif standing > found.other_standing and apart(
                    problem, refined, equations, found.pose, found.sums, near_by
                ):
                    found.other = refined
                    found.other_standing = standing
            elif not sure:  # what fits a crowd of outliers must not keep all others from being refined
                bar = wp.min(bar + RELAX * near, highest_bar)
        drawn += float(group.lanes)
        if kind == GEMAN_MCCLURE and not believed and not every and drawn >= check:
            if fewest == 0.0:
                fewest = fewest_inliers(problem, settings)
            if chance_of_more(problem, fewest, drawn) < CHANCE_MISSED:
                needed = float(drawn)
            check = CHECK_AGAIN * check
    mine = found.pose
    picked, lowest = pick_lowest(group, -found.standing, mine)
    # The other hypothesis of the thread (or threads, with the same pose) that found the best one.
    q = 1.0 * found.other.rotation
    t = 1.0 * found.other.translation
    theirs = vec9(q[0], q[1], q[2], q[3], t[0], t[1], t[2], found.other_standing, 1.0)
    chosen = -found.standing == lowest and mine.translation == picked.translation
    theirs = add_up(group, wp.where(chosen, theirs, vec9(0.0)))
    theirs = theirs / wp.max(theirs[8], 1.0)
    hypotheses = Hypotheses()
    hypotheses.pose = picked
    hypotheses.standing = -lowest
    hypotheses.other.rotation = wp.normalize(wp.quat(theirs[0], theirs[1], theirs[2], theirs[3]))
    hypotheses.other.translation = wp.vec3(theirs[4], theirs[5], theirs[6])
    hypotheses.other_standing = wp.where(theirs[8] > 0.0, theirs[7], NOTHING)
    return hypotheses
