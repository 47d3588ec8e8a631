"""Bundle adjustment: points and the poses of the views that saw them, refined together, and the points' covariance.

Triggs, McLauchlan, Hartley, Fitzgibbon, "Bundle adjustment - a modern synthesis" (2000). Robust Levenberg-Marquardt
with the Schur complement. Images leave seven degrees of freedom open (the gauge): where the object's frame lies, and
its size. Covariances are given for the frame that the points themselves define (inner constraints, section 9), with
the size fixed by the points as a whole or by one known distance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.multiview import schur
from pnp_ros.solvers.robust_loss import RobustLoss
from pnp_ros.types import Pose
from pnp_ros.types.tensors import Values


@dataclass(frozen=True, eq=False, repr=False)
class Structure(Values):
    """Points (M, 3) m in the object frame, and the pose ``T_camera_object`` of each of V views."""

    points: Tensor
    poses: Pose

    def moved(self, poses: Tensor, points: Tensor) -> Structure:
        """With poses moved by deltas (V, 6) and points by (M, 3)."""
        return Structure(self.points + points, se3.retract(self.poses, poses))

    def scaled(self, factor: float) -> Structure:
        """All lengths multiplied."""
        return Structure(factor * self.points, Pose(self.poses.rotation, factor * self.poses.translation))

    def about(self, origin: Tensor) -> Structure:
        """With the object frame's origin moved to a point (3)."""
        return Structure(self.points - origin, Pose(self.poses.rotation, self.poses.transform(origin[None])[:, 0]))


def whitened_residuals(image_points: Tensor, weights: Tensor, camera: Camera, structure: Structure) -> Tensor:
    """Projected minus measured image points (V, M, 2) in standard deviations; zero where a weight is zero."""
    pixels = camera.project(structure.poses.transform(structure.points))
    return torch.where(weights > 0, weights * (pixels - image_points), torch.zeros_like(pixels))


def adjust(
    image_points: Tensor,
    weights: Tensor,
    camera: Camera,
    start: Structure,
    loss: RobustLoss,
    max_iterations: int = 100,
) -> tuple[Structure, schur.NormalEquations, bool]:
    """The structure of lowest robust reprojection error near ``start``, in float64.

    Args:
        image_points: (V, M, 2) px; any value where the weight is zero.
        weights: (V, M, 2) inverse standard deviations, 1/px; zero where a view does not see a point.
        camera: of all views.
        start: initial points and poses; every point should be seen twice, every view see three points.
        loss: robust loss of a whitened image point.
        max_iterations: steps tried.

    Returns:
        The structure, the normal equations there (poses first, points second), and whether it converged.
    """
    return schur.minimise(
        start, _linearise(image_points, weights, camera, loss), lambda s, a, b: s.moved(a, b), max_iterations
    )


def _linearise(
    image_points: Tensor, weights: Tensor, camera: Camera, loss: RobustLoss
) -> Callable[[Structure], schur.NormalEquations]:
    def at(structure: Structure) -> schur.NormalEquations:
        poses = structure.poses
        points = poses.transform(structure.points)
        _, by_point = camera.project_with_jacobian(points)
        by_pose, by_structure = _derivatives(weights[..., None] * by_point, points, poses)
        residual = whitened_residuals(image_points, weights, camera, structure)
        squared = residual.square().sum(-1)
        return schur.NormalEquations.of(
            by_first=by_pose,
            by_second=by_structure,
            residual=residual,
            weight=loss.weight(squared),
            cost=0.5 * loss.rho(squared).sum(),
        )

    return at


def _derivatives(by_point: Tensor, points: Tensor, poses: Pose) -> tuple[Tensor, Tensor]:
    """By poses (V, M, 2, 6) and object points (V, M, 2, 3), of those by points (V, M, 3) in the camera's frame."""
    turned = points - poses.translation[:, None]
    return torch.cat([by_point, -by_point @ so3.hat(turned)], dim=-1), by_point @ poses.rotation[:, None]


