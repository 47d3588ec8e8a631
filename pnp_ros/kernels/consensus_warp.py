# mypy: disable-error-code="assignment, no-redef"
# ruff: noqa: UP018, RUF046, RUF059 - Warp's dialect: float(x) makes a variable, and all results of a call are named
"""Poses of samples of three points, for kernels: draw, P3P, and what such a pose costs.

P3P with depths d1, d2, d3 of unit bearings: with x = d1 / d3 and y = d2 / d3 the law of cosines gives two conics in
(x, y) whose intersections are sought. A real root s of ``det(A + s B) = 0`` makes a pair of lines of their pencil,
and each line meets a conic in at most two points (Persson and Nordberg, "Lambda twist", ECCV 2018; Ding et al.,
"Revisiting the P3P problem", CVPR 2023). The depths are then polished by Newton's method.
"""

from typing import Any

import warp as wp

from pnp_ros.kernels import lens_warp
from pnp_ros.kernels.chunks_warp import BEARING, TRUST, USED, WEIGHT, Problem, turn
from pnp_ros.kernels.lens_warp import BROWN_CONRADY, KANNALA_BRANDT, distort_brown_conrady, fisheye_radius, inverse
from pnp_ros.kernels.pose_warp import Pose, add_up, robust

UNPROJECT_ITERATIONS = wp.constant(10)
POLISH_ITERATIONS = wp.constant(2)
SAME = wp.constant(1e-3)  # on the plane of focal length one: a bearing's residual
NO_BEARING = wp.constant(1e9)
DRAWS = wp.constant(64)  # tries to find a point with weight that is not in the sample yet
STRIDE = wp.constant(13)  # shares no divisor with the number of samples of up to ten points
GUIDED_DRAWS = wp.constant(48)  # of these, tries to find one that is probably an inlier


@wp.func
def unproject(chunks: wp.array2d(dtype=Any), problem: Problem, k: int):
    """Write the bearings of chunk ``k``, not normalised; see the lens modules of :mod:`pnp_ros.cameras`."""
    lens = problem.lens
    one = type(chunks[k, 0])(1.0)
    u = (1.0 / lens.focal[0]) * (chunks[k, 0] - lens.centre[0] * one)
    v = (1.0 / lens.focal[1]) * (chunks[k, 1] - lens.centre[1] * one)
    # One by one: a tuple assignment makes no copies, and the loops below would overwrite their own target.
    x = u
    y = v
    z = one
    iteration = int(0)
    if lens.model == BROWN_CONRADY:
        while iteration < UNPROJECT_ITERATIONS:
            a, b, a_x, a_y, b_x, b_y = distort_brown_conrady(lens.coefficients, lens.tilt, x, y)
            a, b = u - a, v - b
            over = inverse(wp.max(wp.cw_mul(a_x, b_y) - wp.cw_mul(a_y, b_x), 1e-3 * one))
            x = x + wp.cw_mul(over, wp.cw_mul(b_y, a) - wp.cw_mul(a_y, b))
            y = y + wp.cw_mul(over, wp.cw_mul(a_x, b) - wp.cw_mul(b_x, a))
            iteration += 1
        # Beyond the radius at which the distortion turns back there is no ray: a mark that no sample takes.
        a, b, a_x, a_y, b_x, b_y = distort_brown_conrady(lens.coefficients, lens.tilt, x, y)
        for i in range(len(u)):
            miss = wp.abs(a[i] - u[i]) + wp.abs(b[i] - v[i])
            if not (miss < SAME and a_x[i] * b_y[i] > a_y[i] * b_x[i]):
                x[i] = NO_BEARING
                y[i] = NO_BEARING
    if lens.model == KANNALA_BRANDT:
        radius = lens_warp.sqrt(wp.cw_mul(u, u) + wp.cw_mul(v, v) + 1e-18 * one)
        theta = wp.min(radius, 1.5 * one)
        while iteration < UNPROJECT_ITERATIONS:
            value, slope = fisheye_radius(lens.coefficients, theta)
            theta = theta - wp.cw_div(value - radius, wp.max(slope, 1e-3 * one))
            theta = wp.min(wp.max(theta, 0.0 * one), 3.1 * one)
            iteration += 1
        for i in range(len(u)):
            x[i] = wp.sin(theta[i]) * u[i] / radius[i]
            y[i] = wp.sin(theta[i]) * v[i] / radius[i]
            z[i] = wp.cos(theta[i])
    chunks[k, BEARING] = x
    chunks[k, BEARING + 1] = y
    chunks[k, BEARING + 2] = z


