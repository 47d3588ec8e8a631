# mypy: disable-error-code="assignment, no-redef"
# ruff: noqa: UP018 - Warp's dialect: float(x) makes a variable, and all results of a call are named
"""PnP-Net's likelihoods as one Warp kernel, step by step as in :mod:`pnp_ros.solvers.pnp_net`.

A thread takes a problem, with its points in chunks as in :mod:`pnp_ros.kernels.chunks_warp`: a layer multiplies
``width`` points at once. Outputs of a layer are computed four at a time, so that a feature is loaded once for these.
"""

import functools
from typing import Any

import warp as wp

from pnp_ros.kernels.chunks_warp import BEARING, NUM_ROWS, USED, Problem
from pnp_ros.kernels.consensus_warp import unproject
from pnp_ros.kernels.lens_warp import load_lens
from pnp_ros.kernels.lm_warp import CPU_COMPILER_FLAGS

BLOCK = 4  # outputs of a layer at once
CHANNELS, HEADS, LAYERS, STAGES = 32, 2, 3, 4  # as in pnp_net
OUTPUTS = BLOCK * -(-(CHANNELS + HEADS) // BLOCK)
C = wp.constant(CHANNELS)
H = wp.constant(HEADS)
PER_HEAD = wp.constant(CHANNELS // HEADS)
BLOCK_SIZE = wp.constant(BLOCK)
NUM_INPUTS = wp.constant(7)
NUM_LOOKS = wp.constant(6)
LEAST_ATTENTION = wp.constant(0.02)
MIN_VARIANCE = wp.constant(1e-3)
LEAST_TRUST = wp.constant(1e-3)
RIDGE = wp.constant(1e-4)
MIN_FORWARD = wp.constant(0.1)

# Rows of a chunk after those of the pose kernels: image (2), precision, depth ratio, logit, input, features, values.
IMAGE = wp.constant(NUM_ROWS)
PRECISION = wp.constant(NUM_ROWS + 2)
DEPTH = wp.constant(NUM_ROWS + 3)
LOGIT = wp.constant(NUM_ROWS + 4)
INPUT = wp.constant(NUM_ROWS + 5)
FEATURES = wp.constant(NUM_ROWS + 12)
VALUES = wp.constant(NUM_ROWS + 12 + CHANNELS)
ROWS = NUM_ROWS + 12 + CHANNELS + OUTPUTS

vec_c = wp.types.vector(length=CHANNELS, dtype=wp.float32)
vec18 = wp.types.vector(length=18, dtype=wp.float32)
mat44 = wp.types.matrix(shape=(4, 4), dtype=wp.float32)
mat42 = wp.types.matrix(shape=(4, 2), dtype=wp.float32)


@wp.struct
class Network:
    """Weights, four outputs in a vector; the last column of each matrix is the bias."""

    embed: wp.array3d(dtype=wp.vec4)  # (1, C / 4, 7 + 1)
    layers: wp.array3d(dtype=wp.vec4)  # (STAGES LAYERS, OUTPUTS / 4, C + 1)
    look: wp.array3d(dtype=wp.vec4)  # (STAGES - 1, C / 4, 6 + 1)
    judge: wp.array2d(dtype=float)  # (STAGES, C + 1)


@wp.struct
class NetBuffers:
    """Arrays of B problems with N points each, those of a problem in a row, as in the solver's kernel."""

    points: int  # N
    parts: int  # numbers of a weight: 2, or 4 for matrices
    cameras: int  # 1 if each problem has its own, 0 if all have one
    model: int
    image_points: wp.array(dtype=wp.vec2)  # B N
    object_points: wp.array(dtype=wp.vec3)  # B N
    weights: wp.array(dtype=float)  # B N parts
    intrinsics: wp.array(dtype=wp.vec4)  # of one camera, or B
    distortion: wp.array(dtype=float)
    likelihood: wp.array(dtype=float)  # B N


@wp.func
def log1p_of(a: Any):
    """``log(1 + a)`` of each component."""
    b = type(a)(0.0)
    for i in range(len(a)):
        b[i] = wp.log(1.0 + a[i])
    return b


@wp.func
def asinh_of(a: Any):
    """Of each component."""
    b = type(a)(0.0)
    for i in range(len(a)):
        size = wp.abs(a[i])
        b[i] = wp.sign(a[i]) * wp.log(size + wp.sqrt(size * size + 1.0))
    return b


@wp.func
def sigmoid_of(a: Any):
    """Of each component."""
    b = type(a)(0.0)
    for i in range(len(a)):
        b[i] = 1.0 / (1.0 + wp.exp(-a[i]))
    return b


@wp.func
def pack_points(packed: wp.array3d(dtype=float), data: NetBuffers, index: int, first: int, count: int, width: int):
    """Write pixels, object points, the weights' root mean square, and which have one."""
    n = data.points
    for chunk in range(count):
        k = first + chunk
        for slot in range(width):
            i = chunk * width + slot
            uv, x, square = wp.vec2(0.0), wp.vec3(0.0), float(0.0)
            point = index * n + i
            if i < n:
                uv = data.image_points[point]
                x = data.object_points[point]
                for part in range(data.parts):
                    square += data.weights[data.parts * point + part] * data.weights[data.parts * point + part]
            used = square > 0.0 and wp.isfinite(square) and wp.isfinite(uv) and wp.isfinite(x)
            if not used:
                uv, x = wp.vec2(0.0), wp.vec3(0.0)
            packed[k, 0, slot] = uv[0]
            packed[k, 1, slot] = uv[1]
            packed[k, 2, slot] = x[0]
            packed[k, 3, slot] = x[1]
            packed[k, 4, slot] = x[2]
            packed[k, PRECISION, slot] = wp.where(used, wp.sqrt(0.5 * square), 0.0)
            packed[k, USED, slot] = wp.where(used, 1.0, 0.0)


@wp.func
def canonicalise(
    chunks: wp.array2d(dtype=Any), packed: wp.array3d(dtype=float), problem: Problem, width: int, one: Any
):
    """Write the canonical image, object and precision of all points; returns the number of points and the spread."""
    axis = wp.vec3(0.0)
    for chunk in range(problem.count):
        k = problem.first + chunk
        unproject(chunks, problem, k)
        for slot in range(width):
            ray = wp.vec3(packed[k, BEARING, slot], packed[k, BEARING + 1, slot], packed[k, BEARING + 2, slot])
            ray = wp.normalize(ray)
            fine = wp.isfinite(ray) and packed[k, USED, slot] > 0.0
            if not fine:
                ray = wp.vec3(0.0)
                packed[k, USED, slot] = 0.0
            packed[k, BEARING, slot] = ray[0]
            packed[k, BEARING + 1, slot] = ray[1]
            packed[k, BEARING + 2, slot] = ray[2]
            axis = axis + ray
    axis = wp.normalize(axis)
    s = 1.0 / wp.max(1.0 + axis[2], 1e-6)
    focal = wp.sqrt(problem.lens.focal[0] * problem.lens.focal[1])
    used, x_sum, y_sum, z_sum, spread2 = 0.0 * one, 0.0 * one, 0.0 * one, 0.0 * one, 0.0 * one
    for chunk in range(problem.count):
        k = problem.first + chunk
        x, y, z = chunks[k, BEARING], chunks[k, BEARING + 1], chunks[k, BEARING + 2]
        across = (1.0 - s * axis[0] * axis[0]) * x - (s * axis[0] * axis[1]) * y - axis[0] * z
        down = -(s * axis[0] * axis[1]) * x + (1.0 - s * axis[1] * axis[1]) * y - axis[1] * z
        ahead = axis[0] * x + axis[1] * y + axis[2] * z
        seen = wp.min(wp.max(1e30 * (ahead - MIN_FORWARD * one), 0.0 * one), one)
        seen = wp.cw_mul(seen, chunks[k, USED])
        ahead = wp.max(ahead, MIN_FORWARD * one)
        image_x = wp.cw_mul(seen, wp.cw_div(across, ahead))
        image_y = wp.cw_mul(seen, wp.cw_div(down, ahead))
        chunks[k, IMAGE] = image_x
        chunks[k, IMAGE + 1] = image_y
        chunks[k, PRECISION] = focal * wp.cw_mul(wp.cw_mul(seen, chunks[k, PRECISION]), wp.cw_mul(ahead, ahead))
        chunks[k, USED] = seen
        chunks[k, DEPTH] = 0.0 * one
        spread2 = spread2 + wp.cw_mul(image_x, image_x) + wp.cw_mul(image_y, image_y)
        used = used + seen
        x_sum = x_sum + wp.cw_mul(seen, chunks[k, 2])
        y_sum = y_sum + wp.cw_mul(seen, chunks[k, 3])
        z_sum = z_sum + wp.cw_mul(seen, chunks[k, 4])
    points = wp.max(wp.dot(used, one), 1.0)
    middle = wp.vec3(wp.dot(x_sum, one), wp.dot(y_sum, one), wp.dot(z_sum, one)) / points
    size2 = 0.0 * one
    for chunk in range(problem.count):
        k = problem.first + chunk
        for d in range(3):
            shifted = wp.cw_mul(chunks[k, USED], chunks[k, 2 + d] - middle[d] * one)
            chunks[k, 2 + d] = shifted
            size2 = size2 + wp.cw_mul(shifted, shifted)
    over = 1.0 / wp.max(wp.sqrt(wp.dot(size2, one) / points), 1e-12)
    for chunk in range(problem.count):
        k = problem.first + chunk
        for d in range(3):
            chunks[k, 2 + d] = over * chunks[k, 2 + d]
    return wp.sqrt(wp.max(wp.dot(spread2, one) / points, 1e-12))


@wp.func
def four_outputs(
    chunks: wp.array2d(dtype=Any), k: int, weights: wp.array3d(dtype=wp.vec4), matrix: int, block: int, source: int,
    inputs: int, one: Any,
):  # fmt: skip
    """Four outputs of a linear map of the ``inputs`` rows from ``source`` on; behind its weights stands the bias."""
    bias = weights[matrix, block, inputs]
    s0, s1, s2, s3 = bias[0] * one, bias[1] * one, bias[2] * one, bias[3] * one
    for i in range(inputs):
        x = chunks[k, source + i]
        w = weights[matrix, block, i]
        s0 = s0 + w[0] * x
        s1 = s1 + w[1] * x
        s2 = s2 + w[2] * x
        s3 = s3 + w[3] * x
    return s0, s1, s2, s3


@wp.func
def layer(chunks: wp.array2d(dtype=Any), problem: Problem, network: Network, number: int, one: Any):
    """``h + relu(norm(W h + b))`` of all points."""
    mass = wp.vec2(0.0)
    mean, square = vec_c(0.0), vec_c(0.0)
    for chunk in range(problem.count):
        k = problem.first + chunk
        for block in range(network.layers.shape[1]):
            s0, s1, s2, s3 = four_outputs(chunks, k, network.layers, number, block, FEATURES, C, one)
            first = VALUES + BLOCK_SIZE * block
            chunks[k, first] = s0
            chunks[k, first + 1] = s1
            chunks[k, first + 2] = s2
            chunks[k, first + 3] = s3
        for head in range(H):
            score = chunks[k, VALUES + C + head]
            soft = wp.cw_div(score, one + wp.max(score, -score))
            attention = wp.cw_mul(chunks[k, USED], (0.5 + LEAST_ATTENTION) * one + 0.5 * soft)
            mass[head] = mass[head] + wp.dot(attention, one)
            for j in range(PER_HEAD):
                c = head * PER_HEAD + j
                value = chunks[k, VALUES + c]
                weighted = wp.cw_mul(attention, value)
                mean[c] = mean[c] + wp.dot(weighted, one)
                square[c] = square[c] + wp.dot(weighted, value)
    for c in range(C):
        over = 1.0 / wp.max(mass[c // PER_HEAD], 1e-6)
        average = over * mean[c]
        scale = 1.0 / wp.sqrt(wp.max(over * square[c] - average * average, 0.0) + MIN_VARIANCE)
        for chunk in range(problem.count):
            k = problem.first + chunk
            normal = scale * (chunks[k, VALUES + c] - average * one)
            chunks[k, FEATURES + c] = chunks[k, FEATURES + c] + wp.max(normal, 0.0 * one)


@wp.func
def judge(chunks: wp.array2d(dtype=Any), problem: Problem, network: Network, stage: int, one: Any):
    """Write the logits."""
    for chunk in range(problem.count):
        k = problem.first + chunk
        logit = network.judge[stage, C] * one
        for i in range(C):
            logit = logit + network.judge[stage, i] * chunks[k, FEATURES + i]
        chunks[k, LOGIT] = logit


@wp.func
def solve_affine(s: mat44, t: mat42):
    """The solution of ``s x = t`` by Gauss-Jordan; s is positive definite."""
    for i in range(4):
        over = 1.0 / wp.max(s[i, i], 1e-12)
        for j in range(4):
            if j != i:
                factor = s[j, i] * over
                for m in range(4):
                    s[j, m] = s[j, m] - factor * s[i, m]
                t[j, 0] = t[j, 0] - factor * t[i, 0]
                t[j, 1] = t[j, 1] - factor * t[i, 1]
    for i in range(4):
        over = 1.0 / wp.max(s[i, i], 1e-12)
        t[i, 0] = over * t[i, 0]
        t[i, 1] = over * t[i, 1]
    return t


@wp.func
def look(chunks: wp.array2d(dtype=Any), problem: Problem, network: Network, stage: int, spread: float, one: Any):
    """Fit an affine camera to the trusted points, and add what its residuals tell to the features."""
    total = vec18(0.0)
    mass = float(0.0)
    for chunk in range(problem.count):
        k = problem.first + chunk
        trust = wp.cw_mul(chunks[k, USED], sigmoid_of(chunks[k, LOGIT]) + LEAST_TRUST * one)
        mass += wp.dot(trust, one)
        x, y, z = chunks[k, 2], chunks[k, 3], chunks[k, 4]
        stretch = one + chunks[k, DEPTH]
        u, v = wp.cw_mul(chunks[k, IMAGE], stretch), wp.cw_mul(chunks[k, IMAGE + 1], stretch)
        tx, ty, tz = wp.cw_mul(trust, x), wp.cw_mul(trust, y), wp.cw_mul(trust, z)
        total[0] = total[0] + wp.dot(tx, x)
        total[1] = total[1] + wp.dot(tx, y)
        total[2] = total[2] + wp.dot(tx, z)
        total[3] = total[3] + wp.dot(tx, one)
        total[4] = total[4] + wp.dot(ty, y)
        total[5] = total[5] + wp.dot(ty, z)
        total[6] = total[6] + wp.dot(ty, one)
        total[7] = total[7] + wp.dot(tz, z)
        total[8] = total[8] + wp.dot(tz, one)
        total[9] = total[9] + wp.dot(trust, one)
        total[10] = total[10] + wp.dot(tx, u)
        total[11] = total[11] + wp.dot(ty, u)
        total[12] = total[12] + wp.dot(tz, u)
        total[13] = total[13] + wp.dot(trust, u)
        total[14] = total[14] + wp.dot(tx, v)
        total[15] = total[15] + wp.dot(ty, v)
        total[16] = total[16] + wp.dot(tz, v)
        total[17] = total[17] + wp.dot(trust, v)
    total = total / wp.max(mass, 1e-6)
    a = total
    scatter = mat44(
        a[0], a[1], a[2], a[3], a[1], a[4], a[5], a[6], a[2], a[5], a[7], a[8], a[3], a[6], a[8], a[9]
    ) + RIDGE * wp.identity(n=4, dtype=float)
    fit = solve_affine(scatter, mat42(a[10], a[14], a[11], a[15], a[12], a[16], a[13], a[17]))
    first = wp.vec3(fit[0, 0], fit[1, 0], fit[2, 0])
    second = wp.vec3(fit[0, 1], fit[1, 1], fit[2, 1])
    slope = wp.cross(first, second) / wp.pow(wp.length_sq(first) * wp.length_sq(second) + 1e-12, 0.25)
    for chunk in range(problem.count):
        k = problem.first + chunk
        px, py, pz = chunks[k, 2], chunks[k, 3], chunks[k, 4]
        stretch = one + chunks[k, DEPTH]
        eu = fit[0, 0] * px + fit[1, 0] * py + fit[2, 0] * pz + fit[3, 0] * one
        ev = fit[0, 1] * px + fit[1, 1] * py + fit[2, 1] * pz + fit[3, 1] * one
        eu = wp.cw_div(eu, stretch) - chunks[k, IMAGE]
        ev = wp.cw_div(ev, stretch) - chunks[k, IMAGE + 1]
        depth = slope[0] * px + slope[1] * py + slope[2] * pz
        chunks[k, DEPTH] = wp.min(wp.max(depth, -0.8 * one), 3.0 * one)
        precision = chunks[k, PRECISION]
        length2 = wp.cw_mul(wp.cw_mul(eu, eu) + wp.cw_mul(ev, ev), wp.cw_mul(precision, precision))
        chunks[k, INPUT] = asinh_of(wp.cw_mul(eu, precision))
        chunks[k, INPUT + 1] = asinh_of(wp.cw_mul(ev, precision))
        chunks[k, INPUT + 2] = log1p_of(length2)
        chunks[k, INPUT + 3] = asinh_of((3.0 / spread) * eu)
        chunks[k, INPUT + 4] = asinh_of((3.0 / spread) * ev)
        chunks[k, INPUT + 5] = chunks[k, LOGIT]
        for block in range(network.look.shape[1]):
            row = FEATURES + BLOCK_SIZE * block
            s0, s1, s2, s3 = four_outputs(chunks, k, network.look, stage, block, INPUT, NUM_LOOKS, one)
            chunks[k, row] = chunks[k, row] + s0
            chunks[k, row + 1] = chunks[k, row + 1] + s1
            chunks[k, row + 2] = chunks[k, row + 2] + s2
            chunks[k, row + 3] = chunks[k, row + 3] + s3


@wp.func
def embed(chunks: wp.array2d(dtype=Any), problem: Problem, network: Network, spread: float, one: Any):
    """Write the first features."""
    for chunk in range(problem.count):
        k = problem.first + chunk
        chunks[k, INPUT] = (1.0 / spread) * chunks[k, IMAGE]
        chunks[k, INPUT + 1] = (1.0 / spread) * chunks[k, IMAGE + 1]
        chunks[k, INPUT + 2] = chunks[k, 2]
        chunks[k, INPUT + 3] = chunks[k, 3]
        chunks[k, INPUT + 4] = chunks[k, 4]
        chunks[k, INPUT + 5] = 0.2 * log1p_of(spread * chunks[k, PRECISION])
        chunks[k, INPUT + 6] = wp.log(spread) * one
        for block in range(network.embed.shape[1]):
            row = FEATURES + BLOCK_SIZE * block
            s0, s1, s2, s3 = four_outputs(chunks, k, network.embed, 0, block, INPUT, NUM_INPUTS, one)
            chunks[k, row] = s0
            chunks[k, row + 1] = s1
            chunks[k, row + 2] = s2
            chunks[k, row + 3] = s3


@functools.cache
def build(width: int) -> wp.Kernel:
    """The kernel that works on ``width`` points at once; launch it with a thread for each problem."""
    vector = wp.types.vector(length=width, dtype=wp.float32)

    def judge_points(
        data: NetBuffers, network: Network, chunks: wp.array2d(dtype=vector), packed: wp.array3d(dtype=float)
    ):
        index = wp.tid()
        problem = Problem()
        problem.points = data.points
        problem.count = wp.max((problem.points + width - 1) // width, 1)
        problem.first = index * problem.count
        problem.lens = load_lens(data.model, data.intrinsics, data.distortion, index * data.cameras)
        one = vector(1.0)
        pack_points(packed, data, index, problem.first, problem.count, width)
        spread = canonicalise(chunks, packed, problem, width, one)
        embed(chunks, problem, network, spread, one)
        stages = network.judge.shape[0]
        steps = network.layers.shape[0] // stages
        for number in range(network.layers.shape[0]):  # of one copy each: the bodies are large
            layer(chunks, problem, network, number, one)
            if number % steps == steps - 1:
                stage = number // steps
                judge(chunks, problem, network, stage, one)
                if stage < stages - 1:
                    look(chunks, problem, network, stage, spread, one)
        for i in range(problem.points):
            k, slot = problem.first + i // width, i % width
            likelihood = packed[k, USED, slot] / (1.0 + wp.exp(-packed[k, LOGIT, slot]))
            data.likelihood[index * data.points + i] = wp.where(wp.isfinite(likelihood), likelihood, 0.0)

    options = {"cpu_compiler_flags": CPU_COMPILER_FLAGS, "enable_backward": False, "max_unroll": BLOCK}
    return wp.kernel(judge_points, module="unique", module_options=options, enable_backward=False)
