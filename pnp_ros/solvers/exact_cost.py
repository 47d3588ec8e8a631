"""The cost of PnP problems, exact to second order: what BPnP's minimum and its gradient are computed from.

Names are those of :mod:`pnp_ros.solvers.bpnp`. All of it is closed form and batched. Per point,
with ``J = d pi / d y``, ``e = W J m`` and ``m = a_t + a_theta x q``:

    c = rho' W^T r                             (pixel gradient of the cost)
    b = J^T c                                  (its pull-back to camera space)
    M = W^T (rho' I + 2 rho'' r r^T) W         (pixel Hessian of the cost)
    P = J^T M J + sum_k c_k (d^2 pi_k / d y^2) (Hessian in camera space)

    H       = sum A^T P A + [0, 0; 0, (b q^T + q b^T) / 2 - (b . q) I],   A = [I, -hat(q)]
    d u     = M J m                   d X = -R^T (P m + b x a_theta)
    d W     = -((2 rho'' (r . e) r + rho' e) (pi - u)^T + rho' r (J m)^T)
    d (cx, cy) = -sum M J m           d (fx, fy) = -sum (M J m o (pi - c) + c o (J m)) / f
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import se3, so3
from pnp_ros.kernels.lm_reference import look, unseen_residual
from pnp_ros.solvers.prior_gradient import PriorTerm
from pnp_ros.solvers.robust_loss import RobustLoss
from pnp_ros.types import Pose

_MAX_STEPS = 30
_SMALL_STEP = 1e-8  # squared deviations: what a last step may be for the expansion at its start to hold
_NOT_STATIONARY = 1e-2  # squared distance from the minimum in standard deviations: such a pose gets no gradient
_SMALLEST_PIVOT = 1e-6  # of the scaled Hessian's Cholesky factor


@dataclass(frozen=True, eq=False)
class Expansion:
    """The cost to second order at a pose; names as in the module's docstring."""

    q: Tensor  # (..., N, 3) m
    y: Tensor  # (..., N, 3) m
    weights: Tensor  # (..., N, 2, 2) 1/px, zero for points that do not count
    pixels: Tensor  # (..., N, 2)
    jacobian: Tensor  # (..., N, 2, 3) px/m
    offset: Tensor  # (..., N, 2) px, pi(y) - u
    residual: Tensor  # (..., N, 2) sigmas, W offset
    rho1: Tensor  # (..., N, 1) rho'
    rho2: Tensor  # (..., N, 1) rho''
    c: Tensor  # (..., N, 2)
    b: Tensor  # (..., N, 3)
    on_point: Tensor  # (..., N, 3, 3): P
    cost: Tensor  # (...)
    gradient: Tensor  # (..., 6)
    hessian: Tensor  # (..., 6, 6)