@wp.func
def cofactors(m: wp.mat33):
    """Of a symmetric matrix: its adjugate."""
    a, b, c = wp.vec3(m[0, 0], m[0, 1], m[0, 2]), wp.vec3(m[1, 0], m[1, 1], m[1, 2]), wp.vec3(m[2, 0], m[2, 1], m[2, 2])
    return wp.matrix_from_rows(wp.cross(b, c), wp.cross(c, a), wp.cross(a, b))


@wp.func
def cubic_root(a: float, b: float, c: float, d: float):
    """A real root of ``a s^3 + b s^2 + c s + d``."""
    p, q, r = b / a, c / a, d / a
    shift = p / 3.0
    m = shift * shift - q / 3.0
    n = shift * shift * shift - 0.5 * shift * q + 0.5 * r
    s = float(0.0)
    if n * n < m * m * m:
        root = wp.sqrt(m)
        s = -2.0 * root * wp.cos(wp.acos(wp.clamp(n / (m * root), -1.0, 1.0)) / 3.0)
    else:
        base = wp.cbrt(wp.abs(n) + wp.sqrt(wp.max(n * n - m * m * m, 0.0)))
        s = -wp.sign(n) * (base + m / wp.max(base, 1e-30))
    s = s - shift
    for _ in range(2):
        slope = (3.0 * s + 2.0 * p) * s + q
        if wp.abs(slope) > 1e-12:
            s = s - (((s + p) * s + q) * s + r) / slope
    return s


@wp.func
def polish_depths(d: wp.vec3, b: wp.vec3, a: wp.vec3):
    """Newton's method on the three laws of cosines; b: cosines 23, 13, 12; a: squared distances 23, 13, 12."""
    for _ in range(POLISH_ITERATIONS):
        f = wp.vec3(
            d[1] * d[1] + d[2] * d[2] - 2.0 * b[0] * d[1] * d[2] - a[0],
            d[0] * d[0] + d[2] * d[2] - 2.0 * b[1] * d[0] * d[2] - a[1],
            d[0] * d[0] + d[1] * d[1] - 2.0 * b[2] * d[0] * d[1] - a[2],
        )
        j01, j02 = 2.0 * (d[1] - b[0] * d[2]), 2.0 * (d[2] - b[0] * d[1])
        j10, j12 = 2.0 * (d[0] - b[1] * d[2]), 2.0 * (d[2] - b[1] * d[0])
        j20, j21 = 2.0 * (d[0] - b[2] * d[1]), 2.0 * (d[1] - b[2] * d[0])
        jacobian = wp.mat33(0.0, j01, j02, j10, 0.0, j12, j20, j21, 0.0)
        if wp.abs(wp.determinant(jacobian)) > 1e-12:
            d = d - wp.inverse(jacobian) * f
    return d


@wp.func
def triad(a: wp.vec3, b: wp.vec3, c: wp.vec3):
    """Orthonormal axes, as columns, of a triangle."""
    x = wp.normalize(b - a)
    z = wp.normalize(wp.cross(x, c - a))
    return wp.matrix_from_cols(x, wp.cross(z, x), z)


@wp.struct
class Conics:
    """A sample: its bearings, points, cosines and squared distances (23, 13, 12), one conic, and a pair of lines."""

    bearings: wp.mat33
    points: wp.mat33
    b: wp.vec3
    a: wp.vec3
    conic: wp.mat33
    line0: wp.vec3
    line1: wp.vec3
    real: bool


