"""NEES statistics on sampled poses: right covariances are consistent, wrong ones are found out."""

import pytest
import torch

from pnp_ros.evaluation import consistency
from pnp_ros.geometry import se3, so3
from pnp_ros.types import Pose

COUNT = 4000


def sampled(factor: float) -> torch.Tensor:
    """NEES of estimates whose covariance claims ``factor`` times the true variance."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    cov = 1e-6 * (root @ root.mT + torch.eye(6, dtype=torch.float64))
    truth = Pose(
        so3.random_rotation(COUNT, generator=generator, dtype=torch.float64),
        torch.randn(COUNT, 3, generator=generator, dtype=torch.float64),
    )
    white = torch.randn(COUNT, 6, generator=generator, dtype=torch.float64)
    estimate = se3.retract(truth, white @ torch.linalg.cholesky(cov).mT)
    return consistency.nees(estimate, factor * cov.expand(COUNT, 6, 6), truth)


def test_true_covariances_are_consistent() -> None:
    values = sampled(1.0)
    low, high = consistency.anees_bounds(COUNT, 0.999)
    assert low < values.mean().item() < high
    for level, share in consistency.coverage(values).items():
        assert share == pytest.approx(level, abs=0.03)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_wrong_covariances_are_found_out(factor: float) -> None:
    values = sampled(factor)
    low, high = consistency.anees_bounds(COUNT)
    assert not low < values.mean().item() < high
    assert (consistency.coverage(values)[0.9] > 0.9) == (factor > 1)


def test_the_share_inside_has_an_interval_and_the_region_a_factor() -> None:
    chosen, others = sampled(0.5).split(COUNT // 2)  # too sure by half
    low, high = consistency.coverage_interval(chosen, 0.9)
    assert low < consistency.coverage(chosen)[0.9] < high < 0.9
    factor = consistency.conformal_factor(chosen)
    assert factor == pytest.approx(2.0, rel=0.1)
    low, high = consistency.coverage_interval(others / factor, 0.9, 0.999)
    assert low < 0.9 < high
    assert consistency.coverage_interval(torch.tensor([1.0] * 10), 0.9) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert consistency.conformal_factor(torch.arange(8.0)) == float("inf")  # nine are needed


def test_bounds_are_those_of_chi_square() -> None:
    assert consistency.anees_bounds(1) == pytest.approx((1.2373, 14.4494), abs=1e-3)  # chi-square tables, 6 degrees
    low, high = consistency.anees_bounds(100)
    assert 5 < low < 6 < high < 7
    with pytest.raises(ValueError, match="count"):
        consistency.anees_bounds(0)
    with pytest.raises(ValueError, match="values"):
        consistency.coverage(torch.zeros(0))
