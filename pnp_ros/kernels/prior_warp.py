# mypy: disable-error-code="assignment"
# ruff: noqa: UP018, RUF059 - Warp's dialect: float(x) makes a variable, and all results of a call are named
"""A prior on the pose inside kernels; :mod:`pnp_ros.kernels.pose_prior` says how it is written."""

import warp as wp

from pnp_ros.kernels.chunks_warp import EPS
from pnp_ros.kernels.pose_warp import COST, NEXT_COST, Pose, factorise, mat66, retract, symmetric, vec6, vec_sums


@wp.struct
class Prior:
    """See :class:`pnp_ros.kernels.pose_prior.PosePrior`. Where it is not ``active``, the rest has no meaning."""

    active: bool
    rotation: wp.quat
    translation: wp.vec3
    axes: mat66
    deviations: vec6
    information: vec6
    rank: float
    resolution: float
    origin: wp.vec3


@wp.func
def load_prior(active: int, priors: wp.array(dtype=vec6), index: int, origin: wp.vec3):
    """Of problem ``index``; ten of ``priors`` for each: V (6 rows), S, information, R and t (12 in two rows)."""
    prior = Prior()
    prior.active = active != 0
    prior.rank = 0.0
    prior.resolution = 0.0
    if prior.active:
        prior.origin = origin
        first = 10 * index
        for i in range(6):
            prior.axes[i] = priors[first + i]
        prior.deviations = priors[first + 6]
        prior.information = priors[first + 7]
        for i in range(6):
            prior.rank = prior.rank + wp.where(prior.information[i] > 0.0, 1.0, 0.0)
        a, b = priors[first + 8], priors[first + 9]
        r = wp.mat33(a[0], a[1], a[2], a[3], a[4], a[5], b[0], b[1], b[2])
        prior.translation = wp.vec3(b[3], b[4], b[5])
        prior.rotation = wp.normalize(wp.quat_from_matrix(r))
        steepest = float(0.0)
        for j in range(6):
            square = float(0.0)
            for i in range(6):
                square = square + (prior.axes[i, j] / prior.deviations[i]) * (prior.axes[i, j] / prior.deviations[i])
            steepest = wp.max(steepest, prior.information[j] * square)
        prior.resolution = EPS * wp.max(wp.length(prior.translation), 1.0) * wp.sqrt(steepest)
    return prior


@wp.func
def turn_from(prior: Prior, pose: Pose):
    """The rotation vector from the prior's orientation to the pose's."""
    q = pose.rotation * wp.quat_inverse(prior.rotation)
    v = wp.vec3(q[0], q[1], q[2])
    w = q[3]
    if w < 0.0:  # the same rotation
        v = -v
        w = -w
    norm = wp.length(v)
    factor = float(2.0)
    if norm > 1e-6:
        factor = 2.0 * wp.atan2(norm, w) / norm
    return factor * v


@wp.func
def left_jacobian(phi: wp.vec3):
    """As :func:`pnp_ros.geometry.so3.left_jacobian`."""
    theta2 = wp.dot(phi, phi)
    a = float(0.5)
    b = float(0.0)
    if theta2 > 0.04:
        theta = wp.sqrt(theta2)
        half = wp.sin(0.5 * theta) / theta
        a = 2.0 * half * half
        b = (theta - wp.sin(theta)) / (theta2 * theta)
    else:
        a = 0.5 - theta2 / 24.0 + theta2 * theta2 / 720.0
        b = 1.0 / 6.0 - theta2 / 120.0 + theta2 * theta2 / 5040.0
    skew = wp.skew(phi)
    return wp.identity(n=3, dtype=float) + a * skew + b * (skew * skew)


@wp.func
def prior_delta(prior: Prior, pose: Pose):
    """``local(prior, pose)`` of a pose of the points."""
    lever = wp.quat_rotate(pose.rotation, prior.origin)
    shift = pose.translation + lever - prior.translation
    turn = turn_from(prior, pose)
    return vec6(shift[0], shift[1], shift[2], turn[0], turn[1], turn[2])


@wp.func
def prior_residual(prior: Prior, pose: Pose):
    """``eta`` at a pose of the points."""
    return wp.transpose(prior.axes) * wp.cw_div(prior_delta(prior, pose), prior.deviations)


