# mypy: disable-error-code="assignment, no-redef"
"""A problem's points as the pose kernels want them: in chunks, structure of arrays, about their centroid.

A chunk holds ``width`` points, each of its rows is one Warp vector. In memory it is (NUM_ROWS, width) scalars.
"""

import math
from typing import Any

import warp as wp

from pnp_ros.kernels import lens_warp, lm_problem
from pnp_ros.kernels.lens_warp import Lens, load_lens
from pnp_ros.kernels.pose_warp import EPS, Pose, add_up, vec6, vec9
from pnp_ros.types.correspondences import MIN_WEIGHT_RATIO

BEHIND_PENALTY = wp.constant(lm_problem.BEHIND_PENALTY)
MIN_RATIO = wp.constant(MIN_WEIGHT_RATIO)
LINE_CHANCE = wp.constant(0.25)
LOG_2_PI = wp.constant(math.log(2.0 * math.pi))

NUM_ROWS = wp.constant(15)
WEIGHT = wp.constant(5)  # rows 0 to 4: u, v (px), x, y, z (m); then w_uu, w_vv, w_uv (1/px): [[w_uu, w_uv], [0, w_vv]]
USED = wp.constant(8)  # 1 for a point with weight, else 0
BEARING = wp.constant(9)  # x, y, z of the ray through the image point; only for consensus
TRUST = wp.constant(12)  # how probably a point is an inlier; only for a guided search
DENSITY = wp.constant(13)  # log of how much denser an inlier lies at its place than a point anywhere in the image
RANK = wp.constant(14)  # directions that a point tells: 2, of a line 1, without weight 0


@wp.struct
class Buffers:
    """Arrays of B problems with N points each, those of a problem in a row; values as in :class:`lm_problem.LMProblem`
    and :class:`LMResult`. Nothing here but numbers depends on B and N, so one recorded launch serves all."""

    problems: int  # B
    points: int  # N
    parts: int  # numbers of a weight: 2, or 4 for matrices
    prior: int  # whether there are priors
    cameras: int  # 1 if each problem has its own, 0 if all have one
    image_points: wp.array(dtype=wp.vec2)  # B N
    object_points: wp.array(dtype=wp.vec3)  # B N
    weights: wp.array(dtype=float)  # B N parts
    intrinsics: wp.array(dtype=wp.vec4)  # of one camera, or B
    distortion: wp.array(dtype=float)
    priors: wp.array(dtype=vec6)  # B 10, of prior_warp.load_prior
    start_rotation: wp.array(dtype=wp.mat33)
    start_translation: wp.array(dtype=wp.vec3)
    rotation: wp.array(dtype=wp.mat33)
    translation: wp.array(dtype=wp.vec3)
    usable: wp.array(dtype=wp.bool)
    rest: wp.array(dtype=float)  # of packed_estimate.PackedEstimate
    likelihood: wp.array(dtype=float)  # B N, not read unless the search is guided


@wp.struct
class Calibration:
    """As :class:`robust.Calibration`."""

    information: float
    mean_weight: float
    excess: float


@wp.struct
class Settings:
    """The camera's model number and the fields of :class:`lm_problem.LMSettings`, with what follows from them."""

    model: int
    kind: int
    scale: float
    anneal_from: float
    anneal_ratio: float  # from one scale to the next
    plane: Calibration  # of points that tell both directions
    line: Calibration  # of those that tell one
    max_iterations: int
    tolerance2: float
    given: int  # whether there is a pose to start from
    samples: int  # at most, of three points each; 0: no search
    guided: int  # whether the points' likelihoods guide it
    accept: int  # whether the pose is judged, and another one sought
    pixels: float  # of the image


@wp.struct
class Problem:
    """One problem: its chunks are rows ``first`` to ``first + count`` of the packed array."""

    lens: Lens
    points: int
    first: int
    count: int
    centroid: wp.vec3
    used: float  # points with weight
    blob: float  # log of how much denser than over the image these lie about their mean, at least 0
    residuals: float  # of these: two each, one where the weight tells one direction
    different: int  # of these, up to four
    scatter: wp.mat33  # of the points about their centroid, a mean square in each direction, m^2
    extent2: float  # its trace
    variance: float  # of an image point, px^2; of a line, what makes it as likely to be met by chance
    resolution: float  # rounding of a whitened residual
    finite: bool