def points_covariance(
    equations: schur.NormalEquations,
    points: Tensor,
    known_distance: tuple[int, int] | None = None,
) -> Tensor:
    """Covariance (M, 3, 3) m^2 of each point, in the gauge of the module's docstring; infinite where more is open.

    Args:
        equations: of :func:`adjust`, at its minimum, with a Gaussian loss on inliers alone.
        points: (M, 3) there.
        known_distance: two points whose distance is given and sets the size; None lets all points set it.
    """
    swapped = equations.swapped()
    information = swapped.reduced(torch.linalg.inv(swapped.second))
    free = gauge_freedom(points)
    constraint = free.clone()
    if known_distance is not None:
        a, b = known_distance
        constraint[:, 6] = 0.0
        constraint.view(-1, 3, 7)[a, :, 6] = points[a] - points[b]
        constraint.view(-1, 3, 7)[b, :, 6] = points[b] - points[a]
    # Any generalised inverse, then the projection along the gauge onto the constraints (S-transform, Baarda 1973).
    typical = information.diagonal().mean()
    factor, loose = torch.linalg.cholesky_ex(information + typical * free @ free.mT)
    if int(loose):
        return torch.full((len(points), 3, 3), torch.inf).to(points)
    inverse = torch.cholesky_inverse(factor)
    project = torch.eye(len(free)).to(free) - free @ torch.linalg.solve(constraint.mT @ free, constraint.mT)
    covariance = project @ inverse @ project.mT
    blocks = covariance.unflatten(0, (-1, 3)).unflatten(-1, (-1, 3))
    return blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1)


def focal_length_error(
    image_points: Tensor, weights: Tensor, camera: Camera, structure: Structure
) -> tuple[float, float]:
    """By which factor the focal length that fits best differs from the camera's, as a logarithm, and its deviation.

    One Gauss-Newton step of the focal length together with all points and poses. At the minimum without it only its own
    gradient is left, so that the step is minus that gradient over its information, less what points and poses take up.

    Args:
        image_points, weights, camera: as of :func:`adjust`.
        structure: the minimum that it found, with a Gaussian loss.
    """
    poses = structure.poses
    points = poses.transform(structure.points)
    pixels, by_point = camera.project_with_jacobian(points)
    by_focal = torch.where(weights > 0, weights * (pixels - camera.intrinsics[..., 2:]), 0.0)
    by_pose, by_structure = _derivatives(weights[..., None] * by_point, points, poses)
    residual = whitened_residuals(image_points, weights, camera, structure)
    one, cost = torch.ones_like(residual[..., 0]), residual.new_zeros(())
    # the residual's place takes the derivative by the focal length: its gradients are what poses and points take up
    equations = schur.NormalEquations.of(
        by_structure.transpose(0, 1), by_pose.transpose(0, 1), by_focal.transpose(0, 1), one.mT, cost
    )
    inverse = torch.linalg.inv(equations.second)
    reduced = equations.reduced(inverse)
    by_poses = torch.einsum("vkl,vl->vk", inverse, equations.second_gradient)
    left = (equations.first_gradient - torch.einsum("mvkl,vl->mk", equations.coupling, by_poses)).flatten()
    free = gauge_freedom(structure.points)
    held = reduced + reduced.diagonal().mean() * free @ free.mT  # the gradient has no part along the gauge
    taken = left @ torch.linalg.solve(held, left) + (equations.second_gradient * by_poses).sum()
    information = max(float(by_focal.square().sum() - taken), 1e-30)
    return -float((by_focal * residual).sum()) / information, information**-0.5


def gauge_freedom(points: Tensor) -> Tensor:
    """Orthonormal basis (3 M, 7) of the motions of points (M, 3) that no image shows; the last one is the size."""
    centred = points - points.mean(0)
    shifts = torch.eye(3).to(points).repeat(len(points), 1, 1)
    motions = torch.cat([shifts, so3.hat(centred), centred[..., None]], dim=-1).flatten(0, 1)
    basis, _ = torch.linalg.qr(motions)
    return basis


def similarity(points: Tensor, reference: Tensor) -> tuple[float, Tensor, Tensor]:
    """Scale, rotation (3, 3) and translation (3) that map points (M, 3) nearest to their reference (M, 3).

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns" (PAMI 1991).
    """
    mean, reference_mean = points.mean(0), reference.mean(0)
    centred = points - mean
    u, singular, vt = torch.linalg.svd((reference - reference_mean).mT @ centred)
    sign = torch.ones(3).to(points)
    sign[2] = torch.linalg.det(u @ vt).sign()
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / centred.square().sum())
    return scale, rotation, reference_mean - scale * rotation @ mean