@wp.func
def prior_square(prior: Prior, pose: Pose):
    """The squared distance of a pose from the prior, in deviations."""
    eta = prior_residual(prior, pose)
    return wp.dot(eta, wp.cw_mul(prior.information, eta))


@wp.func
def step_from(prior: Prior, pose: Pose, step: vec6):
    """The pose whose residual is larger by ``step``, exactly: what is known exactly keeps no step small."""
    if prior.active:
        delta = prior_delta(prior, pose) + wp.cw_mul(prior.deviations, prior.axes * step)
        reference = Pose()
        reference.rotation = prior.rotation
        reference.translation = prior.translation
        moved = retract(reference, delta)
        moved.translation = moved.translation - wp.quat_rotate(moved.rotation, prior.origin)
        return moved
    return retract(pose, step)


@wp.func
def prior_tangent(prior: Prior, pose: Pose):
    """``T``: to first order, :func:`step_from` moves the pose by ``T step``."""
    lever = wp.quat_rotate(pose.rotation, prior.origin)
    jacobian = left_jacobian(turn_from(prior, pose))
    moved = wp.skew(lever) * jacobian
    tangent = mat66(0.0)
    for j in range(6):
        shift = wp.vec3(0.0)
        turn = wp.vec3(0.0)
        for i in range(3):
            shift[i] = prior.deviations[i] * prior.axes[i, j]
            turn[i] = prior.deviations[3 + i] * prior.axes[3 + i, j]
        top = shift + moved * turn
        bottom = jacobian * turn
        for i in range(3):
            tangent[i, j] = top[i]
            tangent[3 + i, j] = bottom[i]
    return tangent


@wp.func
def add_prior_cost(prior: Prior, pose: Pose, sums: vec_sums):
    """The sums with the prior's cost."""
    if prior.active:
        cost = 0.5 * prior_square(prior, pose)
        sums[COST] = sums[COST] + cost
        sums[NEXT_COST] = sums[NEXT_COST] + cost
    return sums


@wp.func
def in_axes(prior: Prior, pose: Pose, tangent: mat66, sums: vec_sums, scale: float):
    """The normal equations for ``eta``, the points' Hessian times ``scale``, with the prior's part."""
    gradient = vec6(0.0)
    for i in range(6):
        gradient[i] = sums[21 + i]
    hessian = scale * (wp.transpose(tangent) * symmetric(sums) * tangent)
    eta = prior_residual(prior, pose)
    gradient = wp.transpose(tangent) * gradient + wp.cw_mul(prior.information, eta)
    joint = vec_sums(0.0)
    for i in range(6):
        for j in range(i, 6):
            joint[(i * (11 - i)) // 2 + j] = hessian[i, j]
        n = (i * (11 - i)) // 2 + i
        joint[n] = joint[n] + prior.information[i]
        joint[21 + i] = gradient[i]
    return joint


@wp.func
def least_known(prior: Prior, broad: vec6):
    """Along the prior's axes: what is known of any pose in view, whose variances are ``broad``."""
    least = vec6(1e-30)
    for j in range(6):
        for i in range(6):
            change = prior.axes[i, j] * prior.deviations[i]
            least[j] = least[j] + change * change / broad[i]
    return least


@wp.func
def log_share(prior: Prior, broad: vec6):
    """As :func:`accept_reference.log_share`."""
    least = least_known(prior, broad)
    value = float(0.0)
    for j in range(6):
        value -= 0.5 * wp.log(1.0 + prior.information[j] / least[j])
    return value


@wp.func
def prior_volume(prior: Prior, pose: Pose, sums: vec_sums, information: float, broad: vec6):
    """As :func:`accept_reference.log_volume_with_prior`; ``broad`` are the variances of all poses in view."""
    least = least_known(prior, broad)
    joint = in_axes(prior, pose, prior_tangent(prior, pose), sums, information)
    value = float(0.0)
    for j in range(6):
        n = (j * (11 - j)) // 2 + j
        joint[n] = joint[n] + least[j]
        value -= 0.5 * wp.log(prior.information[j] + least[j])
    factor, scale, pivot = factorise(joint, 0.0)
    for i in range(6):
        value -= wp.log(factor[i, i] * scale[i])
    return value
