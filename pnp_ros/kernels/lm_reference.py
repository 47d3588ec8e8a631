"""Levenberg-Marquardt on a camera pose in plain torch: the truth that the kernels are tested against.

Minimises ``1/2 sum_i rho(|W_i (project(R p_i + t) - u_i)|^2)`` over ``t = t_hat + dt``, ``R = exp(dtheta) R_hat`` by
iteratively reweighted Gauss-Newton steps ``(H + lambda diag H) delta = -g`` with ``H = sum w_i J_i^T J_i`` (Marquardt,
1963; Triggs et al., "Bundle adjustment - a modern synthesis", 2000, section 4.3). The covariance is ``H^-1`` at the
end, calibrated for the loss by :func:`pnp_ros.kernels.robust.calibration`.

A prior adds its residual (:mod:`pnp_ros.kernels.pose_prior`); steps are then solved for in its axes.

Points are taken about their centroid while solving: the information matrix of an object whose origin lies far from
its points is nearly singular, although the pose is well determined.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import so3
from pnp_ros.geometry.covariance import UNKNOWN_VARIANCE, is_valid
from pnp_ros.kernels import doubt_reference, robust
from pnp_ros.kernels.doubt_reference import Outliers
from pnp_ros.kernels.lm_problem import (
    ANNEAL_STEPS,
    BEHIND_PENALTY,
    GOOD_COST,
    LAMBDA_MAX,
    LAMBDA_MIN,
    LAMBDA_START,
    MIN_PIVOT,
    MIN_PIVOT_WITH_PRIOR,
    ROUNDING,
    LMProblem,
    LMResult,
    LMSettings,
)
from pnp_ros.kernels.robust import RobustKind
from pnp_ros.types import SolveStatus
from pnp_ros.types.correspondences import rank_2x2


@dataclass(eq=False)
class Linearised:
    """Normal equations at a pose.

    Args:
        hessian, gradient: (B, 6, 6), (B, 6) of the points and the prior, for steps in the prior's axes.
        tangent: (B, 6, 6) what turns such a step into one of the pose.
        residual, jacobian: (B, N, 2), (B, N, 2, 6) of the points, whitened, by the pose.
        squared, seen: (B, N) squared residuals, and whether the camera sees the point.
        prior_cost: (B).
    """

    hessian: Tensor
    gradient: Tensor
    tangent: Tensor
    residual: Tensor
    jacobian: Tensor
    squared: Tensor
    seen: Tensor
    prior_cost: Tensor

    def where(self, mask: Tensor, other: Linearised) -> Linearised:
        m1, m2 = mask[:, None], mask[:, None, None]
        return Linearised(
            torch.where(m2, self.hessian, other.hessian),
            torch.where(m1, self.gradient, other.gradient),
            torch.where(m2, self.tangent, other.tangent),
            torch.where(m2, self.residual, other.residual),
            torch.where(m2[..., None], self.jacobian, other.jacobian),
            torch.where(m1, self.squared, other.squared),
            torch.where(m1, self.seen, other.seen),
            torch.where(mask, self.prior_cost, other.prior_cost),
        )


def linearise(problem: LMProblem, settings: LMSettings, rotation: Tensor, translation: Tensor, c: Tensor) -> Linearised:
    """Normal equations at a pose, for the loss scale ``c`` (B)."""
    turned = problem.object_points @ rotation.mT
    seen, _, pixels, d_point = look(problem.camera, turned + translation[:, None])
    offset = ((pixels - problem.image_points)[..., None, :] * problem.weights).sum(-1)
    residual = torch.where(seen[..., None], offset, unseen_residual(problem.camera, problem.weights))
    d_point = torch.where(seen[..., None, None], problem.weights @ d_point, 0.0)
    jacobian = torch.cat([d_point, -d_point @ so3.hat(turned)], dim=-1)  # (B, N, 2, 6)
    squared = residual.square().sum(-1)
    weighted = robust.weight(settings.kind, squared, c[:, None])[..., None, None] * jacobian
    hessian = torch.einsum("bnri,bnrj->bij", weighted, jacobian)
    gradient = torch.einsum("bnri,bnr->bi", weighted, residual)
    tangent = torch.eye(6).to(hessian).expand_as(hessian)
    prior_cost = torch.zeros_like(c)
    if problem.prior is not None:
        eta, tangent = problem.prior.residual(rotation, translation)
        pull = problem.prior.information * eta
        prior_cost = 0.5 * (pull * eta).sum(-1)
        hessian = tangent.mT @ hessian @ tangent + torch.diag_embed(problem.prior.information)
        gradient = (tangent.mT @ gradient[..., None]).squeeze(-1) + pull
    return Linearised(hessian, gradient, tangent, residual, jacobian, squared, seen, prior_cost)


def visible(camera: Camera, points: Tensor) -> Tensor:
    """(..., N) whether camera-frame points can be projected: in front, or anywhere but behind for a fisheye."""
    norm = points.norm(dim=-1)
    if camera.model == CameraModel.KANNALA_BRANDT:
        return points[..., 2] > -0.999 * norm
    return points[..., 2] > 1e-3 * norm


def look(camera: Camera, points: Tensor, counted: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Camera-frame points (..., N, 3), projected.

    Returns:
        Whether each is seen (..., N), of those ``counted`` (..., N); the points, where they are not seen a stand-in in
        front of the camera, which keeps values finite; their pixels (..., N, 2) and the derivatives (..., N, 2, 3).
    """
    seen = visible(camera, points)
    seen = seen if counted is None else seen & counted
    points = torch.where(seen[..., None], points, points.new_tensor([0.0, 0.0, 1.0]))
    return seen, points, *camera.project_with_jacobian(points)


