"""Losses through the pose: what the correspondences of a crop are worth for PnP.

``epropnp``: the Kullback-Leibler divergence of the posterior by Monte Carlo, with derivative regularisation (arXiv
2203.13254); ``lincov``: the linear-covariance loss (arXiv 2303.11516); ``both``: their sum. They stand beside the
network's own loss (``heatmap``), from the share of the budget on at which its predictions are good enough.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pnp_ros.cameras.camera import Camera
from pnp_ros.solvers.epropnp import sample_posterior
from pnp_ros.solvers.epropnp_losses import MonteCarloPoseLoss, derivative_regularisation
from pnp_ros.solvers.linear_covariance import expected_distance, linear_covariance
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.types import Correspondences, Pose

Loss = Literal["heatmap", "epropnp", "lincov", "both"]
LOSSES = get_args(Loss)
_ROBUST = Cauchy(2.0)  # as the estimator solves
_SAMPLES = 256
_DIVERGENCE_WEIGHT, _DERIVATIVE_WEIGHT, _COVARIANCE_WEIGHT = 0.03, 0.1, 0.2
_LEAST_WEIGHT = 0.2  # 1 / crop pixel; the divergence counts no more where weights are smaller
_FARTHEST = 100.0  # tenths of the object's size that a step may lead away from the true pose
_NEAR = 0.05  # of the object's size: distances beyond it count as their logarithms


class PoseLoss(nn.Module):
    """The loss of one kind.

    Args:
        kind: one of :data:`LOSSES`; ``heatmap`` is none.
        points: (K, 3) of the object, metres, on which distances are measured.
        seed: of the samples.
        together: the weights of many points count together, as a dense network's. One by one they may be worth so
            little that ``solve_pnp`` believes no pose: the posterior's mode stands in for its solution.
    """

    points: Tensor

    def __init__(self, kind: Loss, points: Tensor, seed: int = 0, together: bool = False) -> None:
        super().__init__()
        if kind not in LOSSES:
            raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, got {kind!r}")
        self.kind, self._together = kind, together
        self._size = float(torch.pdist(points).max())
        self._divergence = MonteCarloPoseLoss(floor=_LEAST_WEIGHT)
        self._seed = seed
        self._generator: torch.Generator | None = None
        self.register_buffer("points", points)

    @property
    def teaches_weights(self) -> bool:
        """Whether it says how large the weights should be, and not only how they compare."""
        return self.kind in ("epropnp", "both")

    def forward(
        self, correspondences: Correspondences, camera: Camera, target: Pose
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar loss of B crops and figures to show (scalars, detached).

        Args:
            correspondences: (B, N) of the crops, differentiable.
            camera: of the crops.
            target: (B,) true poses.
        """
        loss = correspondences.image_points.new_zeros(())
        figures: dict[str, Tensor] = {}
        if len(correspondences.image_points) == 0:
            return loss, figures
        with torch.autocast(loss.device.type, enabled=False):  # a pose is no matter of eight bits
            if self.teaches_weights:
                term = self._epropnp(correspondences, camera, target)
                loss, figures = loss + term, figures | {"epropnp": term.detach()}
            if self.kind in ("lincov", "both"):
                term = self._lincov(correspondences, camera, target)
                loss, figures = loss + term, figures | {"lincov": term.detach()}
        return loss, figures

    def _epropnp(self, correspondences: Correspondences, camera: Camera, target: Pose) -> Tensor:
        if self._generator is None:
            self._generator = torch.Generator(correspondences.image_points.device).manual_seed(self._seed)
        posterior = sample_posterior(
            correspondences, camera, modes=target, num_samples=_SAMPLES, loss=_ROBUST, generator=self._generator
        )
        divergence = self._divergence(posterior.log_evidence, correspondences, camera, target, loss=_ROBUST)
        if self._together:
            solution = Pose(posterior.modes.rotation[:, 0], posterior.modes.translation[:, 0])
        else:
            found = solve_pnp(_detached(correspondences), camera, init=target, loss=_ROBUST)
            solution = found.pose
        position, orientation = derivative_regularisation(
            correspondences, camera, solution, target, position_scale=0.1 * self._size, loss=_ROBUST
        )
        # A step that leads farther than that comes of no pose.
        counts = position < _FARTHEST if self._together else found.usable
        sharpness = torch.where(counts, position + orientation, torch.zeros_like(position)).mean()
        return _DIVERGENCE_WEIGHT * divergence + _DERIVATIVE_WEIGHT * sharpness

    def _lincov(self, correspondences: Correspondences, camera: Camera, target: Pose) -> Tensor:
        distance = expected_distance(linear_covariance(correspondences, camera, target), target, self.points)
        return _COVARIANCE_WEIGHT * torch.log1p((distance / (_NEAR * self._size)).square()).mean()


def _detached(points: Correspondences) -> Correspondences:
    return Correspondences(points.image_points.detach(), points.object_points.detach(), points.weights.detach())