class ExactCost:
    """One batch of weighted, robust PnP problems, in double precision."""

    def __init__(
        self,
        image_points: Tensor,
        object_points: Tensor,
        weights: Tensor,
        camera: Camera,
        usable: Tensor,
        loss: RobustLoss,
        prior: PriorTerm | None = None,
    ) -> None:
        self.prior = prior
        # Points that do not count, and all of an unusable problem, may hold anything, NaN too.
        self.active = (weights != 0).flatten(-2).any(-1, keepdim=True) & usable[..., None, None]
        self.image_points = image_points
        object_points = torch.where(self.active, object_points, torch.zeros_like(object_points))
        # About the centroid, held constant: translation and rotation are then well separated.
        self.centroid = object_points.sum(-2, keepdim=True) / self.active.sum(-2, keepdim=True).clamp(min=1)
        self.object_points = object_points - self.centroid
        self.weights = torch.where(self.active[..., None], weights, 0.0)
        self.camera = camera
        self.usable = usable
        self.loss = loss

    def to_centroid(self, pose: Pose) -> Pose:
        """The pose of the points about their centroid."""
        return Pose(pose.rotation, pose.transform(self.centroid).squeeze(-2))

    def from_centroid(self, pose: Pose) -> Pose:
        """The inverse of :meth:`to_centroid`."""
        return Pose(pose.rotation, pose.transform(-self.centroid).squeeze(-2))

    def expand(self, pose: Pose) -> Expansion:
        """Cost, gradient and exact Hessian at a pose of the centred points."""
        q = self.object_points @ pose.rotation.mT
        seen, y, pixels, jacobian = look(self.camera, q + pose.translation[..., None, :], self.active.squeeze(-1))
        offset = torch.where(seen[..., None], pixels - self.image_points, 0.0)
        weights = torch.where(seen[..., None, None], self.weights, 0.0)
        residual = _times(weights, offset)
        squared = residual.square().sum(-1)
        unseen = unseen_residual(self.camera, self.weights)  # constant
        cost = 0.5 * self.loss.rho(torch.where(seen, squared, unseen.square().sum(-1))).sum(-1)
        rho1, rho2 = self.loss.weight(squared)[..., None], self.loss.weight_slope(squared)[..., None]
        c = rho1 * _times(weights.mT, residual)
        b = (c[..., None, :] @ jacobian).squeeze(-2)
        white = (weights[..., None] * jacobian[..., None, :, :]).sum(-2)
        slope = residual[..., None, :] @ white  # (..., N, 1, 3)
        bent = rho1[..., None] * white + (2.0 * rho2 * residual)[..., None] * slope
        on_point = white.mT @ bent + _curvature(self.camera, y, c)
        turned = b.mT @ q  # sum b q^T
        gradient = torch.cat([b.sum(-2), 2.0 * so3.vee(turned)], dim=-1)
        hessian = _assemble(q, on_point, turned)
        if self.prior is not None:
            prior_cost, prior_gradient, prior_hessian = self.prior.expand(pose, self.centroid)
            cost, gradient, hessian = cost + prior_cost, gradient + prior_gradient, hessian + prior_hessian
        return Expansion(
            q=q,
            y=y,
            weights=weights,
            pixels=pixels,
            jacobian=jacobian,
            offset=offset,
            residual=residual,
            rho1=rho1,
            rho2=rho2,
            c=c,
            b=b,
            on_point=on_point,
            cost=cost,
            gradient=gradient,
            hessian=hessian,
        )

    def minimise(self, pose: Pose, settled_at: float) -> tuple[Pose, Expansion, Tensor]:
        """Levenberg-Marquardt with the exact Hessian; at once where the pose is a minimum already.

        Poses are of the centred points; a step that promises less than ``settled_at`` is not taken. The last value
        says where (...) the pose is a minimum.
        """
        at = self.expand(pose)
        damping = torch.zeros_like(at.cost)
        done = ~self.usable
        for _ in range(_MAX_STEPS):
            damped = at.hessian + torch.diag_embed(damping[..., None] * at.hessian.diagonal(dim1=-2, dim2=-1).abs())
            step = -_solve(damped, at.gradient)
            decrease = -(step * at.gradient).sum(-1)  # NaN where the Hessian is not positive definite
            settled = decrease < settled_at * (1.0 + at.cost)
            done = done | (settled & (damping < 1.0)) | (damping > 1e8)
            if bool(done.all()):
                break
            step = torch.where((done | decrease.isnan())[..., None], torch.zeros_like(step), step)
            trial_pose = se3.retract(pose, step)
            trial = self.expand(trial_pose)
            better = ~decrease.isnan() & ~done & (trial.cost <= at.cost)
            pose = Pose(
                _select(better, trial_pose.rotation, pose.rotation),
                _select(better, trial_pose.translation, pose.translation),
            )
            at = Expansion(**{name: _select(better, getattr(trial, name), value) for name, value in vars(at).items()})
            damping = torch.where(better, damping / 10.0, (damping * 10.0).clamp(min=1e-3))
            damping = torch.where(damping < 1e-4, torch.zeros_like(damping), damping)
        # The cost cannot tell the last digits; the gradient can. Where the step is small, its expansion still holds.
        last = -_solve(at.hessian, at.gradient)
        distance2 = -(last * at.gradient).sum(-1)  # NaN where the Hessian is not positive definite
        small = self.usable & (distance2 < _SMALL_STEP)
        pose = se3.retract(pose, torch.where(small[..., None], last, 0.0))
        return pose, at, distance2 < _NOT_STATIONARY

    def pull_back(self, pose: Pose, at: Expansion, upstream: Tensor, *, with_distortion: bool) -> list[Tensor | None]:
        """Gradients of ``upstream . delta`` on image points, object points, weights, intrinsics, distortion, prior.

        The pose is of the centred points; three gradients are the prior's.
        """
        rotation = pose.rotation
        lever = (self.centroid @ rotation.mT).squeeze(-2)
        shift = torch.cat([torch.zeros_like(lever), torch.linalg.cross(lever, upstream[..., :3])], dim=-1)
        rhs = torch.stack([upstream - shift, at.gradient], dim=-1)
        direction, newton = _solve(at.hessian, rhs).unbind(-1)
        sound = (newton * at.gradient).sum(-1) < _NOT_STATIONARY  # False for NaN
        direction = torch.where(sound[..., None], direction, torch.zeros_like(direction))

        turn = direction[..., None, 3:]
        m = direction[..., None, :3] + torch.linalg.cross(turn, at.q)
        moved = (at.jacobian @ m[..., None]).squeeze(-1)  # J m
        e = _times(at.weights, moved)
        alpha = 2.0 * at.rho2 * (at.residual * e).sum(-1, keepdim=True) * at.residual + at.rho1 * e
        on_pixels = _times(at.weights.mT, alpha)  # M J m
        on_y = (m[..., None, :] @ at.on_point).squeeze(-2)  # P m
        focal, centre = self.camera.intrinsics[..., None, :2], self.camera.intrinsics[..., None, 2:]
        on_focal = (on_pixels * (at.pixels - centre) + at.c * moved) / focal
        on_distortion = _distortion_gradient(self.camera, at.y, on_pixels, at.c, m) if with_distortion else None
        return [
            on_pixels,
            -((on_y + torch.linalg.cross(at.b, turn.expand_as(at.b))) @ rotation),
            -(alpha[..., None] * at.offset[..., None, :] + (at.rho1 * at.residual)[..., None] * moved[..., None, :]),
            -torch.cat([on_focal, on_pixels], dim=-1).sum(-2),
            on_distortion,
            *([None] * 3 if self.prior is None else self.prior.pull_back(pose, self.centroid, direction)),
        ]


