"""The lenses of :mod:`pnp_ros.cameras` inside kernels.

Functions take Warp vectors of any one length, a point in each component: a CPU turns them into SIMD instructions, on
a GPU the length is one. Formulas as in :mod:`pnp_ros.cameras.brown_conrady` and
:mod:`pnp_ros.cameras.kannala_brandt`.
"""

from typing import Any

import warp as wp

from pnp_ros.cameras.camera import CameraModel

MODEL_NUMBERS = {CameraModel.PINHOLE: 0, CameraModel.BROWN_CONRADY: 1, CameraModel.KANNALA_BRANDT: 2}
BROWN_CONRADY = wp.constant(MODEL_NUMBERS[CameraModel.BROWN_CONRADY])
KANNALA_BRANDT = wp.constant(MODEL_NUMBERS[CameraModel.KANNALA_BRANDT])

vec14 = wp.types.vector(length=14, dtype=wp.float32)


@wp.struct
class Lens:
    """model: number; focal, centre: px; coefficients: of the model; tilt: homography of Brown-Conrady's sensor."""

    model: int
    focal: wp.vec2
    centre: wp.vec2
    coefficients: vec14
    tilt: wp.mat33


@wp.func
def load_lens(model: int, intrinsics: wp.array(dtype=wp.vec4), distortion: wp.array(dtype=float), camera: int) -> Lens:
    """The lens of one camera; ``distortion`` has as many numbers for each as the model has coefficients."""
    lens = Lens()
    lens.model = model
    focal_and_centre = intrinsics[camera]
    lens.focal = wp.vec2(focal_and_centre[0], focal_and_centre[1])
    lens.centre = wp.vec2(focal_and_centre[2], focal_and_centre[3])
    coefficients = vec14(0.0)
    if model == BROWN_CONRADY:
        for i in range(14):
            coefficients[i] = distortion[14 * camera + i]
        cx, sx = wp.cos(coefficients[12]), wp.sin(coefficients[12])
        cy, sy = wp.cos(coefficients[13]), wp.sin(coefficients[13])
        r = wp.mat33(cy, sy * sx, -sy * cx, 0.0, cx, sx, sy, -cy * sx, cy * cx)
        lens.tilt = wp.mat33(r[2, 2], 0.0, -r[0, 2], 0.0, r[2, 2], -r[1, 2], 0.0, 0.0, 1.0) * r
    if model == KANNALA_BRANDT:
        for i in range(4):
            coefficients[i] = distortion[4 * camera + i]
    lens.coefficients = coefficients
    return lens


@wp.func
def inverse(a: Any):
    """Of each component."""
    return wp.cw_div(type(a)(1.0), a)


@wp.func
def sqrt(a: Any):
    """Of each component."""
    b = type(a)(0.0)
    for i in range(len(a)):
        b[i] = wp.sqrt(a[i])
    return b


@wp.func
def visible(model: int, x: Any, y: Any, z: Any):
    """1 where a camera-frame point can be projected, else 0."""
    cosine = 1e-3
    if model == KANNALA_BRANDT:
        cosine = -0.999
    margin = z - cosine * sqrt(wp.cw_mul(x, x) + wp.cw_mul(y, y) + wp.cw_mul(z, z))
    return wp.min(wp.max(1e30 * margin, type(x)(0.0)), type(x)(1.0))


@wp.func
def distort_brown_conrady(k: vec14, tilt: wp.mat33, x: Any, y: Any):
    """Point of the distorted plane, and its derivatives by x and y: u, v, u_x, u_y, v_x, v_y."""
    one = type(x)(1.0)
    xx, xy, yy = wp.cw_mul(x, x), wp.cw_mul(x, y), wp.cw_mul(y, y)
    r2 = xx + yy
    r4 = wp.cw_mul(r2, r2)
    r6 = wp.cw_mul(r4, r2)
    over = inverse(one + k[5] * r2 + k[6] * r4 + k[7] * r6)
    radial = wp.cw_mul(one + k[0] * r2 + k[1] * r4 + k[4] * r6, over)
    slope = k[0] * one + (2.0 * k[1]) * r2 + (3.0 * k[4]) * r4
    slope = slope - wp.cw_mul(radial, k[5] * one + (2.0 * k[6]) * r2 + (3.0 * k[7]) * r4)
    slope = 2.0 * wp.cw_mul(slope, over)
    a = wp.cw_mul(x, radial) + (2.0 * k[2]) * xy + k[3] * (r2 + 2.0 * xx) + k[8] * r2 + k[9] * r4
    b = wp.cw_mul(y, radial) + k[2] * (r2 + 2.0 * yy) + (2.0 * k[3]) * xy + k[10] * r2 + k[11] * r4
    prism_a = (2.0 * k[8]) * one + (4.0 * k[9]) * r2
    prism_b = (2.0 * k[10]) * one + (4.0 * k[11]) * r2
    cross = wp.cw_mul(xy, slope) + (2.0 * k[2]) * x + (2.0 * k[3]) * y
    a_x = radial + wp.cw_mul(xx, slope) + (2.0 * k[2]) * y + (6.0 * k[3]) * x + wp.cw_mul(prism_a, x)
    a_y = cross + wp.cw_mul(prism_a, y)
    b_x = cross + wp.cw_mul(prism_b, x)
    b_y = radial + wp.cw_mul(yy, slope) + (6.0 * k[2]) * y + (2.0 * k[3]) * x + wp.cw_mul(prism_b, y)
    # the tilted sensor
    over = inverse(wp.max(tilt[2, 0] * a + tilt[2, 1] * b + tilt[2, 2] * one, type(x)(1e-9)))
    u = wp.cw_mul(tilt[0, 0] * a + tilt[0, 1] * b + tilt[0, 2] * one, over)
    v = wp.cw_mul(tilt[1, 0] * a + tilt[1, 1] * b + tilt[1, 2] * one, over)
    u_a, u_b = wp.cw_mul(tilt[0, 0] * one - tilt[2, 0] * u, over), wp.cw_mul(tilt[0, 1] * one - tilt[2, 1] * u, over)
    v_a, v_b = wp.cw_mul(tilt[1, 0] * one - tilt[2, 0] * v, over), wp.cw_mul(tilt[1, 1] * one - tilt[2, 1] * v, over)
    u_x, u_y = wp.cw_mul(u_a, a_x) + wp.cw_mul(u_b, b_x), wp.cw_mul(u_a, a_y) + wp.cw_mul(u_b, b_y)
    v_x, v_y = wp.cw_mul(v_a, a_x) + wp.cw_mul(v_b, b_x), wp.cw_mul(v_a, a_y) + wp.cw_mul(v_b, b_y)
    return u, v, u_x, u_y, v_x, v_y


