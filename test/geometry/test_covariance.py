"""covariance against sampled perturbations and closed forms."""

import torch

from pnp_ros.geometry import covariance, se3, so3
from pnp_ros.types import Pose


def random_cov(seed: int) -> torch.Tensor:
    root = torch.randn(6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 1e-6 * (root @ root.mT + torch.eye(6, dtype=torch.float64))


def random_pose(seed: int) -> Pose:
    generator = torch.Generator().manual_seed(seed)
    rotation = so3.random_rotation(generator=generator, dtype=torch.float64)
    return Pose(rotation, torch.randn(3, generator=generator, dtype=torch.float64))


def samples(cov: torch.Tensor, count: int) -> torch.Tensor:
    white = torch.randn(count, 6, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return white @ torch.linalg.cholesky(cov).mT


def assert_sampled(deltas: torch.Tensor, cov: torch.Tensor) -> None:
    assert (deltas.mT.cov() - cov).norm() < 0.03 * cov.norm()


def test_of_inverse_matches_inverted_samples() -> None:
    pose, cov = random_pose(0), random_cov(1)
    deltas = samples(cov, 20000)
    inverted = se3.inverse(se3.retract(pose, deltas))
    reference = se3.inverse(pose)
    assert_sampled(se3.local(reference, inverted), covariance.of_inverse(pose, cov))
    torch.testing.assert_close(covariance.of_inverse(reference, covariance.of_inverse(pose, cov)), cov)


def test_rotate_matches_a_changed_camera_frame() -> None:
    pose, cov = random_pose(2), random_cov(3)
    turn = Pose(random_pose(4).rotation, torch.zeros(3, dtype=torch.float64))
    deltas = se3.local(se3.compose(turn, pose), se3.compose(turn, se3.retract(pose, samples(cov, 20000))))
    assert_sampled(deltas, covariance.rotate(cov, turn.rotation))


def test_nees_is_the_mahalanobis_square() -> None:
    cov = random_cov(5)
    delta = samples(cov, 20000)
    value = covariance.nees(delta, cov.expand(20000, 6, 6))
    torch.testing.assert_close(value, torch.einsum("bi,ij,bj->b", delta, torch.linalg.inv(cov), delta))
    assert abs(value.mean().item() - 6) < 0.1


def test_nees_is_finite_for_very_different_scales_in_float32() -> None:
    cov = torch.diag(torch.tensor([1e-12, 1e-12, 1e-10, 1e-2, 1e-2, 1e-2]))
    torch.testing.assert_close(covariance.nees(cov.diagonal().sqrt(), cov), torch.tensor(6.0))


def test_is_valid() -> None:
    good = random_cov(6)
    indefinite = good.clone()
    indefinite[0, 1] = indefinite[1, 0] = 2 * (good[0, 0] * good[1, 1]).sqrt()
    skewed = good.clone()
    skewed[0, 1] += 0.1 * (good[0, 0] * good[1, 1]).sqrt()
    unknown = good.clone()
    unknown[3, 3] = torch.nan
    batch = torch.stack([good, torch.zeros_like(good), indefinite, skewed, unknown, good * torch.inf])
    assert covariance.is_valid(batch).tolist() == [True, False, False, False, False, False]
    delta = torch.ones(6, dtype=torch.float64)
    assert covariance.nees(delta.expand(6, 6), batch).isinf().tolist() == [False, True, True, False, True, True]
