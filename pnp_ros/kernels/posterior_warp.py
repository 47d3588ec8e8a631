# mypy: disable-error-code="assignment, misc, no-redef"
# ruff: noqa: RUF059 - Warp's dialect: all results of a call are named
"""The cost of many poses of the same points, and its gradient, as Warp kernels: one source for CPU and CUDA.

The points of a chunk are worked on at once by vector instructions. The costs take a thread for each pose, which goes
through the chunks; the gradients one for each chunk, which goes through the poses and keeps its sums in registers.
:mod:`pnp_ros.kernels.posterior_sampler_reference` defines the truth.
"""

import functools
from typing import Any

import warp as wp

from pnp_ros.kernels.lens_warp import inverse
from pnp_ros.kernels.lm_warp import CPU_COMPILER_FLAGS
from pnp_ros.kernels.pose_warp import robust

NUM_POINT_ROWS = wp.constant(9)  # of a chunk of points: whitened residual rows (6), then x, y, z (m)
NUM_CENTRE_ROWS = wp.constant(5)  # of a chunk at a centre: numerators (2), then the camera-frame point (3)


@wp.struct
class Samples:
    """Poses ``M`` (12, row-major), as differences to C centres; ``C / B`` successive centres share the points.

    centre: (C, 12); offsets: (C, 12, S); min_depth: (C) m; kind, scale: of the robust loss; chunks: of each problem;
    modes: centres of each problem.
    """

    centre: wp.array2d(dtype=float)
    offsets: wp.array3d(dtype=float)
    min_depth: wp.array(dtype=float)
    kind: int
    scale: float
    chunks: int
    modes: int


@wp.struct
class Offset:
    """What a pose has more than its centre."""

    rotation: wp.mat33
    translation: wp.vec3


@wp.func
def load_offset(samples: Samples, i: int, s: int):
    """Pose ``s`` of centre ``i``."""
    m = samples.offsets
    offset = Offset()
    offset.rotation = wp.mat33(
        m[i, 0, s], m[i, 1, s], m[i, 2, s], m[i, 4, s], m[i, 5, s], m[i, 6, s], m[i, 8, s], m[i, 9, s], m[i, 10, s]
    )
    offset.translation = wp.vec3(m[i, 3, s], m[i, 7, s], m[i, 11, s])
    return offset


@wp.func
def displace(offset: Offset, x: Any, y: Any, z: Any):
    """How far points (x, y, z) are from where the centre puts them."""
    one = type(x)(1.0)
    r, t = offset.rotation, offset.translation
    dx = r[0, 0] * x + r[0, 1] * y + r[0, 2] * z + t[0] * one
    dy = r[1, 0] * x + r[1, 1] * y + r[1, 2] * z + t[1] * one
    dz = r[2, 0] * x + r[2, 1] * y + r[2, 2] * z + t[2] * one
    return dx, dy, dz