def unseen_residual(camera: Camera, weights: Tensor) -> Tensor:
    """(..., N, 2) of points that the camera cannot see, in deviations, for weights (..., N, 2, 2)."""
    return BEHIND_PENALTY * camera.intrinsics[..., None, :2] * weights.norm(dim=-2)


def solve_damped(hessian: Tensor, gradient: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
    """Step (B, 6) of the damped normal equations, zero where they are singular, and the smallest pivot (B).

    The matrix is scaled to a unit diagonal first, so that pivots are comparable and metres and radians do not mix.
    """
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    scale = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).rsqrt()
    correlation = hessian * scale[..., :, None] * scale[..., None, :]
    damped = correlation + torch.diag_embed(damping[:, None] * (diagonal > 0).to(hessian))
    factor, info = torch.linalg.cholesky_ex(damped)
    pivot = factor.diagonal(dim1=-2, dim2=-1).square().amin(-1)
    pivot = torch.where((info == 0) & pivot.isfinite(), pivot, torch.zeros_like(pivot))
    good = pivot > 0
    factor = torch.where(good[:, None, None], factor, torch.eye(6, dtype=factor.dtype, device=factor.device))
    step = -torch.cholesky_solve((gradient * scale)[..., None], factor).squeeze(-1) * scale
    return torch.where((good & step.isfinite().all(-1))[:, None], step, torch.zeros_like(step)), pivot


def is_finite(problem: LMProblem) -> Tensor:
    """(B) whether all numbers of a problem are finite; a point without weight may hold anything."""
    points = torch.cat([problem.image_points, problem.object_points, problem.weights.flatten(-2)], dim=-1)
    finite = (points.isfinite().all(-1) | ~problem.used).all(-1)
    finite = finite & problem.rotation.isfinite().all(-1).all(-1) & problem.translation.isfinite().all(-1)
    if problem.prior is not None:
        finite = finite & problem.prior.packed().isfinite().flatten(1).all(-1)
    camera = problem.camera
    return finite & camera.intrinsics.isfinite().all(-1) & camera.distortion.isfinite().all(-1)


