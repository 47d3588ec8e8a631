# mypy: disable-error-code="assignment, no-redef, call-overload"
# ruff: noqa: UP018, RUF046, RUF059 - Warp's dialect: float(x) makes a variable, and all results of a call are named
"""Whether a pose is believed, for kernels.

The formulas are those of :mod:`pnp_ros.kernels.accept_reference`.
"""

import math
from typing import Any

import warp as wp

from pnp_ros.kernels import accept_reference
from pnp_ros.kernels.chunks_warp import DENSITY, RANK, USED, Problem, Settings, residuals
from pnp_ros.kernels.lens_warp import inverse
from pnp_ros.kernels.pose_warp import WEIGHT_SUM, Pose, add_up, factorise, vec6, vec_sums
from pnp_ros.kernels.prior_warp import Prior, log_share, prior_square, prior_volume
from pnp_ros.kernels.robust import RobustKind

GAUSSIAN = wp.constant(int(RobustKind.GAUSSIAN))
LOG_VOLUME = wp.constant(accept_reference.LOG_TURNS + accept_reference.LOG_DEPTHS)
LOG_2_PI = wp.constant(accept_reference.LOG_2_PI)
TWO_PI = wp.constant(2.0 * math.pi)
DEPTHS = wp.constant(math.exp(accept_reference.LOG_DEPTHS))
BROAD_TURN2 = wp.constant(accept_reference.BROAD_TURN2)
VAGUE = wp.constant(accept_reference.VAGUE)
CHI_SQUARE_DEVIATION = wp.constant(accept_reference.CHI_SQUARE_DEVIATION)
TRUSTED_VARIANCE = wp.constant(accept_reference.TRUSTED_VARIANCE)
BIG = wp.constant(1e30)
CENTRES = wp.constant(accept_reference.CENTRES)
CROWD = wp.constant(accept_reference.CROWD)
CROWD_DOUBT = wp.constant(accept_reference.CROWD_DOUBT)

LINE = wp.constant(math.sqrt(0.5 * math.pi))
LINE_LOG = wp.constant(2.0 * math.log(2.0))
NEAR_SHARE = wp.constant(accept_reference.NEAR_SHARE)
LEAST_NEAR = wp.constant(accept_reference.LEAST_NEAR)
MAX_DENSITY = wp.constant(60.0)
MIN_EVIDENCE = wp.constant(accept_reference.MIN_EVIDENCE)

vec_centres = wp.types.vector(length=accept_reference.CENTRES, dtype=wp.float32)


@wp.struct
class Weighed:
    """What speaks for a pose.

    evidence: that it is one; the standing compares it with others: how well all points are explained, outliers too.
    spread: of outliers near their places, squared deviations; 0 where they may be anywhere.
    """

    evidence: float
    standing: float
    inliers: float
    likely: float  # inliers, by the robust weights
    squares: float  # sum of squared residuals
    spread: float
    near: bool  # whether outliers lie about their places rather than anywhere
    outliers: float
    log_spread: float  # of these, and of one that stands for none; see :class:`accept_reference.Weighed`


@wp.func
def log_factorial(n: float):
    """Stirling's series, from n = 0 on within 0.001."""
    x = n + 1.0
    return (x - 0.5) * wp.log(x) - x + 0.9189385 + 1.0 / (12.0 * x)


@wp.func
def log_choices(n: float, k: float):
    """Log of the number of ways to choose which points, and how many, are inliers."""
    return wp.log(n + 1.0) + log_factorial(n) - log_factorial(k) - log_factorial(n - k)


@wp.func
def log_determinant(sums: vec_sums, information: float, distance2: float):
    """Of the information of a pose, which nothing makes less known than to a radian and to its distance."""
    known = information * sums
    for i in range(6):
        diagonal = (i * (11 - i)) // 2 + i
        known[diagonal] = known[diagonal] + wp.where(i < 3, 1.0 / wp.max(distance2, 1e-30), 1.0)
    factor, scale, pivot = factorise(known, 0.0)
    value = float(0.0)
    for i in range(6):
        value -= 2.0 * wp.log(factor[i, i] * scale[i])
    return value


@wp.func
def log_density(problem: Problem, settings: Settings):
    """Log of how much denser an inlier lies at its place than a point anywhere in the image, on average."""
    return wp.log(settings.pixels / (TWO_PI * problem.variance))