@wp.func
def fisheye_angle(x: Any, y: Any, z: Any):
    """The angle to the optical axis and ``r = |(x, y)|``; the axis itself is moved by a little."""
    r = sqrt(wp.cw_mul(x, x) + wp.cw_mul(y, y))
    theta = r
    for i in range(len(r)):
        r[i] = wp.max(r[i], 1e-6 * wp.abs(z[i]) + 1e-20)
        theta[i] = wp.atan2(r[i], z[i])
    return theta, r


@wp.func
def fisheye_radius(k: vec14, theta: Any):
    """Radius in the plane at an angle, and its derivative."""
    one = type(theta)(1.0)
    t = wp.cw_mul(theta, theta)
    radius = one + wp.cw_mul(t, k[0] * one + wp.cw_mul(t, k[1] * one + wp.cw_mul(t, k[2] * one + k[3] * t)))
    slope = k[1] * 5.0 * one + wp.cw_mul(t, 7.0 * k[2] * one + 9.0 * k[3] * t)
    slope = one + wp.cw_mul(t, 3.0 * k[0] * one + wp.cw_mul(t, slope))
    return wp.cw_mul(theta, radius), slope


@wp.func
def project(lens: Lens, x: Any, y: Any, z: Any):
    """Pixels and their derivatives by the camera-frame point: u, v, u_x, u_y, u_z, v_x, v_y, v_z."""
    one = type(x)(1.0)
    u, v = 0.0 * one, 0.0 * one
    u_x, u_y, u_z, v_x, v_y, v_z = 0.0 * one, 0.0 * one, 0.0 * one, 0.0 * one, 0.0 * one, 0.0 * one
    if lens.model == KANNALA_BRANDT:
        theta, r = fisheye_angle(x, y, z)
        radius, slope = fisheye_radius(lens.coefficients, theta)
        over_r = inverse(r)
        stretch = wp.cw_mul(radius, over_r)
        dx, dy = wp.cw_mul(x, over_r), wp.cw_mul(y, over_r)
        over = inverse(wp.cw_mul(x, x) + wp.cw_mul(y, y) + wp.cw_mul(z, z))
        radial = wp.cw_mul(slope, wp.cw_mul(z, over)) - stretch
        along = -wp.cw_mul(slope, over)
        u, v = wp.cw_mul(stretch, x), wp.cw_mul(stretch, y)
        u_x = stretch + wp.cw_mul(radial, wp.cw_mul(dx, dx))
        u_y = wp.cw_mul(radial, wp.cw_mul(dx, dy))
        v_x = u_y
        v_y = stretch + wp.cw_mul(radial, wp.cw_mul(dy, dy))
        u_z, v_z = wp.cw_mul(along, x), wp.cw_mul(along, y)
    else:
        over = inverse(z)
        a, b = wp.cw_mul(x, over), wp.cw_mul(y, over)
        u = a
        v = b
        p_x, p_y, q_x, q_y = 1.0 * one, 0.0 * one, 0.0 * one, 1.0 * one
        if lens.model == BROWN_CONRADY:
            u, v, p_x, p_y, q_x, q_y = distort_brown_conrady(lens.coefficients, lens.tilt, a, b)
        u_x, u_y = wp.cw_mul(p_x, over), wp.cw_mul(p_y, over)
        v_x, v_y = wp.cw_mul(q_x, over), wp.cw_mul(q_y, over)
        u_z = -(wp.cw_mul(u_x, a) + wp.cw_mul(u_y, b))
        v_z = -(wp.cw_mul(v_x, a) + wp.cw_mul(v_y, b))
    fx, fy = lens.focal[0], lens.focal[1]
    u, v = fx * u + lens.centre[0] * one, fy * v + lens.centre[1] * one
    return u, v, fx * u_x, fx * u_y, fx * u_z, fy * v_x, fy * v_y, fy * v_z
