"""EPro-PnP: the posterior over poses by Monte Carlo, differentiable, to train networks that predict correspondences.

After Chen, Wang, Wang, Tian, Xiong, Li, "EPro-PnP: Generalized End-to-End Probabilistic Perspective-n-Points for
Monocular Object Pose Estimation" (CVPR 2022, arXiv 2203.13254; arXiv 2303.12787), with adaptive multiple importance
sampling (Cornuet et al., 2012). The density of a pose is ``exp(-cost) / Z`` with the cost of ``solve_pnp``; volumes are
in m^3 rad^3. What differs from the paper:

- each mode has proposals of its own, so that every mode that is seeded shows in the posterior;
- the position's t distribution is conditional on the orientation, as the two are correlated where points are few;
- samples and densities are handled in float64 relative to a mode, the costs of all points in the input's precision
  (``kernels.posterior_sampler``): float32 input works at any noise level.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.kernels.posterior_sampler import PoseCosts, whitened_rows
from pnp_ros.solvers.pose_proposals import Proposals, right_product, turn_of
from pnp_ros.solvers.posterior_modes import Modes, find_modes, modes_at, point_features
from pnp_ros.solvers.robust_loss import Gaussian, RobustLoss
from pnp_ros.types import Correspondences, Pose
from pnp_ros.types.tensors import Values

_GOOD_SHARE = 0.3  # of effective samples; a Gaussian posterior gives 0.47
_PRIOR_SAMPLES = 32.0  # how many effective samples make their covariance count as much as the last one's
_GAUSSIAN = Gaussian()


@dataclass(frozen=True, eq=False, repr=False)
class PosePosterior(Values):
    """Weighted samples of the posterior over poses.

    Args:
        log_weights: (..., S) log of the unnormalised density over the proposals' density; differentiable.
        log_evidence: (...) log of the integral of ``exp(-cost)`` over all poses (m^3 rad^3); differentiable.
        modes: (..., K, 3, 3), (..., K, 3) the modes that the sampler started at.
        samples: (B, K, 4, S / K) unit quaternions, (B, K, 3, S / K) positions of the points' centroid, and that (B, 3).
    """

    log_weights: Tensor
    log_evidence: Tensor
    modes: Pose
    samples: tuple[Tensor, Tensor, Tensor] = field(repr=False)

    @functools.cached_property
    def poses(self) -> Pose:
        """(..., S, 3, 3), (..., S, 3); constants, gradients flow through the weights."""
        quat, translation, centroid = self.samples  # a training step needs no more of them
        pose = Pose(_rotation_rows(quat).mT.flatten(1, 2).unflatten(-1, (3, 3)), translation.mT.flatten(1, 2))
        pose = _moved(pose, -centroid[:, None])
        shape = self.log_weights.shape
        return Pose(
            pose.rotation.to(self.log_weights.dtype).reshape(*shape, 3, 3),
            pose.translation.to(self.log_weights.dtype).reshape(*shape, 3),
        )

    def numpy(self) -> dict[str, NDArray[np.generic]]:
        """As of every result; the samples as ``poses`` (..., S, 4, 4)."""
        return {**super().numpy(), "poses": self.poses.numpy()}

    @property
    def weights(self) -> Tensor:
        """(..., S) normalised weights, which sum to one; differentiable."""
        return self.log_weights.softmax(dim=-1)

    @property
    def effective_sample_size(self) -> Tensor:
        """(...) from 1 to S: the number of equally weighted samples that would be worth as much."""
        return self.weights.detach().square().sum(-1).reciprocal()

    @property
    def mean(self) -> Pose:
        """(..., 3, 3), (..., 3) the mean pose, in the tangent space of the most likely mode."""
        return self._moments[0]

    @property
    def covariance(self) -> Tensor:
        """(..., 6, 6) of [dt, dtheta] about the mean."""
        return self._moments[1]

    @functools.cached_property
    def _moments(self) -> tuple[Pose, Tensor]:
        with torch.no_grad():
            dtype = self.log_weights.dtype
            weights = self.weights.double()[..., None]
            poses = Pose(self.poses.rotation.double(), self.poses.translation.double())
            best = self.log_weights.argmax(-1)[..., None, None]
            mean = Pose(
                poses.rotation.gather(-3, best[..., None].expand(*best.shape[:-2], 1, 3, 3)),
                poses.translation.gather(-2, best.expand(*best.shape[:-2], 1, 3)),
            )
            for _ in range(2):
                delta = se3.local(mean, poses)
                mean = se3.retract(mean, (weights * delta).sum(-2, keepdim=True))
            delta = se3.local(mean, poses)
            covariance = (weights * delta).mT @ delta
            return Pose(mean.rotation[..., 0, :, :].to(dtype), mean.translation[..., 0, :].to(dtype)), covariance.to(
                dtype
            )


def _rotation_rows(quat: Tensor) -> Tensor:
    """Row-major rotation matrices (..., 9, M) of unit quaternions (..., 4, M)."""
    w, x, y, z = quat.unbind(-2)
    x2, y2, z2 = x + x, y + y, z + z
    xx, yy, zz, xy, xz, yz, wx, wy, wz = x * x2, y * y2, z * z2, x * y2, x * z2, y * z2, w * x2, w * y2, w * z2
    rows = [1.0 - (yy + zz), xy - wz, xz + wy, xy + wz, 1.0 - (xx + zz), yz - wx, xz - wy, yz + wx, 1.0 - (xx + yy)]
    return torch.stack(rows, dim=-2)


class _Sampler:
    """Adaptive multiple importance sampling (algorithm 1 of arXiv 2203.13254), for B problems with K modes each."""

    def __init__(self, rows: Tensor, object_points: Tensor, modes: Modes, loss: RobustLoss) -> None:
        self.rotation, self.translation = modes.pose.rotation, modes.pose.translation
        centre = torch.cat([self.rotation, self.translation[..., None]], dim=-1).flatten(-2)
        self.pose_costs = PoseCosts(rows, object_points, centre, modes.min_depth, loss.kind, loss.scale)
        self.quat = so3.quat_wxyz_from_matrix(self.rotation)
        order = [3, 4, 5, 0, 1, 2]
        self.covariance = modes.covariance[..., order, :][..., order]
        self.mean = torch.zeros_like(self.covariance[..., 0])
        self.proposals = [Proposals.of_moments(self.quat, self.translation, self.covariance)]
        self.drawn = [0]  # from each proposal, for each mode
        batch, self.modes = modes.min_depth.shape
        self.sample_quat = self.quat.new_zeros(batch, self.modes, 4, 0)
        self.sample_translation = self.quat.new_zeros(batch, self.modes, 3, 0)
        self.offsets = rows.new_zeros(batch, self.modes, 12, 0)
        self.costs = rows.new_zeros(batch, self.modes, 0)
        self.densities = [self.costs.double()]  # (B, K, M) log density of all samples under each proposal

    def run(self, count: int, iterations: int, generator: torch.Generator | None) -> None:
        """Draws ``count`` poses for each mode, in rounds as long as the proposals need to be adapted."""
        size = count // iterations
        self._draw(size, generator)
        for left in range(iterations - 1, 0, -1):
            adapted = self._adapt()
            self._draw(size if adapted else left * size, generator)
            if not adapted:
                break

    def _draw(self, count: int, generator: torch.Generator | None) -> None:
        """Draws ``count`` poses from each mode's latest proposal."""
        quat, translation = self.proposals[-1].sample(count, generator)
        turn = _rotation_rows(quat).sub_(self.rotation.flatten(-2)[..., None]).to(self.offsets)
        shift = (translation - self.translation[..., None]).to(self.offsets)
        offsets = torch.cat([turn.unflatten(-2, (3, 3)), shift[..., None, :]], dim=-2).flatten(-3, -2)
        costs = self.pose_costs(offsets)
        self.densities = [
            torch.cat([earlier, self._density(proposal, quat, translation)], dim=-1)
            for earlier, proposal in zip(self.densities, self.proposals)
        ]
        self.drawn[-1] += count
        self.sample_quat = torch.cat([self.sample_quat, quat], dim=-1)
        self.sample_translation = torch.cat([self.sample_translation, translation], dim=-1)
        self.offsets = torch.cat([self.offsets, offsets], dim=-1)
        self.costs = torch.cat([self.costs, costs], dim=-1)

    @staticmethod
    def _density(proposals: Proposals, quat: Tensor, translation: Tensor) -> Tensor:
        """(B, K, M) log density of samples (B, K, 4, M), (B, K, 3, M) under the sum of all modes' proposals."""
        modes = quat.shape[1]
        if modes == 1:
            return proposals.log_density(quat[:, 0], translation[:, 0])
        density = proposals.log_density(quat.transpose(1, 2).flatten(2), translation.transpose(1, 2).flatten(2))
        return density.logsumexp(1).unflatten(1, (modes, -1))

    def log_weights(self, costs: Tensor) -> Tensor:
        """(B, K, M) of the samples drawn so far.

        Deterministic mixture: a sample's density is that of all proposals there have been, of all modes.
        """
        shares = [drawn / (sum(self.drawn) * self.modes) for drawn in self.drawn]
        mixture = [density + math.log(share) for density, share in zip(self.densities, shares)]
        return -torch.stack(mixture).logsumexp(0) - costs

    def _adapt(self) -> bool:
        """Fits the modes' next proposals to their weighted samples; False where none is needed.

        Few effective samples count little beside the last covariance.
        """
        weights = self.log_weights(self.costs).softmax(dim=-1)
        effective = weights.square().sum(-1).reciprocal()
        # A proposal that serves is kept: one fitted to the very samples it weighs takes 5 % off the evidence.
        unfit = effective < _GOOD_SHARE * weights.shape[-1]
        if not unfit.any():
            return False
        trust = (unfit * effective / (effective + _PRIOR_SAMPLES))[..., None]
        delta = turn_of(right_product(self.quat).mT @ self.sample_quat)
        delta = torch.cat([delta, self.sample_translation - self.translation[..., None]], dim=-2)
        mean = (delta @ weights[..., None]).squeeze(-1)
        centred = delta - mean[..., None]
        covariance = (weights[..., None, :] * centred) @ centred.mT
        self.mean = self.mean + trust * (mean - self.mean)
        self.covariance = self.covariance + trust[..., None] * (covariance - self.covariance)
        vector = 0.5 * self.mean[..., :3]
        scalar = (1.0 - vector.square().sum(-1, keepdim=True)).clamp_min(0.0).sqrt()
        turned = (right_product(self.quat) @ torch.cat([scalar, vector], dim=-1)[..., None]).squeeze(-1)
        turned = turned * turned.square().sum(-1, keepdim=True).rsqrt()
        translation = self.translation + self.mean[..., 3:]
        proposal = Proposals.of_moments(turned, translation, self.covariance)
        self.proposals.append(proposal)
        self.drawn.append(0)
        self.densities.append(self._density(proposal, self.sample_quat, self.sample_translation))
        return True