def minimise(problem: LMProblem, settings: LMSettings, restart: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The minimum from each problem's pose: rotation, translation and whether the iterations converged, (B, ...).

    An annealed loss that ends with more than half of its bound is, if ``restart`` allows it, also solved without:
    through a Cauchy loss, whose basin is wide, and then with its final scale. Annealing withstands more outliers, a
    fixed loss a worse start; the lower cost is kept.
    """
    found = iterate(problem, settings)
    if not restart or settings.anneal_from <= settings.scale:
        return found
    cost = _cost(problem, settings, *found[:2])
    again = cost > GOOD_COST * settings.scale**2 * problem.used.sum(-1)
    if not bool(again.any()):
        return found
    wide = replace(settings, kind=RobustKind.CAUCHY, anneal_from=settings.scale)
    rotation, translation, _ = iterate(problem, wide)
    fixed = replace(settings, anneal_from=settings.scale)
    other = iterate(replace(problem, rotation=rotation, translation=translation), fixed)
    better = again & (_cost(problem, settings, *other[:2]) < cost)
    return (
        torch.where(better[:, None, None], other[0], found[0]),
        torch.where(better[:, None], other[1], found[1]),
        torch.where(better, other[2], found[2]),
    )


def _cost(problem: LMProblem, settings: LMSettings, rotation: Tensor, translation: Tensor) -> Tensor:
    """(B) robust cost at poses."""
    c = translation.new_full(translation.shape[:1], settings.scale)
    at = linearise(problem, settings, rotation, translation, c)
    return 0.5 * robust.rho(settings.kind, at.squared, c[:, None]).sum(-1) + at.prior_cost


def iterate(problem: LMProblem, settings: LMSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Final rotation, translation and whether the iterations converged, (B, ...)."""
    rotation, translation = problem.rotation, problem.translation
    batch = translation.shape[0]
    eps = torch.finfo(translation.dtype).eps
    # Residuals are differences of numbers of this many standard deviations, which limits what can be resolved.
    whitened = problem.weight_columns * problem.image_points
    resolution = eps * (whitened.square().sum((1, 2)) / max(whitened[0].numel(), 1)).sqrt()
    if problem.prior is not None:
        resolution = resolution + problem.prior.resolution
    tolerance = (settings.tolerance**2) + 8.0 * resolution.square()
    c = translation.new_full((batch,), settings.anneal_from)
    ratio = (settings.scale / settings.anneal_from) ** (1.0 / ANNEAL_STEPS)
    damping = torch.full_like(c, LAMBDA_START)
    done = torch.zeros(batch, dtype=torch.bool, device=c.device)
    current = linearise(problem, settings, rotation, translation, c)
    for _ in range(settings.max_iterations):
        step, _ = solve_damped(current.hessian, current.gradient, damping)
        if problem.prior is None:
            new_rotation, new_translation = so3.exp(step[:, 3:]) @ rotation, translation + step[:, :3]
        else:
            new_rotation, new_translation = problem.prior.step(rotation, translation, step)
        c_next = (c * ratio).clamp_min(settings.scale)
        candidate = linearise(problem, settings, new_rotation, new_translation, c_next)
        old_cost = 0.5 * robust.rho(settings.kind, current.squared, c[:, None]).sum(-1) + current.prior_cost
        new_cost = 0.5 * robust.rho(settings.kind, candidate.squared, c[:, None]).sum(-1) + candidate.prior_cost
        # Near the minimum differences vanish in rounding: a step that changes nothing must not be refused for ever.
        slack = 4.0 * (eps * old_cost + resolution * old_cost.sqrt())
        decrement = -(current.gradient * step).sum(-1) * (1.0 + damping)
        finished = ~done & (c <= settings.scale) & (decrement <= tolerance)
        done = done | finished
        accept = ~done & (new_cost <= old_cost + slack)
        rotation = torch.where(accept[:, None, None], new_rotation, rotation)
        translation = torch.where(accept[:, None], new_translation, translation)
        current = candidate.where(accept, current)
        c = torch.where(accept, c_next, c)
        damping = torch.where(accept, damping * 0.1, damping * 10.0).clamp(LAMBDA_MIN, LAMBDA_MAX)
        if bool(done.all()):
            break
    return rotation, translation, done


def finish(
    problem: LMProblem,
    settings: LMSettings,
    rotation: Tensor,
    translation: Tensor,
    converged: Tensor,
    centroid: Tensor,
    outliers: Outliers | None = None,
) -> LMResult:
    """Covariance, weights, cost and status at the final pose, about the object's origin again.

    With ``outliers`` the covariance knows that one more of the points may be one.
    """
    c = translation.new_full(translation.shape[:1], settings.scale)
    final = linearise(problem, settings, rotation, translation, c)
    zero = torch.zeros_like(c)
    _, pivot = solve_damped(final.hessian, final.gradient, zero)
    used = problem.used
    unseen = (used & ~final.seen).sum(-1)
    allowed = used.sum(-1) // 2 if settings.kind.redescending else torch.zeros_like(unseen)
    inlier_weights = robust.weight(settings.kind, final.squared, c[:, None]) * used
    residuals = rank_2x2(problem.weights).sum(-1)
    told, least = residuals, MIN_PIVOT[c.dtype]
    if problem.prior is not None:
        told, least = residuals + problem.prior.rank, MIN_PIVOT_WITH_PRIOR[c.dtype]
    determined = (pivot > least) & (told >= robust.NUM_PARAMETERS)
    scale = robust.covariance_scale(
        settings.kind, settings.scale, inlier_weights.sum(-1), used.sum(-1).to(c), residuals.to(c)
    )
    hessian = final.hessian
    if problem.prior is not None:  # the scale is of the points' part alone
        hessian = hessian + torch.diag_embed((scale - 1.0)[:, None] * problem.prior.information)
    covariance = _invert(hessian, determined, scale)
    covariance = torch.where(determined[:, None, None], final.tangent @ covariance @ final.tangent.mT, covariance)
    if outliers is not None:
        doubtful = doubt_reference.with_doubt(
            covariance, final.jacobian, final.residual, inlier_weights, scale, outliers
        )
        covariance = torch.where(determined[:, None, None], doubtful, covariance)
    lever = (rotation @ centroid[..., None]).squeeze(-1)
    covariance = _about_origin(covariance, lever)
    determined = determined & is_valid(covariance)
    covariance = torch.where(determined[:, None, None], covariance, UNKNOWN_VARIANCE * torch.eye(6).to(covariance))
    status = torch.where(converged, int(SolveStatus.CONVERGED), int(SolveStatus.MAX_ITERATIONS))
    status = torch.where(determined, status, int(SolveStatus.DEGENERATE))
    status = torch.where(unseen > allowed, int(SolveStatus.BEHIND_CAMERA), status).to(torch.int8)
    cost = 0.5 * robust.rho(settings.kind, final.squared, c[:, None]).sum(-1) + final.prior_cost
    return LMResult(rotation, translation - lever, covariance, inlier_weights, cost, status)


def _about_origin(covariance: Tensor, lever: Tensor) -> Tensor:
    """A covariance (B, 6, 6) of the centroid's pose moved to the origin ``lever`` (B, 3) away.

    From a far origin all that is seen of the centroid's sharp place, or of what a prior knows exactly, is a difference
    of large numbers, whose rounding may leave no covariance: so much is added to the variances.
    """
    shift = torch.eye(6, dtype=lever.dtype, device=lever.device).repeat(len(lever), 1, 1)
    shift[:, :3, 3:] = so3.hat(lever)  # t_c = t + R c, so dt = dt_c - dtheta x (R c)
    moved = shift @ covariance @ shift.mT
    moved = 0.5 * (moved + moved.mT)
    grown = torch.diag_embed(torch.finfo(moved.dtype).eps * moved.diagonal(dim1=-2, dim2=-1))
    result = moved + ROUNDING[0] * grown
    for units in ROUNDING[1:]:
        result = torch.where(is_valid(result)[:, None, None], result, moved + units * grown)
    return result


def _invert(hessian: Tensor, good: Tensor, factor: Tensor) -> Tensor:
    """``factor`` (B) times the inverse (B, 6, 6) where ``good`` (B), else ``UNKNOWN_VARIANCE``."""
    eye = torch.eye(6, dtype=hessian.dtype, device=hessian.device)
    safe = torch.where(good[:, None, None], hessian, eye)
    scale = safe.diagonal(dim1=-2, dim2=-1).rsqrt()
    cholesky = torch.linalg.cholesky(safe * scale[..., :, None] * scale[..., None, :])
    inverse = torch.cholesky_inverse(cholesky) * scale[..., :, None] * scale[..., None, :]
    return torch.where(good[:, None, None], factor[:, None, None] * inverse, UNKNOWN_VARIANCE * eye)


def without_nan(problem: LMProblem, finite: Tensor) -> LMProblem:
    """Problems that are not finite replaced by an empty one: no weight, identity rotation. Unused points are zero."""
    m1, m2 = finite[:, None], finite[:, None, None]
    used = m2 & problem.used[..., None]
    eye = torch.eye(3, dtype=problem.rotation.dtype, device=problem.rotation.device)
    return LMProblem(
        torch.where(used, problem.image_points, 0.0),
        torch.where(used, problem.object_points, 0.0),
        torch.where(used[..., None], problem.weights, 0.0),
        problem.camera,
        torch.where(m2, problem.rotation, eye),
        torch.where(m1, problem.translation, 0.0),
        None if problem.prior is None else problem.prior.where(finite),
    )


def centre(problem: LMProblem) -> tuple[LMProblem, Tensor]:
    """The problem with object points about the centroid (B, 3) of those that have a weight, and that centroid."""
    used = problem.used[..., None].to(problem.object_points)
    centroid = (problem.object_points * used).sum(1) / used.sum(1).clamp_min(1.0)
    lever = (problem.rotation @ centroid[..., None]).squeeze(-1)
    centred = LMProblem(
        problem.image_points,
        problem.object_points - centroid[:, None],
        problem.weights,
        problem.camera,
        problem.rotation,
        problem.translation + lever,
        None if problem.prior is None else replace(problem.prior, origin=-centroid),
    )
    return centred, centroid


def sanitise(result: LMResult, finite: Tensor) -> LMResult:
    """No NaN leaves: a result that is not finite becomes the identity pose with unknown covariance."""
    fine = result.rotation.isfinite().all(-1).all(-1) & result.translation.isfinite().all(-1)
    fine = fine & result.covariance.isfinite().all(-1).all(-1) & result.cost.isfinite()
    fine = fine & result.inlier_weights.isfinite().all(-1)
    status = torch.where(fine, result.status, int(SolveStatus.DEGENERATE))
    status = torch.where(finite, status, int(SolveStatus.NOT_FINITE)).to(torch.int8)
    keep = fine & finite
    m1, m2 = keep[:, None], keep[:, None, None]
    eye3 = torch.eye(3, dtype=result.rotation.dtype, device=result.rotation.device)
    eye6 = torch.eye(6, dtype=result.rotation.dtype, device=result.rotation.device)
    return LMResult(
        torch.where(m2, result.rotation, eye3),
        torch.where(m1, result.translation, 0.0),
        torch.where(m2, result.covariance, UNKNOWN_VARIANCE * eye6),
        torch.where(m1, result.inlier_weights, 0.0),
        torch.where(keep, result.cost, 0.0),
        status,
    )
