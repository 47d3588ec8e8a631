"""Least squares over two kinds of unknowns that only meet in the observations: poses and points, lens and poses.

The normal equations then consist of small blocks, ``[[U, W], [W^T, V]]`` with block-diagonal ``U`` and ``V``.
Eliminating the second kind leaves the reduced system ``U - W V^-1 W^T`` (Schur complement; Triggs, McLauchlan,
Hartley, Fitzgibbon, "Bundle adjustment - a modern synthesis", 2000, section 6.1). ``W`` is stored dense: meant for up
to about a million pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

State = TypeVar("State")

_DAMPING_START, _DAMPING_MAX = 1e-4, 1e10
_TOLERANCE = 1e-9  # decrease that a step still promises, over the cost


@dataclass(frozen=True, eq=False)
class NormalEquations:
    """Gauss-Newton's normal equations at a state, in double precision.

    Args:
        first: (A, K, K) Hessian blocks ``U`` of the first kind.
        second: (B, L, L) Hessian blocks ``V`` of the second kind.
        coupling: (A, B, K, L) ``W``.
        first_gradient: (A, K).
        second_gradient: (B, L).
        cost: () robust cost.
    """

    first: Tensor
    second: Tensor
    coupling: Tensor
    first_gradient: Tensor
    second_gradient: Tensor
    cost: Tensor

    @classmethod
    def of(cls, by_first: Tensor, by_second: Tensor, residual: Tensor, weight: Tensor, cost: Tensor) -> NormalEquations:
        """From the whitened residuals (A, B, ..., R), their Jacobians and robust weights (A, B, ...).

        Args:
            by_first: (A, B, ..., R, K) derivatives with respect to the first kind.
            by_second: (A, B, ..., R, L) derivatives with respect to the second kind.
            residual: (A, B, ..., R).
            weight: (A, B, ...) of iteratively reweighted least squares.
            cost: ().
        """
        scale = weight[..., None].sqrt()
        left, right, r = (
            x.flatten(2, -2)
            for x in (scale[..., None] * by_first, scale[..., None] * by_second, (scale * residual)[..., None])
        )
        return cls(
            first=torch.einsum("abrk,abrl->akl", left, left),
            second=torch.einsum("abrk,abrl->bkl", right, right),
            coupling=left.mT @ right,
            first_gradient=torch.einsum("abrk,abrx->ak", left, r),
            second_gradient=torch.einsum("abrk,abrx->bk", right, r),
            cost=cost,
        )

    def swapped(self) -> NormalEquations:
        """The same system with the kinds exchanged: what to eliminate is a matter of size."""
        coupling = self.coupling.permute(1, 0, 3, 2)
        return NormalEquations(self.second, self.first, coupling, self.second_gradient, self.first_gradient, self.cost)

    def reduced(self, second_inverse: Tensor) -> Tensor:
        """(A K, A K) Schur complement of the second kind."""
        a, _, k, _ = self.coupling.shape
        flat = self.coupling.permute(0, 2, 1, 3).reshape(a * k, -1)
        weighted = (self.coupling @ second_inverse).permute(0, 2, 1, 3).reshape(a * k, -1)
        return torch.block_diag(*self.first) - weighted @ flat.mT

    def step(self, damping: float) -> tuple[Tensor, Tensor]:
        """Marquardt's step (A, K), (B, L); NaN where the damped system is singular."""
        damped = NormalEquations(
            _damp(self.first, damping),
            _damp(self.second, damping),
            self.coupling,
            self.first_gradient,
            self.second_gradient,
            self.cost,
        )
        inverse, _ = torch.linalg.inv_ex(damped.second)
        shift = torch.einsum("abkl,blm,bm->ak", self.coupling, inverse, self.second_gradient)
        factor, info = torch.linalg.cholesky_ex(damped.reduced(inverse))
        rhs = (shift - self.first_gradient).reshape(-1, 1)
        first = torch.cholesky_solve(rhs, factor).reshape_as(self.first_gradient)
        first = torch.where(info == 0, first, torch.full_like(first, torch.nan))
        pulled = self.second_gradient + torch.einsum("abkl,ak->bl", self.coupling, first)
        return first, -(inverse @ pulled[..., None]).squeeze(-1)


def _damp(blocks: Tensor, damping: float) -> Tensor:
    diagonal = blocks.diagonal(dim1=-2, dim2=-1)
    floor = 1e-12 * diagonal.amax().clamp(min=1e-12)  # a parameter that nothing observes stays put
    return blocks + torch.diag_embed(damping * diagonal + floor)


def minimise(
    state: State,
    linearise: Callable[[State], NormalEquations],
    retract: Callable[[State, Tensor, Tensor], State],
    max_iterations: int = 100,
    negligible: float = 1e-16,
) -> tuple[State, NormalEquations, bool]:
    """Levenberg-Marquardt (Marquardt, 1963).

    Args:
        state: where to start.
        linearise: normal equations at a state.
        retract: the state moved by steps (A, K), (B, L) of the two kinds.
        max_iterations: steps tried, accepted or not.
        negligible: a step that promises to lower the cost by less than this is not taken, however small the cost is.

    Returns:
        The minimum, the normal equations there, and whether the iterations converged.
    """
    at = linearise(state)
    damping = _DAMPING_START
    for _ in range(max_iterations):
        first, second = at.step(damping)
        predicted = -((first * at.first_gradient).sum() + (second * at.second_gradient).sum()).item()
        if predicted < max(_TOLERANCE * float(at.cost), negligible):
            return state, at, True
        trial = retract(state, first, second)
        there = linearise(trial)
        if bool(there.cost <= at.cost):  # False for NaN
            state, at, damping = trial, there, max(damping / 10.0, 1e-12)
        elif damping > _DAMPING_MAX:
            break
        else:
            damping *= 10.0
    return state, at, False
