"""A covariance that doubts each point it trusts: against leaving points out, and the kernel against its reference."""

from __future__ import annotations

import math

import pytest
import torch

from pnp_ros.kernels import doubt_reference
from pnp_ros.kernels.doubt_reference import Outliers, with_doubt
from pnp_ros.solvers.levenberg_marquardt import refine
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import GemanMcClure
from synthetic.problems import Case, draw

DOUBLE = torch.float64


def test_it_is_the_mixture_of_the_poses_without_one_of_the_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a linear problem, where these are known exactly: each is solved again without its point."""
    monkeypatch.setattr(doubt_reference, "FULL", 0.0)
    generator = torch.Generator().manual_seed(1)
    n, number, spread, each = 7, 2.0, 80.0, 9.0
    jacobian = torch.randn(n, 2, 6, generator=generator, dtype=DOUBLE)
    noise = torch.randn(n, 2, generator=generator, dtype=DOUBLE)
    noise[2] += 5.0

    def fit(kept: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The minimum of the residuals ``noise + J step``, its covariance and all residuals there."""
        rows = jacobian[kept].flatten(0, 1)
        covariance = torch.linalg.inv(rows.mT @ rows)
        step = -covariance @ rows.mT @ noise[kept].flatten()
        return step, covariance, noise + jacobian @ step

    step, covariance, residual = fit(list(range(n)))
    near = 1.0 / (1.0 + math.exp(-number * (each + math.log(2.0) - 2.0 - math.log(spread))))
    odds, moments = [], []
    for i in range(n):
        step_i, covariance_i, residual_i = fit([j for j in range(n) if j != i])
        expected = torch.eye(2, dtype=DOUBLE) + jacobian[i] @ covariance_i @ jacobian[i].mT
        right = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=DOUBLE), expected)
        s = residual_i[i].square().sum()
        anywhere = math.exp(-each) / (2.0 * math.pi)
        wrong = near * spread / (math.pi * (spread + s) ** 2) + (1.0 - near) * anywhere
        odds.append((number + 0.5) / (9 - number + 0.5) * wrong / right.log_prob(residual_i[i]).exp())
        moments.append(covariance_i + torch.outer(step_i - step, step_i - step))
    share = torch.stack(odds) / (1.0 + sum(odds))
    assert 0.2 < share[2] < 0.999  # the wrong point is doubted, and the others are not
    assert share.argmax() == 2
    mixture = (1.0 - share.sum()) * covariance + (share[:, None, None] * torch.stack(moments)).sum(0)

    # two more points, which the pose calls wrong
    padded = torch.nn.functional.pad
    found = with_doubt(
        covariance[None],
        padded(jacobian, (0, 0, 0, 0, 0, 2))[None],
        padded(residual, (0, 0, 0, 2), value=9.0)[None],
        padded(torch.ones(n, dtype=DOUBLE), (0, 2))[None],
        torch.ones(1, dtype=DOUBLE),
        Outliers(
            torch.tensor([number], dtype=DOUBLE),
            torch.tensor([math.log(spread)], dtype=DOUBLE),
            torch.tensor([each], dtype=DOUBLE),
            torch.ones(1, n + 2, dtype=torch.bool),
            torch.full((1, n + 2), 2),
            torch.ones(1, dtype=torch.bool),
        ),
    )
    torch.testing.assert_close(found[0], mixture)


@pytest.mark.parametrize(
    "case", [Case(n=12, kind="near", outliers=1 / 3), Case(n=6, weights="full", sigma=2.0)], ids=str
)
def test_the_kernel_doubts_as_its_reference_does(case: Case) -> None:
    problems = draw(case, 40)
    start = problems.truth()
    kernel = solve_pnp(problems.correspondences(), problems.lens.camera(), init=start.to(dtype=torch.float32))
    reference = solve_pnp(problems.correspondences(DOUBLE), problems.lens.camera(DOUBLE), init=start)
    same = (kernel.usable & reference.usable).nonzero().flatten()
    assert len(same) > 30
    ratio = (_sizes(kernel.covariance[same].double()) - _sizes(reference.covariance[same])).abs()
    assert ratio.quantile(0.9) < 0.03
    step = refine(
        problems.correspondences(DOUBLE), problems.lens.camera(DOUBLE), reference.pose, GemanMcClure(), accept=False
    )  # on the way to a solution nothing is doubted
    grown = _sizes(reference.covariance[same]) - _sizes(step.covariance[same])
    assert grown.min() > -1e-6
    assert grown.mean() > 0.005


def _sizes(covariance: torch.Tensor) -> torch.Tensor:
    """(B, 6) logarithms of the deviations."""
    return 0.5 * covariance.diagonal(dim1=-2, dim2=-1).log()