@wp.func
def intersect_cones(bearings: wp.mat33, points: wp.mat33):
    """The two lines on which the solutions (x, y) of a sample lie. Bearings and points are rows."""
    m0, m1, m2 = wp.vec3(bearings[0]), wp.vec3(bearings[1]), wp.vec3(bearings[2])
    p0, p1, p2 = wp.vec3(points[0]), wp.vec3(points[1]), wp.vec3(points[2])
    sample = Conics()
    sample.bearings = bearings
    sample.points = points
    b = wp.vec3(wp.dot(m1, m2), wp.dot(m0, m2), wp.dot(m0, m1))
    a = wp.vec3(wp.length_sq(p1 - p2), wp.length_sq(p0 - p2), wp.length_sq(p0 - p1))
    sample.b = b
    sample.a = a
    r1, r2 = a[1] / a[0], a[2] / a[0]
    # a23 (x^2 + y^2 - 2 b12 x y) = a12 (y^2 + 1 - 2 b23 y),  a23 (x^2 + 1 - 2 b13 x) = a13 (y^2 + 1 - 2 b23 y)
    ca = wp.mat33(1.0, -b[2], 0.0, -b[2], 1.0 - r2, r2 * b[0], 0.0, r2 * b[0], -r2)
    cb = wp.mat33(1.0, 0.0, -b[1], 0.0, -r1, r1 * b[0], -b[1], r1 * b[0], 1.0 - r1)
    sample.conic = cb
    adj_a, adj_b = cofactors(ca), cofactors(cb)
    s = cubic_root(wp.determinant(cb), wp.ddot(ca, adj_b), wp.ddot(adj_a, cb), wp.determinant(ca))
    degenerate = ca + s * cb
    adj = cofactors(degenerate)
    k = int(0)
    if wp.abs(adj[1, 1]) > wp.abs(adj[0, 0]):
        k = 1
    if wp.abs(adj[2, 2]) > wp.abs(adj[k, k]):
        k = 2
    sample.real = adj[k, k] < 0.0
    # where the lines meet; adding its cross product matrix makes the conic an outer product of the two lines
    meet = wp.vec3(adj[0, k], adj[1, k], adj[2, k]) / wp.sqrt(wp.max(-adj[k, k], 1e-30))
    product = degenerate + wp.skew(meet)
    i, j = int(0), int(0)
    largest = float(0.0)
    for row in range(3):
        for column in range(3):
            if wp.abs(product[row, column]) > largest:
                largest = wp.abs(product[row, column])
                i = row
                j = column
    sample.line0 = wp.vec3(product[i, 0], product[i, 1], product[i, 2])
    sample.line1 = wp.vec3(product[0, j], product[1, j], product[2, j])
    return sample


@wp.func
def pose_of(sample: Conics, which: int):
    """Solution 0 to 3 of a sample, and whether it exists."""
    line = sample.line0
    if which >= 2:
        line = sample.line1
    norm = line[0] * line[0] + line[1] * line[1]
    foot = wp.vec3(-line[2] * line[0], -line[2] * line[1], norm) / wp.max(norm, 1e-30)
    along = wp.vec3(line[1], -line[0], 0.0) / wp.sqrt(wp.max(norm, 1e-30))
    qa = wp.dot(along, sample.conic * along)
    qb = wp.dot(along, sample.conic * foot)
    qc = wp.dot(foot, sample.conic * foot)
    discriminant = qb * qb - qa * qc
    far = -(qb + wp.sign(qb) * wp.sqrt(wp.max(discriminant, 0.0)))
    tau = qc / wp.where(far == 0.0, 1e-30, far)
    if which % 2 == 1:
        tau = far / wp.where(qa == 0.0, 1e-30, qa)
    x = foot[0] + tau * along[0]
    y = foot[1] + tau * along[1]
    pose = Pose()
    if not (sample.real and discriminant > -1e-5 * qb * qb and x > 0.0 and y > 0.0):
        return pose, False
    d2 = wp.sqrt(sample.a[0] / wp.max(y * y + 1.0 - 2.0 * sample.b[0] * y, 1e-20))
    d = polish_depths(wp.vec3(x * d2, y * d2, d2), sample.b, sample.a)
    c0 = d[0] * wp.vec3(sample.bearings[0])
    c1 = d[1] * wp.vec3(sample.bearings[1])
    c2 = d[2] * wp.vec3(sample.bearings[2])
    p0, p1, p2 = wp.vec3(sample.points[0]), wp.vec3(sample.points[1]), wp.vec3(sample.points[2])
    r = triad(c0, c1, c2) * wp.transpose(triad(p0, p1, p2))
    pose.rotation = wp.normalize(wp.quat_from_matrix(r))
    pose.translation = (c0 + c1 + c2 - r * (p0 + p1 + p2)) / 3.0
    return pose, wp.isfinite(pose.rotation) and wp.isfinite(pose.translation)