@wp.func
def triangular(weights: wp.array(dtype=float), point: int):
    """``w_uu, w_vv, w_uv`` of the upper triangular matrix whose residual is as long as that of a point's weight."""
    w = wp.vec3(0.0)
    a, b = weights[4 * point], weights[4 * point + 1]
    c, d = weights[4 * point + 2], weights[4 * point + 3]
    norm = wp.sqrt(a * a + c * c)
    if norm == 0.0:
        w[1] = wp.sqrt(b * b + d * d)
    else:  # turned by the rotation that takes (a, c) to (norm, 0)
        w[0] = norm
        w[1] = wp.abs(a * d - c * b) / norm
        w[2] = (a * b + c * d) / norm
    if wp.abs(w[1]) <= MIN_RATIO * (wp.abs(w[0]) + wp.abs(w[2])):  # a line, but for rounding
        w[1] = 0.0
    return w


@wp.func
def pack(packed: wp.array3d(dtype=float), data: Buffers, guided: int, group: Any, index: int, width: int):
    """Write the points of problem ``index`` into its chunks, filled up with points without weight."""
    n = data.points
    count = wp.max((n + width - 1) // width, 1)
    for chunk in range(group.lane, count, group.lanes):
        k = index * count + chunk
        for slot in range(width):
            i = chunk * width + slot
            point = index * n + i
            uv, x, w = wp.vec2(0.0), wp.vec3(0.0), wp.vec3(0.0)
            if i < n:
                if data.parts == 4:
                    w = triangular(data.weights, point)
                else:
                    w[0] = data.weights[2 * point]
                    w[1] = data.weights[2 * point + 1]
                if w[0] != 0.0 or w[1] != 0.0:  # a point without weight may hold anything
                    uv = data.image_points[point]
                    x = data.object_points[point]
            packed[k, 0, slot] = uv[0]
            packed[k, 1, slot] = uv[1]
            packed[k, 2, slot] = x[0]
            packed[k, 3, slot] = x[1]
            packed[k, 4, slot] = x[2]
            packed[k, WEIGHT, slot] = w[0]
            packed[k, WEIGHT + 1, slot] = w[1]
            packed[k, WEIGHT + 2, slot] = w[2]
            packed[k, USED, slot] = wp.where(w[0] != 0.0 or w[1] != 0.0, 1.0, 0.0)
            if guided != 0 and i < n:
                trust = data.likelihood[point]
                packed[k, TRUST, slot] = wp.where(wp.isfinite(trust), wp.clamp(trust, 0.0, 1.0), 0.0)
            else:
                packed[k, TRUST, slot] = 0.0


@wp.func
def column_norm(chunks: wp.array2d(dtype=Any), k: int):
    """How much the points of chunk ``k`` tell of v: the length of their weights' second column."""
    wv, cross = chunks[k, WEIGHT + 1], chunks[k, WEIGHT + 2]
    return lens_warp.sqrt(wp.cw_mul(wv, wv) + wp.cw_mul(cross, cross))


@wp.func
def image_sums(chunks: wp.array2d(dtype=Any), problem: Problem, group: Any):
    """Sums of u, v and their products over the points with weight."""
    one = type(chunks[problem.first, 0])(1.0)
    u, v, uu, vv, uv = 0.0 * one, 0.0 * one, 0.0 * one, 0.0 * one, 0.0 * one
    for chunk in range(group.lane, problem.count, group.lanes):
        k = problem.first + chunk
        x, y = wp.cw_mul(chunks[k, USED], chunks[k, 0]), wp.cw_mul(chunks[k, USED], chunks[k, 1])
        u = u + x
        v = v + y
        uu = uu + wp.cw_mul(x, x)
        vv = vv + wp.cw_mul(y, y)
        uv = uv + wp.cw_mul(x, y)
    return vec6(wp.dot(u, one), wp.dot(v, one), wp.dot(uu, one), wp.dot(vv, one), wp.dot(uv, one), 0.0)


@wp.func
def blob_of(sums: vec6, used: float, pixels: float):
    """Log of how much denser than over the image points lie that are normal about their mean, at least 0."""
    mean = sums / wp.max(used, 1.0)
    uu, vv, uv = mean[2] - mean[0] * mean[0], mean[3] - mean[1] * mean[1], mean[4] - mean[0] * mean[1]
    area = wp.sqrt(wp.max(uu * vv - uv * uv, 1.0))
    blob = wp.max(wp.log(pixels / area) - LOG_2_PI - 1.0, 0.0)
    return wp.where(wp.isfinite(blob), blob, 0.0)


@wp.func
def survey(chunks: wp.array2d(dtype=Any), data: Buffers, settings: Settings, group: Any, index: int, width: int):
    """What there is to know of problem ``index``, whose points then are about their centroid.

    A problem that is not finite becomes one without points.
    """
    problem = Problem()
    problem.points = data.points
    problem.count = wp.max((problem.points + width - 1) // width, 1)
    problem.first = index * problem.count
    one = type(chunks[problem.first, 0])(1.0)
    # A sum from a value of its own: variables that are assigned one value share it.
    x, y, z, used = 0.0 * one, 0.0 * one, 0.0 * one, 0.0 * one
    square, bad = 0.0 * one, 0.0 * one
    planes, information, steepness = 0.0 * one, 0.0 * one, 0.0 * one
    for chunk in range(group.lane, problem.count, group.lanes):
        k = problem.first + chunk
        wu, wv = chunks[k, WEIGHT], column_norm(chunks, k)
        ru, rv, both = wp.cw_mul(wu, chunks[k, 0]), wp.cw_mul(wv, chunks[k, 1]), wp.cw_mul(wu, chunks[k, WEIGHT + 1])
        both = wp.max(both, -both)
        plane = wp.min(1e30 * both, one)
        x = x + wp.cw_mul(chunks[k, USED], chunks[k, 2])
        y = y + wp.cw_mul(chunks[k, USED], chunks[k, 3])
        z = z + wp.cw_mul(chunks[k, USED], chunks[k, 4])
        used = used + chunks[k, USED]
        square = square + wp.cw_mul(ru, ru) + wp.cw_mul(rv, rv)
        planes = planes + plane
        information = information + both
        steepness = steepness + wp.cw_mul(one - plane, lens_warp.sqrt(wp.cw_mul(wu, wu) + wp.cw_mul(wv, wv)))
        for row in range(USED):  # zero times a number is zero, times anything else it is not
            bad = bad + 0.0 * chunks[k, row]
    found = vec9(0.0)
    found[0] = wp.dot(x, one)
    found[1] = wp.dot(y, one)
    found[2] = wp.dot(z, one)
    found[3] = wp.dot(used, one)
    found[4] = wp.dot(square, one)
    found[5] = wp.dot(bad, one)
    found[6] = wp.dot(planes, one)
    found[7] = wp.dot(information, one)
    found[8] = wp.dot(steepness, one)
    found = add_up(group, found)
    problem.blob = blob_of(add_up(group, image_sums(chunks, problem, group)), found[3], settings.pixels)
    lines = found[3] - found[6]
    problem.lens = load_lens(settings.model, data.intrinsics, data.distortion, index * data.cameras)
    problem.centroid = wp.vec3(found[0], found[1], found[2]) / wp.max(found[3], 1.0)
    problem.used = found[3]
    problem.resolution = EPS * wp.sqrt(found[4] / wp.max(2.0 * float(problem.points), 1.0))
    problem.residuals = found[3] + found[6]
    # A strip across the image, twice the loss's scale wide, stands for about 1/4 as much of a disc of that radius.
    area = found[6] * found[6] / wp.max(found[7], 1e-30)
    area = area + lines * lines / wp.max(found[8], 1e-30) * LINE_CHANCE * wp.sqrt(settings.pixels)
    problem.variance = area / wp.max(found[3], 1.0)
    problem.finite = found[5] == 0.0
    problem.finite = problem.finite and wp.isfinite(problem.lens.focal) and wp.isfinite(problem.lens.centre)
    problem.finite = problem.finite and wp.isfinite(problem.lens.coefficients)
    if settings.given != 0:
        problem.finite = problem.finite and wp.isfinite(data.start_rotation[index])
        problem.finite = problem.finite and wp.isfinite(data.start_translation[index])
    if data.prior != 0:
        for row in range(10):
            problem.finite = problem.finite and wp.isfinite(data.priors[10 * index + row])
    if not problem.finite:
        problem.used = 0.0
        problem.centroid = wp.vec3(0.0)
    for chunk in range(group.lane, problem.count, group.lanes):
        k = problem.first + chunk
        for axis in range(3):
            chunks[k, 2 + axis] = chunks[k, 2 + axis] - problem.centroid[axis] * one
        if not problem.finite:
            for row in range(BEARING):
                chunks[k, row] = 0.0 * one
        tell_densities(chunks, settings, k)
    return problem


@wp.func
def tell_densities(chunks: wp.array2d(dtype=Any), settings: Settings, k: int):
    """Write what does not depend on the pose of how much the points of chunk ``k`` tell of one."""
    half = 0.5 * (wp.log(settings.pixels) - LOG_2_PI)
    wu, norm = chunks[k, WEIGHT], column_norm(chunks, k)
    size = wp.cw_mul(wu, chunks[k, WEIGHT + 1])
    length = lens_warp.sqrt(wp.cw_mul(wu, wu) + wp.cw_mul(norm, norm))
    rank = 2.0 * chunks[k, USED]
    density = 0.0 * rank
    for i in range(len(size)):
        if rank[i] > 0.0:
            told = wp.abs(size[i])
            if told == 0.0:
                rank[i] = 1.0
                told = length[i]
            density[i] = wp.log(wp.max(told, 1e-30)) + half * rank[i]
    chunks[k, DENSITY] = density
    chunks[k, RANK] = rank


@wp.func
def start_pose(data: Buffers, problem: Problem, index: int):
    """The given initial pose, of the centroid."""
    r = data.start_rotation[index]
    pose = Pose()
    pose.rotation = wp.normalize(wp.quat_from_matrix(r))
    pose.translation = data.start_translation[index] + r * problem.centroid
    return pose


@wp.func
def turn(r: wp.mat33, chunks: wp.array2d(dtype=Any), k: int):
    """The points of chunk ``k``, turned."""
    x, y, z = chunks[k, 2], chunks[k, 3], chunks[k, 4]
    qx = r[0, 0] * x + r[0, 1] * y + r[0, 2] * z
    qy = r[1, 0] * x + r[1, 1] * y + r[1, 2] * z
    qz = r[2, 0] * x + r[2, 1] * y + r[2, 2] * z
    return qx, qy, qz


@wp.func
def residuals(lens: Lens, chunks: wp.array2d(dtype=Any), k: int, r: wp.mat33, t: wp.vec3):
    """The points of chunk ``k``, turned; whitened residuals at a pose, whether seen, and whitened derivatives by the
    camera-frame points."""
    qx, qy, qz = turn(r, chunks, k)
    one = type(qx)(1.0)
    px, py, pz = qx + t[0] * one, qy + t[1] * one, qz + t[2] * one
    seen = lens_warp.visible(lens.model, px, py, pz)
    hidden = one - seen
    # A stand-in in front of the camera keeps the unseen points' values finite.
    px, py, pz = wp.cw_mul(seen, px), wp.cw_mul(seen, py), wp.cw_mul(seen, pz) + hidden
    u, v, u_x, u_y, u_z, v_x, v_y, v_z = lens_warp.project(lens, px, py, pz)
    wu, wv = wp.cw_mul(chunks[k, WEIGHT], seen), wp.cw_mul(chunks[k, WEIGHT + 1], seen)
    cross = wp.cw_mul(chunks[k, WEIGHT + 2], seen)
    du, dv = u - chunks[k, 0], v - chunks[k, 1]
    ru = wp.cw_mul(wu, du) + wp.cw_mul(cross, dv)
    rv = wp.cw_mul(wv, dv)
    ru = ru + BEHIND_PENALTY * lens.focal[0] * wp.cw_mul(chunks[k, WEIGHT], hidden)
    rv = rv + BEHIND_PENALTY * lens.focal[1] * wp.cw_mul(column_norm(chunks, k), hidden)
    u_x = wp.cw_mul(wu, u_x) + wp.cw_mul(cross, v_x)
    u_y = wp.cw_mul(wu, u_y) + wp.cw_mul(cross, v_y)
    u_z = wp.cw_mul(wu, u_z) + wp.cw_mul(cross, v_z)
    v_x, v_y, v_z = wp.cw_mul(wv, v_x), wp.cw_mul(wv, v_y), wp.cw_mul(wv, v_z)
    return qx, qy, qz, ru, rv, seen, u_x, u_y, u_z, v_x, v_y, v_z


@wp.func
def by_pose(row: Any, qx: Any, qy: Any, qz: Any, d_x: Any, d_y: Any, d_z: Any):
    """Derivatives by the pose: ``row`` with those by the camera-frame points q + t, and q x these by a turn."""
    row[0] = d_x
    row[1] = d_y
    row[2] = d_z
    row[3] = wp.cw_mul(qy, d_z) - wp.cw_mul(qz, d_y)
    row[4] = wp.cw_mul(qz, d_x) - wp.cw_mul(qx, d_z)
    row[5] = wp.cw_mul(qx, d_y) - wp.cw_mul(qy, d_x)
    return row