def sample_posterior(
    correspondences: Correspondences,
    camera: Camera,
    *,
    modes: Pose | None = None,
    num_samples: int = 512,
    iterations: int = 4,
    loss: RobustLoss = _GAUSSIAN,
    max_modes: int = 4,
    generator: torch.Generator | None = None,
) -> PosePosterior:
    """Samples the posterior over poses (arXiv 2203.13254, section 3.3); gradients flow through the weights.

    Args:
        correspondences: (..., N, 2) px, (..., N, 3) m, (..., N, 2) or (..., N, 2, 2) 1/px; gradients flow to all three.
        camera: of any model; it follows the correspondences' dtype and device. Distortion is linearised about the image
            points.
        modes: poses (..., 3, 3), (..., 3), or several, (..., K, 3, 3), (..., K, 3), to start at: the solution of
            ``solve_pnp``, or in training the true pose. Levenberg-Marquardt goes to the nearest minimum first. None
            searches for the minima from random orientations.
        num_samples: S, over all modes and iterations: a multiple of both.
        iterations: of adaptation.
        loss: robust loss.
        max_modes: K, if ``modes`` is None.
        generator: the source of randomness, on the correspondences' device.

    Raises:
        ValueError: if ``num_samples`` is not a multiple of iterations times modes, or a shape does not fit.
    """
    batch, flat, flat_camera = flattened(correspondences, camera)
    if batch.numel() == 0:
        return _no_posteriors(
            batch, flat, 1 if modes is None else _flat_modes(modes, batch).translation.shape[1], num_samples
        )
    centroid = _centroid(flat)
    flat = replace(flat, object_points=flat.object_points - centroid[:, None].to(flat.object_points))
    rows = whitened_rows(flat, flat_camera)
    with torch.no_grad():
        features = point_features(rows, flat.object_points)
        if modes is None:
            found = find_modes(features, flat, flat_camera, loss, max_modes, generator)
        else:
            start = _moved(_flat_modes(modes, batch), centroid[:, None])
            found = modes_at(features, flat, flat_camera, start, loss)
        count = found.cost.shape[1]
        if iterations < 1 or num_samples < 1 or num_samples % (iterations * count) != 0:
            raise ValueError(
                f"num_samples: expected a multiple of iterations x modes = {iterations} x {count}, got {num_samples}"
            )
        sampler = _Sampler(rows, flat.object_points, found, loss)
        sampler.run(num_samples // count, iterations, generator)
    log_weights = sampler.log_weights(sampler.pose_costs.differentiable(sampler.offsets, sampler.costs)).flatten(1)
    log_evidence = log_weights.logsumexp(-1) - math.log(num_samples)

    modes = _moved(found.pose, -centroid[:, None])
    samples = sampler.sample_quat, sampler.sample_translation, centroid

    def shaped(tensor: Tensor) -> Tensor:
        return tensor.to(rows.dtype).reshape((*batch, *tensor.shape[1:]))

    modes = Pose(shaped(modes.rotation), shaped(modes.translation))
    return PosePosterior(shaped(log_weights), shaped(log_evidence), modes, samples)


def flattened(correspondences: Correspondences, camera: Camera) -> tuple[torch.Size, Correspondences, Camera]:
    """The batch's shape, to which all fields are broadcast, and all with one batch dimension, harmless."""
    points, weights = correspondences.image_points, correspondences.weights
    camera = camera.to(points.device, points.dtype)
    fields = [points, correspondences.object_points, weights, camera.intrinsics, camera.distortion]
    tails = [2, 2, 3 if correspondences.has_matrices else 2, 1, 1]
    shapes = [field.shape[:-tail] for field, tail in zip(fields, tails)]
    try:
        batch = torch.Size(np.broadcast_shapes(*shapes))  # torch's own draws in sympy: half a second
    except ValueError as error:
        names = "image_points", "object_points", "weights", "camera.intrinsics", "camera.distortion"
        told = ", ".join(f"{name} {tuple(field.shape)}" for name, field in zip(names, fields))
        raise ValueError(f"batch dimensions do not agree: {told}") from error

    def flat(field: Tensor, tail: int) -> Tensor:
        shape = field.shape[-tail:]
        return field.expand(*batch, *shape).reshape(batch.numel(), *shape)

    *data, intrinsics, distortion = (flat(field, tail) for field, tail in zip(fields, tails))
    if any(shapes[3:]):
        camera = replace(camera, intrinsics=intrinsics, distortion=distortion)
    return batch, Correspondences(*data).harmless, camera


def _no_posteriors(batch: torch.Size, flat: Correspondences, count: int, samples: int) -> PosePosterior:
    """Those of a batch without problems."""
    log_weights = flat.image_points.new_zeros(*batch, samples) + flat.image_points.sum()  # empty, but with a gradient
    modes = Pose(log_weights.new_zeros(*batch, count, 3, 3), log_weights.new_zeros(*batch, count, 3))
    like = log_weights.detach().double()
    quat, translation = (like.new_zeros(0, count, size, samples // count) for size in (4, 3))
    return PosePosterior(log_weights, log_weights.sum(-1), modes, (quat, translation, like.new_zeros(0, 3)))


def _flat_modes(modes: Pose, batch: torch.Size) -> Pose:
    if modes.translation.shape[:-1] == batch:
        modes = Pose(modes.rotation.unsqueeze(-3), modes.translation.unsqueeze(-2))
    if modes.translation.shape[:-2] != batch:
        shape = tuple(modes.translation.shape[:-1])
        raise ValueError(f"modes: expected batch shape {tuple(batch)}, or {tuple(batch)} and K, got {shape}")
    count = modes.translation.shape[-2]
    rotation, translation = modes.rotation.detach(), modes.translation.detach()
    return Pose(rotation.reshape(batch.numel(), count, 3, 3), translation.reshape(batch.numel(), count, 3))


def _centroid(correspondences: Correspondences) -> Tensor:
    """(B, 3) of the weighted object points: about it, position and orientation are least correlated."""
    with torch.no_grad():
        weights = correspondences.axis_weights.double().square().sum(-1, keepdim=True)
        points = correspondences.object_points.double()
        return (weights * points).sum(-2) / weights.sum(-2).clamp_min(1e-30)


def _moved(pose: Pose, origin: Tensor) -> Pose:
    """The pose of an object frame whose origin lies at ``origin`` (..., 3) of this one."""
    rotation = pose.rotation
    shift = (rotation @ origin.to(rotation)[..., None]).squeeze(-1)
    return Pose(rotation, pose.translation + shift)