@wp.func
def cost_of_chunk(
    chunks: wp.array2d(dtype=Any), problem: Problem, k: int, r: wp.mat33, t: wp.vec3, kind: int, c: float
):
    """Robust cost of chunk ``k`` at a sample's pose.

    Residuals are taken on the plane of focal length one (a fisheye: between unit bearings), where they are cheap: what
    the lens does to a small residual there is left out. A point behind the camera, or without a bearing, is an outlier.
    """
    fx, fy = 1.0 * problem.lens.focal[0], 1.0 * problem.lens.focal[1]
    qx, qy, qz = turn(r, chunks, k)
    one = type(qx)(1.0)
    px, py, pz = qx + t[0] * one, qy + t[1] * one, qz + t[2] * one
    depth = pz
    if problem.lens.model == KANNALA_BRANDT:
        depth = lens_warp.sqrt(wp.cw_mul(px, px) + wp.cw_mul(py, py) + wp.cw_mul(pz, pz))
    over = inverse(wp.max(depth, 1e-20 * one))
    du = fx * (wp.cw_mul(px, over) - chunks[k, BEARING])
    dv = fy * (wp.cw_mul(py, over) - chunks[k, BEARING + 1])
    ru = wp.cw_mul(chunks[k, WEIGHT], du) + wp.cw_mul(chunks[k, WEIGHT + 2], dv)
    rv = wp.cw_mul(chunks[k, WEIGHT + 1], dv)
    s = wp.cw_mul(ru, ru) + wp.cw_mul(rv, rv)
    if problem.lens.model == KANNALA_BRANDT:
        dz = fx * (wp.cw_mul(pz, over) - chunks[k, BEARING + 2])
        rz = wp.cw_mul(chunks[k, WEIGHT], dz)
        s = s + wp.cw_mul(rz, rz)
    rho, weight = robust(kind, c, wp.min(s, 1e15 * one))
    return 0.5 * wp.dot(rho, one)


@wp.func
def score(chunks: wp.array2d(dtype=Any), problem: Problem, pose: Pose, kind: int, c: float, bar: float):
    """Robust cost of a sample's pose, or of as many points as it takes to exceed ``bar``."""
    r, t = wp.quat_to_matrix(pose.rotation), pose.translation
    total = float(0.0)
    chunk = int(0)
    while chunk < problem.count and total < bar:
        total += cost_of_chunk(chunks, problem, problem.first + chunk, r, t, kind, c)
        chunk += 1
    return total