@functools.cache
def build(width: int) -> tuple[wp.Kernel, wp.Kernel]:
    """The kernels of the costs and of their gradients, for chunks of ``width`` points.

    Launch the first with ``dim = (centres, poses)``, the second with ``dim = (centres, chunks)``.
    """
    vector = wp.types.vector(length=width, dtype=wp.float32)

    def pose_costs(
        samples: Samples, points: wp.array2d(dtype=vector), centred: wp.array2d(dtype=vector),
        costs: wp.array2d(dtype=float),
    ):  # fmt: skip
        i, s = wp.tid()
        offset = load_offset(samples, i, s)
        one = vector(1.0)
        total = vector(0.0)
        for chunk in range(samples.chunks):
            k = (i // samples.modes) * samples.chunks + chunk
            j = i * samples.chunks + chunk
            dx, dy, dz = displace(offset, points[k, 6], points[k, 7], points[k, 8])
            u = wp.cw_mul(points[k, 0], dx) + wp.cw_mul(points[k, 1], dy) + wp.cw_mul(points[k, 2], dz)
            v = wp.cw_mul(points[k, 3], dx) + wp.cw_mul(points[k, 4], dy) + wp.cw_mul(points[k, 5], dz)
            over = inverse(wp.max(centred[j, 4] + dz, samples.min_depth[i] * one))
            u, v = wp.cw_mul(u + centred[j, 0], over), wp.cw_mul(v + centred[j, 1], over)
            rho, weight = robust(samples.kind, samples.scale, wp.cw_mul(u, u) + wp.cw_mul(v, v))
            total = total + rho
        costs[i, s] = 0.5 * wp.dot(total, one)

    def point_gradients(
        samples: Samples, points: wp.array2d(dtype=vector), centred: wp.array2d(dtype=vector),
        influence: wp.array2d(dtype=float), gradients: wp.array2d(dtype=vector),
    ):  # fmt: skip
        i, chunk = wp.tid()
        k = (i // samples.modes) * samples.chunks + chunk
        j = i * samples.chunks + chunk
        one = vector(1.0)
        a0, a1, a2 = points[k, 0], points[k, 1], points[k, 2]
        b0, b1, b2 = points[k, 3], points[k, 4], points[k, 5]
        x, y, z = points[k, 6], points[k, 7], points[k, 8]
        least = samples.min_depth[i]
        # One variable each: what is assigned together shares its memory.
        ga0, ga1, ga2 = vector(0.0), vector(0.0), vector(0.0)
        gb0, gb1, gb2 = vector(0.0), vector(0.0), vector(0.0)
        gx, gy, gz = vector(0.0), vector(0.0), vector(0.0)
        c = samples.centre
        turned = wp.mat33(c[i, 0], c[i, 1], c[i, 2], c[i, 4], c[i, 5], c[i, 6], c[i, 8], c[i, 9], c[i, 10])
        for s in range(influence.shape[1]):
            offset = load_offset(samples, i, s)
            dx, dy, dz = displace(offset, x, y, z)
            u = centred[j, 0] + wp.cw_mul(a0, dx) + wp.cw_mul(a1, dy) + wp.cw_mul(a2, dz)
            v = centred[j, 1] + wp.cw_mul(b0, dx) + wp.cw_mul(b1, dy) + wp.cw_mul(b2, dz)
            px, py, pz = centred[j, 2] + dx, centred[j, 3] + dy, centred[j, 4] + dz
            # A point held at the least depth does not feel a change of its depth.
            free = wp.min(wp.max(1e30 * (pz - least * one), vector(0.0)), one)
            over = inverse(wp.max(pz, least * one))
            u, v = wp.cw_mul(u, over), wp.cw_mul(v, over)
            rho, weight = robust(samples.kind, samples.scale, wp.cw_mul(u, u) + wp.cw_mul(v, v))
            over = wp.cw_mul(influence[i, s] * weight, over)
            e, f = wp.cw_mul(u, over), wp.cw_mul(v, over)  # of the numerators
            ga0 = ga0 + wp.cw_mul(e, px)
            ga1 = ga1 + wp.cw_mul(e, py)
            ga2 = ga2 + wp.cw_mul(e, pz)
            gb0 = gb0 + wp.cw_mul(f, px)
            gb1 = gb1 + wp.cw_mul(f, py)
            gb2 = gb2 + wp.cw_mul(f, pz)
            ex = wp.cw_mul(e, a0) + wp.cw_mul(f, b0)  # of the camera-frame point
            ey = wp.cw_mul(e, a1) + wp.cw_mul(f, b1)
            ez = wp.cw_mul(e, a2) + wp.cw_mul(f, b2) - wp.cw_mul(free, wp.cw_mul(u, e) + wp.cw_mul(v, f))
            r = turned + offset.rotation
            gx = gx + r[0, 0] * ex + r[1, 0] * ey + r[2, 0] * ez
            gy = gy + r[0, 1] * ex + r[1, 1] * ey + r[2, 1] * ez
            gz = gz + r[0, 2] * ex + r[1, 2] * ey + r[2, 2] * ez
        gradients[j, 0] = ga0
        gradients[j, 1] = ga1
        gradients[j, 2] = ga2
        gradients[j, 3] = gb0
        gradients[j, 4] = gb1
        gradients[j, 5] = gb2
        gradients[j, 6] = gx
        gradients[j, 7] = gy
        gradients[j, 8] = gz

    options = {"cpu_compiler_flags": CPU_COMPILER_FLAGS, "enable_backward": False}
    costs = wp.kernel(pose_costs, module="unique", module_options=options, enable_backward=False)
    return costs, wp.kernel(point_gradients, module="unique", module_options=options, enable_backward=False)