def _assemble(q: Tensor, on_point: Tensor, turned: Tensor) -> Tensor:
    """The Hessian (..., 6, 6) of points q (..., N, 3) with camera-space Hessians P (..., N, 3, 3); turned: sum b q^T.

    ``q`` is summed over the points before it is crossed with anything: three matrix products do the work.
    """
    cross = so3.hat(torch.eye(3).to(q)).mT  # cross[k] = -hat(e_k): (q x p)_k = q cross[k] p
    flat = on_point.flatten(-2)
    first = (q.mT @ flat).unflatten(-1, (3, 3))  # (..., a, j, b): sum q_a P_jb
    squares = (q[..., :, None] * q[..., None, :]).flatten(-2)
    second = (squares.mT @ flat).unflatten(-1, (3, 3)).unflatten(-3, (3, 3))  # (..., c, a, j, b)
    mixed = torch.einsum("kab,...ajb->...jk", cross, first)
    rotation = torch.einsum("icj,kab,...cajb->...ik", cross, cross, second)
    trace = turned.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    rotation = rotation + 0.5 * (turned + turned.mT) - trace * torch.eye(3).to(q)
    top = torch.cat([on_point.sum(-3), mixed], dim=-1)
    return torch.cat([top, torch.cat([mixed.mT, rotation], dim=-1)], dim=-2)


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Products (..., 2) of matrices (..., 2, 2) and vectors (..., 2)."""
    return (matrices * vectors[..., None, :]).sum(-1)


def _select(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(condition.reshape(condition.shape + (1,) * (yes.ndim - condition.ndim)), yes, no)


def _solve(hessian: Tensor, rhs: Tensor) -> Tensor:
    """``hessian^-1 rhs``; NaN where the Hessian is not safely positive definite."""
    vector = rhs.ndim < hessian.ndim
    rhs = rhs[..., None] if vector else rhs
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    scale = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).rsqrt()[..., None]
    factor, info = torch.linalg.cholesky_ex(scale * hessian * scale.mT)
    sound = (info == 0) & (factor.diagonal(dim1=-2, dim2=-1).amin(-1) > _SMALLEST_PIVOT)
    eye = torch.eye(6).to(factor).expand_as(factor)
    solution = scale * torch.cholesky_solve(scale * rhs, torch.where(sound[..., None, None], factor, eye))
    solution = torch.where(sound[..., None, None], solution, torch.full_like(solution, torch.nan))
    return solution.squeeze(-1) if vector else solution


def _curvature(camera: Camera, y: Tensor, c: Tensor) -> Tensor:
    """``sum_k c_k d^2 pi_k / d y^2`` (..., N, 3, 3) at camera points y (..., N, 3), for c (..., N, 2)."""
    if camera.model is CameraModel.PINHOLE:
        depth = y[..., 2:]
        mixed = -c * camera.intrinsics[..., None, :2] / depth.square()
        twice = -2.0 * (mixed * y[..., :2]).sum(-1, keepdim=True) / depth
        last = torch.cat([mixed, twice], dim=-1)
        top = torch.nn.functional.pad(mixed[..., None], (2, 0))
        return torch.cat([top, last[..., None, :]], dim=-2)
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        _, jacobian = camera.project_with_jacobian(y)
        b = (c[..., None, :] @ jacobian).squeeze(-2)
        rows = [torch.autograd.grad(b[..., i].sum(), y, retain_graph=True)[0] for i in range(3)]
    return torch.stack(rows, dim=-2)


def _distortion_gradient(camera: Camera, y: Tensor, on_pixels: Tensor, c: Tensor, m: Tensor) -> Tensor:
    """``-d/dD (on_pixels . pi + c . J m)`` summed over the points, (..., D)."""
    with torch.enable_grad():
        distortion = camera.distortion.detach().expand(*y.shape[:-2], -1).requires_grad_()
        pixels, jacobian = replace(camera, distortion=distortion).project_with_jacobian(y.detach())
        value = (on_pixels * pixels + c * (jacobian @ m[..., None]).squeeze(-1)).sum()
        return -torch.autograd.grad(value, distortion, materialize_grads=True)[0]