@wp.func
def near_density(s: float, spread: float, rank: float):
    """Of outliers near their places at a squared residual ``s``, for that of inliers at zero."""
    closer = spread / (spread + s)
    return wp.where(rank > 1.5, closer * closer * 2.0 / spread, LINE * closer * wp.sqrt(closer / spread))


@wp.func
def nearness(chunks: wp.array2d(dtype=Any), k: int, s: Any, spread: float):
    """Log of how much denser than over the image outliers near their places lie at squared residuals ``s``."""
    near = 0.0 * s
    for i in range(len(near)):
        closer = near_density(s[i], spread, chunks[k, RANK][i])
        near[i] = wp.log(0.5 + 0.5 * wp.exp(wp.min(chunks[k, DENSITY][i], MAX_DENSITY)) * closer)
    return wp.cw_mul(chunks[k, USED], near)


@wp.func
def tell_of(
    chunks: wp.array2d(dtype=Any), problem: Problem, k: int, r: wp.mat33, t: wp.vec3, price: float, spread: float
):
    """What each point of chunk ``k`` tells of a pose, its nearness, whether it is an inlier, and its squared residual.

    The nearness is that of outliers with a ``spread`` about their places; 0: they may be anywhere in the image.
    """
    qx, qy, qz, ru, rv, seen, u_x, u_y, u_z, v_x, v_y, v_z = residuals(problem.lens, chunks, k, r, t)
    one = type(qx)(1.0)
    s = wp.cw_mul(ru, ru) + wp.cw_mul(rv, rv)
    near = 0.0 * one
    if spread > 0.0:
        near = nearness(chunks, k, s, spread)
    told = chunks[k, DENSITY] - 0.5 * s
    inlier = wp.min(wp.max(1e30 * (told - near - price * one), 0.0 * one), one)
    return told, near, wp.cw_mul(chunks[k, USED], inlier), s


@wp.func
def price_of(problem: Problem, likely: float):
    """What a point must tell to be counted as an inlier, the shares of in- and outliers being as they are."""
    return wp.log((problem.used - likely + 1.0) / (likely + 1.0))


@wp.func
def tell(chunks: wp.array2d(dtype=Any), problem: Problem, group: Any, pose: Pose, likely: float, spread: float):
    """What all points tell of a pose.

    The inliers' fit, how many they are, the squared residuals of all, the nearness of inliers and of outliers, and the
    sum of the outliers' log squared residuals.
    """
    r, t = wp.quat_to_matrix(pose.rotation), pose.translation
    price = price_of(problem, likely)
    none = 0.0 * chunks[problem.first, 0]
    fit, inliers, squares, at_inliers, near_all = 1.0 * none, 1.0 * none, 1.0 * none, 1.0 * none, 1.0 * none
    logs = float(0.0)
    for chunk in range(group.lane, problem.count, group.lanes):
        k = problem.first + chunk
        told, near, inlier, s = tell_of(chunks, problem, k, r, t, price, spread)
        fit = fit + wp.cw_mul(inlier, told)
        inliers = inliers + inlier
        squares = squares + s
        if spread > 0.0:
            at_inliers = at_inliers + wp.cw_mul(inlier, near)
            near_all = near_all + near
        else:
            for i in range(len(s)):
                if inlier[i] < chunks[k, USED][i]:
                    logs += wp.log(wp.max(s[i], 1e-30)) + LINE_LOG * (2.0 - chunks[k, RANK][i])
    one = type(fit)(1.0)
    found = vec6(0.0)
    found[0] = wp.dot(fit, one)
    found[1] = wp.dot(inliers, one)
    found[2] = wp.dot(squares, one)
    found[3] = wp.dot(at_inliers, one)
    found[4] = wp.dot(near_all, one) - found[3]
    found[5] = logs
    return add_up(group, found)


