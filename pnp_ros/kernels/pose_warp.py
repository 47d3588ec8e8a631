# mypy: disable-error-code="assignment, no-redef"
# ruff: noqa: UP018, RUF059 - Warp's dialect: float(x) makes a variable, and all results of a call are named
"""What the pose kernels compute with: poses, sums over threads, robust losses and 6x6 normal equations."""

from typing import Any

import warp as wp

from pnp_ros.kernels import lens_warp, lm_problem
from pnp_ros.kernels.robust import RobustKind

HUBER = wp.constant(int(RobustKind.HUBER))
CAUCHY = wp.constant(int(RobustKind.CAUCHY))
GEMAN_MCCLURE = wp.constant(int(RobustKind.GEMAN_MCCLURE))

# Sums over a problem's points: the Hessian's upper triangle (21), the gradient (6), and
COST = wp.constant(27)  # with the scale of the step that led here
NEXT_COST = wp.constant(28)  # with the scale of the step that follows
UNSEEN = wp.constant(29)  # points with weight that the camera cannot see
WEIGHT_SUM = wp.constant(30)  # robust weights of points with weight
NUM_SUMS = 31
EPS = wp.constant(2.0**-23)
ROUNDING = wp.constant(wp.types.vector(length=len(lm_problem.ROUNDING), dtype=wp.float32)(lm_problem.ROUNDING))

vec7 = wp.types.vector(length=7, dtype=wp.float32)
vec9 = wp.types.vector(length=9, dtype=wp.float32)
vec6 = wp.types.vector(length=6, dtype=wp.float32)
mat66 = wp.types.matrix(shape=(6, 6), dtype=wp.float32)
vec_sums = wp.types.vector(length=NUM_SUMS, dtype=wp.float32)


@wp.struct
class Pose:
    """rotation: unit quaternion; translation: of the centroid, m."""

    rotation: wp.quat
    translation: wp.vec3


@wp.struct
class Thread:
    """A thread that works on a problem of its own."""

    lane: int
    lanes: int


@wp.struct
class Block:
    """One of the threads of a block that share a problem."""

    lane: int
    lanes: int


@wp.func
def add_up(group: Thread, value: Any):
    """The sum over the threads of a problem, in each of them."""
    return value


@wp.func
def add_up(group: Block, value: Any):  # noqa: F811 - an overload
    return wp.tile_sum(wp.tile(value, preserve_type=True))[0]


@wp.func
def pick_lowest(group: Thread, cost: float, pose: Pose):
    """The pose of lowest cost among the threads of a problem, and that cost, in each of them."""
    return pose, cost


@wp.func
def pick_lowest(group: Block, cost: float, pose: Pose):  # noqa: F811 - an overload
    lowest = wp.tile_reduce(wp.min, wp.tile(cost))[0]
    lane = wp.where(cost == lowest, group.lane, group.lanes)
    first = wp.tile_reduce(wp.min, wp.tile(lane))[0]
    q = 1.0 * pose.rotation
    t = 1.0 * pose.translation
    value = vec7(q[0], q[1], q[2], q[3], t[0], t[1], t[2])
    value = add_up(group, wp.where(group.lane == first, value, vec7(0.0)))
    picked = Pose()
    picked.rotation = wp.quat(value[0], value[1], value[2], value[3])
    picked.translation = wp.vec3(value[4], value[5], value[6])
    return picked, lowest


@wp.func
def robust(kind: int, c: float, s: Any):
    """Loss and weight of squared residuals; see :mod:`pnp_ros.kernels.robust`."""
    one = type(s)(1.0)
    c2 = c * c
    rho = s
    weight = one
    if kind == GEMAN_MCCLURE:
        root = lens_warp.inverse(one + (1.0 / c2) * s)
        rho, weight = wp.cw_mul(s, root), wp.cw_mul(root, root)
    elif kind == CAUCHY:
        weight = lens_warp.inverse(one + (1.0 / c2) * s)
        for i in range(len(s)):
            rho[i] = -c2 * wp.log(weight[i])
    elif kind == HUBER:
        for i in range(len(s)):
            norm = wp.sqrt(wp.max(s[i], c2))
            rho[i] = wp.where(s[i] > c2, c * (2.0 * norm - c), s[i])
            weight[i] = c / norm
    return rho, weight


