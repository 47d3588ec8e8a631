"""The poses that correspondences leave open: the modes of the EPro-PnP posterior, with their probabilities.

A flat object seen from afar has two (its reversal fits nearly as well: Oberkampf, DeMenthon, Davis, "Iterative pose
estimation using coplanar feature points", 1996, section 3; Schweighofer and Pinz, "Robust pose estimation from a planar
target", 2006), few points or many outliers have others. Each sample of the posterior (arXiv 2203.13254) belongs to
the mode that is nearest to it; a mode's probability is the weight of its samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3
from pnp_ros.solvers import levenberg_marquardt
from pnp_ros.solvers.epropnp import PosePosterior, sample_posterior
from pnp_ros.solvers.robust_loss import RobustLoss
from pnp_ros.types import Correspondences, Pose
from pnp_ros.types.tensors import Values

SAMPLES, ROUNDS = 128, 2  # of the posterior: for each mode; and rounds of adaptation
_NEGLIGIBLE = 15.0  # a mode whose cost exceeds the lowest by this much has no probability to speak of
_SAME = 16.0  # squared Mahalanobis distance under which two minima are one mode
_FEWEST = 20.0  # effective samples from which they tell the covariance


@dataclass(frozen=True, eq=False, repr=False)
class PoseHypotheses(Values):
    """K poses of which one is right, the likeliest first.

    Args:
        pose: (K, 3, 3), (K, 3).
        covariance: (K, 6, 6) of each about its own pose.
        probability: (K,), summing to one.
    """

    pose: Pose
    covariance: Tensor
    probability: Tensor

    def __len__(self) -> int:
        return len(self.probability)


def pose_hypotheses(
    correspondences: Correspondences,
    camera: Camera,
    starts: Pose | None,
    loss: RobustLoss,
    generator: torch.Generator | None = None,
) -> PoseHypotheses:
    """The modes of the posterior of one problem.

    Args:
        correspondences: (N, 2) px, (N, 3) m, weights 1/px.
        camera: intrinsics (4,).
        starts: (K, 3, 3), (K, 3) where modes may be; None looks for up to four from random orientations.
        loss: robust loss.
        generator: the source of randomness.
    """
    if starts is None:
        modes = sample_posterior(correspondences, camera, num_samples=8, iterations=1, loss=loss, generator=generator)
        starts = modes.modes
    count = len(starts.translation)
    like = correspondences.image_points
    repeated = Correspondences(
        *(_repeated(v, count) for v in (like, correspondences.object_points, correspondences.weights))
    )
    found = levenberg_marquardt.refine(
        repeated, camera, starts.to(like.device, like.dtype), loss, anneal=False, accept=False
    )
    kept = _distinct(found.pose, found.covariance.double(), found.cost.double().nan_to_num(nan=torch.inf))
    pose, covariance = found.pose[kept], found.covariance[kept].double()
    if len(kept) == 1:
        return PoseHypotheses(pose, covariance.to(like), like.new_ones(1))
    posterior = sample_posterior(
        correspondences,
        camera,
        modes=pose,
        num_samples=SAMPLES * len(kept),
        iterations=ROUNDS,
        loss=loss,
        generator=generator,
    )
    return _shares(posterior, pose, covariance)


class Plane(NamedTuple):
    """Of a body's points: ``centre`` (3,) in metres, and unit ``normal`` (3,), in the object's frame."""

    centre: Tensor
    normal: Tensor


def plane_of(points: Tensor) -> Plane:
    """The plane of points (N, 3) in metres: their least principal axis stands for its normal."""
    centre = points.mean(-2)
    return Plane(centre, torch.linalg.eigh((points - centre).mT @ (points - centre)).eigenvectors[..., 0])


def reversal(points: Tensor, pose: Pose) -> Pose:
    """The pose of a flat body that looks the same from afar: mirrored at the image plane, and in its own plane.

    Args:
        points: (N, 3) of the body, as far as it is seen.
        pose: ``T_camera_object``.
    """
    return mirrored(plane_of(points), pose)


def mirrored(plane: Plane, pose: Pose) -> Pose:
    """As :func:`reversal`, of a body whose plane is known."""
    centre, normal = plane
    seen = pose.rotation @ centre + pose.translation
    ray = seen / seen.norm()
    rotation = _mirror(ray) @ pose.rotation @ _mirror(normal)
    return Pose(rotation, seen - rotation @ centre)


def angle_to_reversal(plane: Plane, pose: Pose) -> float:
    """Between a pose and its reversal, rad: twice that between the plane's normal and the line of sight."""
    rotation, translation, centre, normal = (v.numpy() for v in (*vars(pose).values(), *plane))
    seen = rotation @ centre + translation
    cosine = abs(float(seen @ (rotation @ normal))) / math.sqrt(float(seen @ seen))
    return 2.0 * math.acos(min(cosine, 1.0))


def _mirror(axis: Tensor) -> Tensor:
    return torch.eye(3).to(axis) - 2.0 * axis[:, None] * axis


def _repeated(values: Tensor, count: int) -> Tensor:
    return values.expand(count, *values.shape)


def _distinct(pose: Pose, covariance: Tensor, cost: Tensor) -> Tensor:
    """Indices of the minima that differ and matter, by falling likelihood."""
    free = cost <= cost.min() + _NEGLIGIBLE
    free[cost.argmin()] = True
    chosen: list[int] = []
    while bool(free.any()):
        best = int(torch.where(free, cost, torch.inf).argmin())
        chosen.append(best)
        free[best] = False
        if not bool(free.any()):
            break
        delta = se3.local(Pose(pose.rotation[best], pose.translation[best]), pose).double()
        free &= _mahalanobis(delta, covariance[best]) > _SAME
    return torch.tensor(chosen, device=cost.device)


def _mahalanobis(delta: Tensor, covariance: Tensor) -> Tensor:
    """(...) squared, of (..., 6)."""
    factor = torch.linalg.cholesky_ex(covariance)[0]
    return torch.linalg.solve_triangular(factor, delta[..., None], upper=False).squeeze(-1).square().sum(-1)


def _shares(posterior: PosePosterior, pose: Pose, covariance: Tensor) -> PoseHypotheses:
    """What of the posterior belongs to each mode."""
    samples, weights = posterior.poses, posterior.weights.double()
    delta = torch.stack(
        [se3.local(Pose(pose.rotation[k], pose.translation[k]), samples) for k in range(len(covariance))]
    ).double()  # (K, S, 6)
    owner = _mahalanobis(delta, covariance[:, None]).argmin(0)
    mine = torch.where(owner == torch.arange(len(covariance), device=owner.device)[:, None], weights, 0.0)  # (K, S)
    probability = mine.sum(-1)
    share = mine / probability.clamp_min(1e-300)[:, None]
    second = (share[..., None] * delta).mT @ delta
    effective = share.square().sum(-1).clamp_min(1e-12).reciprocal()
    covariance = torch.where((effective >= _FEWEST)[:, None, None], second, covariance)
    order = probability.argsort(descending=True)
    like = posterior.log_weights
    return PoseHypotheses(pose[order], covariance[order].to(like), probability[order].to(like))