@wp.func
def shared_inliers(
    chunks: wp.array2d(dtype=Any), problem: Problem, group: Any, a: Pose, weighed_a: Weighed, b: Pose,
    weighed_b: Weighed,
):  # fmt: skip
    """How many points are inliers of both poses."""
    r_a, r_b = wp.quat_to_matrix(a.rotation), wp.quat_to_matrix(b.rotation)
    t_a, t_b = 1.0 * a.translation, 1.0 * b.translation
    price_a, price_b = price_of(problem, weighed_a.likely), price_of(problem, weighed_b.likely)
    both = 0.0 * chunks[problem.first, 0]
    for chunk in range(group.lane, problem.count, group.lanes):
        k = problem.first + chunk
        told_a, near_a, inlier_a, s_a = tell_of(chunks, problem, k, r_a, t_a, price_a, weighed_a.spread)
        told_b, near_b, inlier_b, s_b = tell_of(chunks, problem, k, r_b, t_b, price_b, weighed_b.spread)
        both = both + wp.cw_mul(inlier_a, inlier_b)
    return add_up(group, wp.dot(both, type(both)(1.0)))


@wp.func
def crowding(
    chunks: wp.array2d(dtype=Any), problem: Problem, settings: Settings, group: Any, pose: Pose, likely: float,
    spread: float,
):  # fmt: skip
    """What inliers tell less of a pose, because its outliers crowd where they lie."""
    r, t = wp.quat_to_matrix(pose.rotation), pose.translation
    price = price_of(problem, likely)
    one = type(chunks[problem.first, 0])(1.0)
    u, v = vec_centres(0.0), vec_centres(0.0)
    stride = wp.max((problem.points + CENTRES - 1) // CENTRES, 1)
    centres, drawn = int(0), float(0.0)
    for chunk in range(problem.count):
        k = problem.first + chunk
        told, near, inlier, s = tell_of(chunks, problem, k, r, t, price, spread)
        for slot in range(len(one)):
            i = chunk * len(one) + slot
            if i % stride == 0 and chunks[k, USED][slot] > 0.0:
                drawn += 1.0
                if inlier[slot] == 0.0:
                    u[centres] = chunks[k, 0][slot]
                    v[centres] = chunks[k, 1][slot]
                    centres += 1
    wide = 1.0 / (CROWD * settings.pixels)
    each = 1.0 / (wp.pi * CROWD * wp.max(drawn, 1.0))
    less = 0.0 * one
    told_by_others = float(0.0)
    i_centre = int(0)
    while i_centre < centres:
        close_by = float(0.0)
        j = int(0)
        while j < centres:
            du, dv = u[i_centre] - u[j], v[i_centre] - v[j]
            close = 1.0 / (1.0 + wide * (du * du + dv * dv))
            close_by += close * close
            j += 1
        told_by_others += wp.log(0.5 + 0.5 * each * (close_by - 1.0))
        i_centre += 1
    if told_by_others > 0.0:
        for chunk in range(group.lane, problem.count, group.lanes):
            k = problem.first + chunk
            told, near, inlier, s = tell_of(chunks, problem, k, r, t, price, spread)
            crowd = 0.0 * one
            centre = int(0)
            while centre < centres:
                across, along = chunks[k, 0] - u[centre] * one, chunks[k, 1] - v[centre] * one
                nearby = inverse(one + wide * (wp.cw_mul(across, across) + wp.cw_mul(along, along)))
                crowd = crowd + wp.cw_mul(nearby, nearby)
                centre += 1
            for slot in range(len(one)):
                crowd[slot] = wp.log(wp.max(0.5 + 0.5 * each * crowd[slot], 1.0))
            less = less + 0.5 * wp.cw_mul(wp.cw_mul(inlier, chunks[k, RANK]), crowd)
    return add_up(group, wp.dot(less, one))


@wp.func
def broad_variances(problem: Problem, settings: Settings, pose: Pose):
    """Variances of all poses in view, at the distance of one."""
    distance2 = wp.length_sq(pose.translation) + problem.extent2
    places = settings.pixels / (problem.lens.focal[0] * problem.lens.focal[1])
    move = wp.pow(DEPTHS * places, 2.0 / 3.0) / TWO_PI * distance2
    return vec6(move, move, move, BROAD_TURN2, BROAD_TURN2, BROAD_TURN2)


@wp.func
def vague(prior: Prior, problem: Problem, settings: Settings, pose: Pose):
    """Whether so little is known beforehand that the pose may be another one altogether."""
    if prior.active:
        return log_share(prior, broad_variances(problem, settings, pose)) > VAGUE
    return True


@wp.func
def volume_of(problem: Problem, settings: Settings, prior: Prior, pose: Pose, sums: vec_sums, information: float):
    """Log of how many poses could be told apart, at one whose points' normal equations are ``sums``."""
    volume = float(0.0)
    if prior.active:
        volume = prior_volume(prior, pose, sums, information, broad_variances(problem, settings, pose))
    else:
        distance2 = wp.length_sq(pose.translation) + problem.extent2
        places = settings.pixels / (problem.lens.focal[0] * problem.lens.focal[1])
        volume = LOG_VOLUME + wp.log(places) + 1.5 * wp.log(distance2) - 3.0 * LOG_2_PI
        volume = volume + 0.5 * log_determinant(sums, information, distance2)
    return volume


@wp.func
def likely_inliers(problem: Problem, sums: vec_sums, mean_weight: float):
    """About how many inliers a pose has, by the robust weights."""
    return wp.clamp(sums[WEIGHT_SUM] / mean_weight, 1.0, wp.max(problem.used, 1.0))


@wp.func
def weigh(
    chunks: wp.array2d(dtype=Any), problem: Problem, settings: Settings, prior: Prior, group: Any, pose: Pose,
    sums: vec_sums, information: float, mean_weight: float, fully: bool,
):  # fmt: skip
    """What speaks for a pose at which the points' normal equations are ``sums``.

    Unless ``fully``, a crowd is not looked for where the pose is not believed anyway: it stays below all that are.
    """
    weighed = Weighed()
    likely = likely_inliers(problem, sums, mean_weight)
    told = tell(chunks, problem, group, pose, likely, 0.0)
    spread = float(0.0)
    weighed.outliers = problem.used - told[1]
    usual = log_density(problem, settings) * problem.used / wp.max(problem.residuals, 1.0)
    weighed.log_spread = (told[5] + usual) / (weighed.outliers + 1.0)
    if problem.used - told[1] >= LEAST_NEAR:
        width = wp.exp(told[5] / (problem.used - told[1]))
        size2 = problem.extent2 * problem.lens.focal[0] * problem.lens.focal[1] / wp.length_sq(pose.translation)
        if width * problem.variance < NEAR_SHARE * size2:
            near = tell(chunks, problem, group, pose, likely, width)
            near[4] = near[4] - (problem.used - near[1]) * problem.blob
            if near[4] > 0.0:
                told = near
                spread = width
    volume = volume_of(problem, settings, prior, pose, sums, information)
    if not wp.isfinite(volume):
        volume = BIG
    evidence = told[0] - log_choices(problem.used, told[1]) - volume
    if prior.active:
        evidence -= 0.5 * prior_square(prior, pose)
    less = float(0.0)
    if spread > 0.0:
        broader = 3.0 * wp.log(0.75 * spread * wp.max(told[1], 1.0) / wp.max(problem.used, 1.0))
        less = wp.max(told[3] - wp.max(volume - wp.max(broader, 0.0), 0.0), 0.0)
    weighed.near = less > 0.0
    weighed.standing = evidence + told[4]
    if told[1] < problem.used and (fully or evidence - less > MIN_EVIDENCE):
        crowd = crowding(chunks, problem, settings, group, pose, likely, spread)
        weighed.standing = weighed.standing - wp.max(crowd - told[3], 0.0)
        less = wp.max(less, wp.where(crowd > 0.0, crowd + CROWD_DOUBT, 0.0))
    weighed.evidence = evidence - less
    if not (wp.isfinite(weighed.evidence) and wp.isfinite(weighed.standing)):
        weighed.evidence = -BIG
        weighed.standing = -BIG
    weighed.inliers = told[1]
    weighed.likely = likely
    weighed.squares = told[2]
    weighed.spread = spread
    return weighed


@wp.func
def fits(kind: int, squares: float, freedom: float):
    """Whether a Gaussian fit's sum of squares is one that its weights allow (Wilson and Hilferty, 1931)."""
    if kind != GAUSSIAN or freedom <= 0.0:
        return True
    width = 2.0 / (9.0 * freedom)
    root = 1.0 - width + CHI_SQUARE_DEVIATION * wp.sqrt(width)
    return squares <= TRUSTED_VARIANCE * freedom * root * root * root