@wp.func
def factorise(sums: vec_sums, damping: float):
    """Cholesky factor of the Hessian scaled to a unit diagonal and damped, the scales, and the smallest pivot.

    On its diagonal the factor holds the reciprocals: divisions would wait for each other.
    """
    scale = vec6(1.0)
    for i in range(6):
        diagonal = sums[(i * (11 - i)) // 2 + i]
        if diagonal > 0.0:
            scale[i] = 1.0 / wp.sqrt(diagonal)
    factor = mat66(0.0)
    smallest = float(1.0)
    for j in range(6):
        for i in range(j, 6):
            value = sums[(j * (11 - j)) // 2 + i] * scale[i] * scale[j]
            if i == j:
                value = value + damping * wp.min(value, 1.0)
            for k in range(j):
                value = value - factor[i, k] * factor[j, k]
            if i == j:
                smallest = wp.where(value < smallest, value, smallest)
                factor[j, j] = 1.0 / wp.sqrt(wp.max(value, 1e-12))
            else:
                factor[i, j] = value * factor[j, j]
    return factor, scale, smallest


@wp.func
def substitute(factor: mat66, rhs: vec6):
    """``(factor factor^T)^-1 rhs`` for a factor of :func:`factorise`."""
    y = vec6(0.0)
    for i in range(6):
        value = rhs[i]
        for k in range(i):
            value = value - factor[i, k] * y[k]
        y[i] = value * factor[i, i]
    for n in range(6):
        i = 5 - n
        value = y[i]
        for k in range(i + 1, 6):
            value = value - factor[k, i] * y[k]
        y[i] = value * factor[i, i]
    return y


@wp.func
def retract(pose: Pose, step: vec6):
    """``t + dt``, ``exp(dtheta) R``."""
    moved = Pose()
    moved.translation = pose.translation + wp.vec3(step[0], step[1], step[2])
    phi = wp.vec3(step[3], step[4], step[5])
    angle = wp.length(phi)
    half = wp.where(angle > 1e-6, wp.sin(0.5 * angle) / wp.max(angle, 1e-6), 0.5)
    q = wp.quat(half * phi[0], half * phi[1], half * phi[2], wp.cos(0.5 * angle))
    moved.rotation = wp.normalize(q * pose.rotation)
    return moved


@wp.func
def invert(sums: vec_sums, covariance_scale: float):
    """The Hessian's scaled inverse, and the smallest pivot."""
    factor, scale, pivot = factorise(sums, 0.0)
    inverse = mat66(0.0)
    for j in range(6):
        unit = vec6(0.0)
        unit[j] = scale[j] * covariance_scale
        column = wp.cw_mul(scale, substitute(factor, unit))
        for i in range(6):
            inverse[i, j] = column[i]
    return inverse, pivot


@wp.func
def symmetric(sums: vec_sums):
    """The matrix whose upper triangle the first 21 sums are."""
    matrix = mat66(0.0)
    for i in range(6):
        for j in range(i, 6):
            value = sums[(i * (11 - i)) // 2 + j]
            matrix[i, j] = value
            matrix[j, i] = value
    return matrix


@wp.func
def positive_definite(covariance: mat66):
    """Whether a symmetric matrix is, by more than rounding."""
    upper = vec_sums(0.0)
    for i in range(6):
        for j in range(i, 6):
            upper[(i * (11 - i)) // 2 + j] = covariance[i, j]
    factor, scale, pivot = factorise(upper, 0.0)
    return pivot > EPS


@wp.func
def about_origin(covariance: mat66, lever: wp.vec3):
    """A covariance of the centroid's pose moved to the origin ``lever`` away, and whether it is one.

    See the reference.
    """
    shift = wp.identity(n=6, dtype=float)  # t_c = t + R c, so dt = dt_c - dtheta x (R c)
    shift[0, 4] = -lever[2]
    shift[0, 5] = lever[1]
    shift[1, 5] = -lever[0]
    shift[1, 3] = lever[2]
    shift[2, 3] = -lever[1]
    shift[2, 4] = lever[0]
    moved = shift * covariance * wp.transpose(shift)
    moved = 0.5 * (moved + wp.transpose(moved))
    sound = bool(False)
    for step in range(len(ROUNDING)):
        if not sound:
            for i in range(6):
                moved[i, i] = (1.0 + EPS * ROUNDING[step]) * moved[i, i]
            sound = positive_definite(moved)
    return moved, sound
