"""Proposals of poses for importance sampling: what EPro-PnP's samples are drawn from.

Orientations by an angular central Gaussian, positions by a t distribution, as in arXiv 2203.13254, here conditional on
the orientation. Volumes are in m^3 rad^3.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

_DEGREES = 3.0  # of freedom of the position's t distribution, as in the paper
_LOG_T = math.lgamma((_DEGREES + 3) / 2) - math.lgamma(_DEGREES / 2) - 1.5 * math.log(_DEGREES * math.pi)
_LOG_ACG = -math.log(2 * math.pi**2) - math.log(4.0)  # area of the 3-sphere; 4 = rad^3 over area, both signs


@dataclass(frozen=True, eq=False)
class Proposals:
    """A proposal for each of B problems and K modes: angular central Gaussian, and t distribution given orientation.

    ``cholesky`` (B, K, 6, 6) is of the covariance of [delta, translation]. ``delta = 2 sign(w) v`` of the quaternion
    (w, v) relative to ``quat`` (B, K, 4) is the rotation vector to first order; it stays below 2, so it has moments
    whatever the spread. Samples are the last dimension of all tensors: (B, K, 4, M), (B, K, 3, M).
    """

    quat: Tensor
    translation: Tensor
    cholesky: Tensor

    @classmethod
    def of_moments(cls, quat: Tensor, translation: Tensor, covariance: Tensor) -> Proposals:
        """From the covariance (B, K, 6, 6) of [delta, translation]."""
        deviation = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        correlation = covariance / (deviation[..., :, None] * deviation[..., None, :])
        jitter = 1e-9 * torch.eye(6, dtype=covariance.dtype, device=covariance.device)
        cholesky = torch.linalg.cholesky_ex(correlation + jitter)[0]
        return cls(quat, translation, deviation[..., None] * cholesky)

    @functools.cached_property
    def _acg_scale(self) -> Tensor:
        """(B, K): the factor from delta's Cholesky factor to that of the angular central Gaussian's vector part.

        Half, as delta is twice the vector, and more for wide spreads, whose scalar parts are shorter: the uniform
        distribution's moments give the uniform distribution.
        """
        trace = self.cholesky[..., :3, :3].square().sum((-2, -1))
        return 0.5 * (1.0 - 0.25 * trace).clamp_min(0.25).rsqrt()

    @functools.cached_property
    def _whitening(self) -> Tensor:
        eye = torch.eye(6, dtype=self.cholesky.dtype, device=self.cholesky.device)
        return torch.linalg.solve_triangular(self.cholesky, eye.expand_as(self.cholesky), upper=False)

    def sample(self, count: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Quaternions (B, K, 4, count) and positions (B, K, 3, count)."""
        device = self.quat.device
        normal = torch.randn(*self.quat.shape[:-1], 10, count, generator=generator, device=device)
        chi2 = normal[..., 7:, :].square().sum(-2, keepdim=True)  # of three degrees of freedom
        student = (normal[..., 4:7, :] * (_DEGREES / chi2).sqrt()).to(self.quat)
        normal = normal[..., :4, :].to(self.quat)
        orientation = self.cholesky[..., :3, :3] * self._acg_scale[..., None, None]
        relative = torch.cat([normal[..., :1, :], orientation @ normal[..., 1:, :]], dim=-2)
        relative = relative.mul_(relative.square().sum(-2, keepdim=True).rsqrt())
        # The position is L_21 (whitened delta) + L_22 (t distributed).
        whitened = self._whitening[..., :3, :3] @ turn_of(relative)
        position = self.cholesky[..., 3:, :] @ torch.cat([whitened, student], dim=-2)
        return right_product(self.quat) @ relative, position + self.translation[..., None]

    def log_density(self, quat: Tensor, translation: Tensor) -> Tensor:
        """Density (B, K, M), per m^3 rad^3, of poses (B, 4, M), (B, 3, M) under each mode's proposal."""
        whitening = self._whitening
        relative = right_product(self.quat).mT @ quat[:, None]
        vector = (whitening[..., :3, :3] / self._acg_scale[..., None, None]) @ relative[..., 1:, :]
        quadratic = vector.square().sum(-2).add_(relative[..., 0, :].square())
        offset = torch.cat([turn_of(relative), translation[:, None] - self.translation[..., None]], dim=-2)
        student = (whitening[..., 3:, :] @ offset).square().sum(-2)
        log_scale = whitening.diagonal(dim1=-2, dim2=-1).log().sum(-1) - 3.0 * self._acg_scale.log()
        # -2 log(quadratic) - 3 log(1 + student / 3), with _DEGREES = 3 and one logarithm
        kernel = quadratic.square_().mul_(student.div_(_DEGREES).add_(1.0).pow_(0.5 * (_DEGREES + 3.0)))
        return (log_scale + _LOG_ACG + _LOG_T)[..., None] - kernel.log_()


@functools.cache
def _product_table(device: torch.device) -> Tensor:
    """(4, 16): the entries of the matrix ``P``, ``P p = p q``, in terms of those of the quaternion ``q``."""
    table = torch.zeros(4, 4, 4, dtype=torch.float64)
    rows = [[(0, 1), (1, -1), (2, -1), (3, -1)], [(1, 1), (0, 1), (3, 1), (2, -1)]]
    rows += [[(2, 1), (3, -1), (0, 1), (1, 1)], [(3, 1), (2, 1), (1, -1), (0, 1)]]
    for i, row in enumerate(rows):
        for j, (entry, sign) in enumerate(row):
            table[entry, i, j] = sign
    return table.flatten(1).to(device)


def right_product(quat: Tensor) -> Tensor:
    """(..., 4, 4): ``P p`` is the quaternion product ``p q``; ``P^T`` is for the conjugate of ``q``."""
    return (quat @ _product_table(quat.device)).unflatten(-1, (4, 4))


def turn_of(relative: Tensor) -> Tensor:
    """``delta`` (..., 3, M) of relative quaternions (..., 4, M)."""
    return relative[..., 1:, :] * torch.where(relative[..., :1, :] < 0, -2.0, 2.0)
