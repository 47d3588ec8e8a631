# mypy: disable-error-code="assignment, no-redef, call-overload"
# ruff: noqa: UP018 - Warp's dialect: float(x) makes a variable
"""What other pose may be the right one, and when two poses are two answers, for kernels."""

from typing import Any

import warp as wp

from pnp_ros.kernels import accept_reference
from pnp_ros.kernels.chunks_warp import USED, Problem
from pnp_ros.kernels.consensus_warp import cofactors
from pnp_ros.kernels.pose_warp import Pose, add_up, vec6, vec_sums

THIN = wp.constant(accept_reference.THIN)
DISTINCT = wp.constant(accept_reference.DISTINCT)
CLOSE_TURN = wp.constant(accept_reference.CLOSE_TURN)
CLOSE_MOVE = wp.constant(accept_reference.CLOSE_MOVE)


@wp.func
def spread(chunks: wp.array2d(dtype=Any), problem: Problem, group: Any):
    """Scatter matrix of the points about their centroid, a mean square in each direction, m^2."""
    one = type(chunks[problem.first, 0])(1.0)
    xx, yy, zz = 0.0 * one, 0.0 * one, 0.0 * one
    xy, xz, yz = 0.0 * one, 0.0 * one, 0.0 * one
    for chunk in range(group.lane, problem.count, group.lanes):
        k = problem.first + chunk
        x = wp.cw_mul(chunks[k, USED], chunks[k, 2])
        y = wp.cw_mul(chunks[k, USED], chunks[k, 3])
        z = wp.cw_mul(chunks[k, USED], chunks[k, 4])
        xx = xx + wp.cw_mul(x, x)
        yy = yy + wp.cw_mul(y, y)
        zz = zz + wp.cw_mul(z, z)
        xy = xy + wp.cw_mul(x, y)
        xz = xz + wp.cw_mul(x, z)
        yz = yz + wp.cw_mul(y, z)
    found = vec6(wp.dot(xx, one), wp.dot(yy, one), wp.dot(zz, one), wp.dot(xy, one), wp.dot(xz, one), wp.dot(yz, one))
    found = add_up(group, found) / wp.max(problem.used, 1.0)
    return wp.mat33(found[0], found[3], found[4], found[3], found[1], found[5], found[4], found[5], found[2])


@wp.func
def mirrored(scatter: wp.mat33, problem: Problem, pose: Pose):
    """The pose that shows a flat object alike from afar, and whether the object is flat as far as the image can tell.

    Seen from afar an object and its mirror image in a plane across the view are alike; a flat one is its own mirror
    image in its plane: ``R' = (1 - 2 v v^T) R (1 - 2 n n^T)`` with the view v and the normal n.
    """
    # The adjugate's eigenvectors are the scatter's, its largest value the normal's; powers single that out.
    adjugate = cofactors(scatter / wp.max(wp.trace(scatter), 1e-30))
    for _ in range(3):
        adjugate = adjugate * adjugate / wp.max(wp.trace(adjugate) * wp.trace(adjugate), 1e-30)
    n = wp.vec3(adjugate[0, 0], adjugate[1, 0], adjugate[2, 0])
    for column in range(1, 3):
        other_column = wp.vec3(adjugate[0, column], adjugate[1, column], adjugate[2, column])
        if wp.length_sq(other_column) > wp.length_sq(n):
            n = other_column
    n = wp.normalize(n)
    least = wp.dot(n, scatter * n)
    v = wp.normalize(pose.translation)
    r = wp.quat_to_matrix(pose.rotation)
    rn = r * n
    # (1 - 2 v v^T) (R - 2 (R n) n^T)
    turned = r - 2.0 * wp.outer(rn, n)
    turned = turned - 2.0 * wp.outer(v, wp.transpose(turned) * v)
    other = Pose()
    other.rotation = wp.normalize(wp.quat_from_matrix(turned))
    other.translation = pose.translation
    pixels = wp.max(least, 0.0) * problem.lens.focal[0] * problem.lens.focal[1] / wp.length_sq(pose.translation)
    return other, pixels <= THIN * THIN * problem.variance


@wp.func
def step_between(a: Pose, b: Pose):
    """``[dt, dtheta]`` from ``a`` to ``b``: ``t_b = t_a + dt``, ``R_b = exp(dtheta) R_a``."""
    q = b.rotation * wp.quat_inverse(a.rotation)
    if q[3] < 0.0:
        q = -q
    v = wp.vec3(q[0], q[1], q[2])
    sine = wp.length(v)
    v = v * (2.0 * wp.atan2(sine, q[3]) / wp.max(sine, 1e-12))
    d = b.translation - a.translation
    return vec6(d[0], d[1], d[2], v[0], v[1], v[2])


@wp.func
def close(a: Pose, b: Pose):
    """Whether two poses are so near that a covariance that covers both says all."""
    step = step_between(a, b)
    moved, turned = wp.vec3(step[0], step[1], step[2]), wp.vec3(step[3], step[4], step[5])
    return wp.length(turned) < CLOSE_TURN and wp.length(moved) < CLOSE_MOVE * wp.length(a.translation)


@wp.func
def distinct(sums: vec_sums, step: vec6):
    """Whether a step leaves the neighbourhood of a minimum with these normal equations."""
    length2 = float(0.0)
    for i in range(6):
        for j in range(i, 6):
            twice = wp.where(i == j, 1.0, 2.0)
            length2 += twice * sums[(i * (11 - i)) // 2 + j] * step[i] * step[j]
    return length2 > DISTINCT