@wp.func
def promising(
    chunks: wp.array2d(dtype=Any), problem: Problem, pose: Pose, kind: int, c: float, by_chance: float,
    previewed: int, turn_of: int,
):  # fmt: skip
    """Whether a sample's pose explains a point more than by chance of ``previewed`` chunks that lie evenly among all.

    Which ones changes with ``turn_of``, so that points that stand together in the input are not passed over for ever.
    """
    r, t = wp.quat_to_matrix(pose.rotation), pose.translation
    total, seen = float(0.0), float(0.0)
    for i in range(previewed):
        k = problem.first + (i * problem.count // previewed + turn_of) % problem.count
        total += cost_of_chunk(chunks, problem, k, r, t, kind, c)
        seen += wp.dot(chunks[k, USED], chunks[k, USED])
    return total < 0.5 * c * c * ((1.0 - by_chance) * seen - 1.0)


@wp.func
def count_different(packed: wp.array3d(dtype=float), problem: Problem, group: Any, width: int):
    """How many different points with weight there are, up to four: three have up to four poses."""
    waited = add_up(group, 1.0)  # for all threads, which have moved their points to the centroid
    first, second, third = wp.vec3(0.0), wp.vec3(0.0), wp.vec3(0.0)
    count, i = int(0), int(0)
    while i < problem.points and count < 4 and waited > 0.0:
        k, slot = problem.first + i // width, i % width
        if packed[k, USED, slot] > 0.0:
            x = wp.vec3(packed[k, 2, slot], packed[k, 3, slot], packed[k, 4, slot])
            seen = (count > 0 and x == first) or (count > 1 and x == second) or (count > 2 and x == third)
            if not seen:
                if count == 0:
                    first = x
                elif count == 1:
                    second = x
                else:
                    third = x
                count += 1
        i += 1
    return count


@wp.func
def draw(packed: wp.array3d(dtype=float), problem: Problem, width: int, state: wp.uint32, highest: float):
    """Three different points, no lines (-1 where there are not), and the state of the random numbers.

    With ``highest`` > 0, points are drawn in proportion to how probably they are inliers, of which it is the highest.
    """
    sample = wp.vec3i(-1, -1, -1)
    for corner in range(3):
        tries = int(0)
        while sample[corner] < 0 and tries < DRAWS:
            i = wp.randi(state, 0, problem.points)
            k, slot = problem.first + i // width, i % width
            point = packed[k, WEIGHT, slot] * packed[k, WEIGHT + 1, slot] > 0.0  # not a line
            point = point and packed[k, BEARING, slot] < NO_BEARING
            if highest > 0.0 and tries < GUIDED_DRAWS:
                point = point and wp.randf(state) * highest < packed[k, TRUST, slot]
            if point and i != sample[0] and i != sample[1]:
                sample[corner] = i
            tries += 1
    return sample, state


@wp.func
def nth_sample(packed: wp.array3d(dtype=float), problem: Problem, width: int, index: int):
    """One of all samples of three points, no lines; -1 where there is none. Early ones differ in all points."""
    n = problem.points
    total = n * (n - 1) * (n - 2) // 6
    sample = wp.vec3i(-1, -1, -1)
    if index < total:
        left = int((index * STRIDE) % total)
        i = int(0)
        while left >= (n - 1 - i) * (n - 2 - i) // 2:
            left -= (n - 1 - i) * (n - 2 - i) // 2
            i += 1
        j = int(i + 1)
        while left >= n - 1 - j:
            left -= n - 1 - j
            j += 1
        sample = wp.vec3i(i, j, j + 1 + left)
        for corner in range(3):
            k, slot = problem.first + sample[corner] // width, sample[corner] % width
            point = packed[k, WEIGHT, slot] * packed[k, WEIGHT + 1, slot] > 0.0  # not a line
            if not (point and packed[k, BEARING, slot] < NO_BEARING):
                sample[corner] = -1
    return sample


@wp.func
def gather(packed: wp.array3d(dtype=float), problem: Problem, width: int, sample: wp.vec3i, row: int):
    """Three rows of the packed points, from ``row``, of a sample: a point in each row of the matrix."""
    m = wp.mat33(0.0)
    for corner in range(3):
        k = problem.first + sample[corner] // width
        for axis in range(3):
            m[corner, axis] = packed[k, row + axis, sample[corner] % width]
    return m
