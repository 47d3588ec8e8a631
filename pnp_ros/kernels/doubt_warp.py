# mypy: disable-error-code="assignment, no-redef"
# ruff: noqa: UP018, RUF046, RUF059 - Warp's dialect: float(x) makes a variable, and all results of a call are named
"""A covariance that knows that one of the points it trusts may be wrong, for kernels.

The formulas are those of :mod:`pnp_ros.kernels.doubt_reference`.
"""

import math
from typing import Any

import warp as wp

from pnp_ros.kernels import doubt_reference, lens_warp
from pnp_ros.kernels.accept_warp import Weighed, log_density, near_density
from pnp_ros.kernels.chunks_warp import RANK, USED, Problem, Settings, by_pose, residuals
from pnp_ros.kernels.pose_warp import Pose, add_up, mat66, robust, symmetric, vec_sums

TRUSTED = wp.constant(doubt_reference.TRUSTED)
BY_DEFAULT = wp.constant(doubt_reference.BY_DEFAULT)
FULL = wp.constant(doubt_reference.FULL)
MOST = wp.constant(doubt_reference.MOST)
LOG_2 = wp.constant(math.log(2.0))
ODDS = wp.constant(21)  # among the sums, behind the 21 of a symmetric matrix


@wp.func
def probably_near(problem: Problem, weighed: Weighed, each: float):
    """How probably wrong points lie about their places."""
    rank = problem.residuals / wp.max(problem.used, 1.0)
    told = weighed.outliers * (each + 0.5 * rank * (LOG_2 - 2.0 - weighed.log_spread))
    return 1.0 / (1.0 + wp.exp(-wp.clamp(told, -50.0, 50.0)))


@wp.func
def with_doubt(
    chunks: wp.array2d(dtype=Any), problem: Problem, settings: Settings, group: Any, pose: Pose, weighed: Weighed,
    covariance: mat66, scale: float, sums: Any, a: Any,
):  # fmt: skip
    """The mixture's covariance. ``sums`` is zero, and ``a`` any, in the types that the chunks ask for."""
    r, t = wp.quat_to_matrix(pose.rotation), pose.translation
    each = log_density(problem, settings)
    near = probably_near(problem, weighed, each)
    anywhere = (1.0 - near) * wp.exp(-each)
    spread = wp.exp(weighed.log_spread)
    odds = (weighed.outliers + BY_DEFAULT) / (problem.used - weighed.outliers + BY_DEFAULT)
    b = a
    for chunk in range(group.lane, problem.count, group.lanes):
        k = problem.first + chunk
        qx, qy, qz, ru, rv, seen, u_x, u_y, u_z, v_x, v_y, v_z = residuals(problem.lens, chunks, k, r, t)
        one = type(qx)(1.0)
        rho, weight = robust(settings.kind, settings.scale, wp.cw_mul(ru, ru) + wp.cw_mul(rv, rv))
        share = (1.0 / scale) * weight
        a = by_pose(a, qx, qy, qz, u_x, u_y, u_z)
        b = by_pose(b, qx, qy, qz, v_x, v_y, v_z)
        # J C J^T
        uu, uv, vv = 0.0 * one, 0.0 * one, 0.0 * one
        i = int(0)
        while i < 6:  # loops that are not unrolled: the kernel compiles in half the time
            ca, cb = 0.0 * one, 0.0 * one
            for j in range(6):
                ca = ca + covariance[i, j] * a[j]
                cb = cb + covariance[i, j] * b[j]
            uu = uu + wp.cw_mul(a[i], ca)
            uv = uv + wp.cw_mul(a[i], cb)
            vv = vv + wp.cw_mul(b[i], cb)
            i += 1
        # G, the residual without the point, and S
        m_uu, m_vv = (1.0 + FULL) * one - wp.cw_mul(share, uu), (1.0 + FULL) * one - wp.cw_mul(share, vv)
        m_uv = wp.cw_mul(share, uv)
        over = lens_warp.inverse(wp.cw_mul(m_uu, m_vv) - wp.cw_mul(m_uv, m_uv))
        g_uu, g_uv, g_vv = wp.cw_mul(over, m_vv), wp.cw_mul(over, m_uv), wp.cw_mul(over, m_uu)
        du = wp.cw_mul(g_uu, ru) + wp.cw_mul(g_uv, rv)
        dv = wp.cw_mul(g_uv, ru) + wp.cw_mul(g_vv, rv)
        s_uu = one + wp.cw_mul(g_uu, uu) + wp.cw_mul(g_uv, uv)
        s_uv = wp.cw_mul(g_uu, uv) + wp.cw_mul(g_uv, vv)
        s_vv = one + wp.cw_mul(g_uv, uv) + wp.cw_mul(g_vv, vv)
        area2 = wp.cw_mul(s_uu, s_vv) - wp.cw_mul(s_uv, s_uv)
        squared = wp.cw_mul(s_vv, wp.cw_mul(du, du)) - 2.0 * wp.cw_mul(s_uv, wp.cw_mul(du, dv))
        squared = wp.cw_mul(squared + wp.cw_mul(s_uu, wp.cw_mul(dv, dv)), lens_warp.inverse(area2))
        apart = wp.cw_mul(du, du) + wp.cw_mul(dv, dv)
        wrong = 0.0 * one
        for slot in range(len(one)):
            if weight[slot] > TRUSTED and chunks[k, USED][slot] > 0.0:
                density = anywhere + near * near_density(apart[slot], spread, chunks[k, RANK][slot])
                wrong[slot] = odds * density * wp.sqrt(area2[slot]) * wp.exp(wp.min(0.5 * squared[slot], MOST))
        once, twice = wp.cw_mul(wrong, share), wp.cw_mul(wrong, wp.cw_mul(share, share))
        b_uu = wp.cw_mul(once, g_uu) + wp.cw_mul(twice, wp.cw_mul(du, du))
        b_uv = wp.cw_mul(once, g_uv) + wp.cw_mul(twice, wp.cw_mul(du, dv))
        b_vv = wp.cw_mul(once, g_vv) + wp.cw_mul(twice, wp.cw_mul(dv, dv))
        i = int(0)
        while i < 6:
            ba = wp.cw_mul(b_uu, a[i]) + wp.cw_mul(b_uv, b[i])
            bb = wp.cw_mul(b_uv, a[i]) + wp.cw_mul(b_vv, b[i])
            j = int(i)
            while j < 6:
                n = (i * (11 - i)) // 2 + j
                sums[n] = sums[n] + wp.cw_mul(ba, a[j]) + wp.cw_mul(bb, b[j])
                j += 1
            i += 1
        sums[ODDS] = sums[ODDS] + wrong
    total = vec_sums(0.0)
    for n in range(ODDS + 1):
        total[n] = wp.dot(sums[n], type(sums[n])(1.0))
    total = add_up(group, total)
    moved = symmetric(total) / (1.0 + total[ODDS])
    return covariance + covariance * moved * covariance
