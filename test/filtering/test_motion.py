"""One step of the filter against a second implementation: the most probable trajectory by least squares."""

import numpy as np
import torch
from scipy.optimize import least_squares

from pnp_ros.filtering import motion
from pnp_ros.filtering.motion import Belief
from pnp_ros.geometry import se3, so3
from pnp_ros.types import Pose

ACCELERATION = torch.tensor([0.4, 1.5], dtype=torch.float64)
ELAPSED, STEPS = 0.1, 5
SIGMA = torch.tensor([0.004, 0.004, 0.01, 0.02, 0.02, 0.02], dtype=torch.float64)
PRIOR = torch.diag(torch.tensor([0.01] * 3 + [0.05] * 3 + [0.5] * 3 + [1.0] * 3, dtype=torch.float64) ** 2)


def _truth(stamp: float) -> Pose:
    vector = torch.tensor([0.3 * stamp, 0.9 * stamp, -0.2], dtype=torch.float64)
    return Pose(so3.exp(vector), torch.tensor([0.2 * stamp, 0.1, 1.0 - 0.3 * stamp], dtype=torch.float64))


def _measured() -> list[Pose]:
    generator = torch.Generator().manual_seed(5)
    noise = SIGMA * torch.randn(STEPS, 6, generator=generator, dtype=torch.float64)
    return [se3.retract(_truth(k * ELAPSED), noise[k]) for k in range(STEPS)]


def _start(pose: Pose) -> Belief:
    return Belief(pose, torch.zeros(6, dtype=torch.float64), PRIOR)


def _smoothed(measured: list[Pose]) -> tuple[Pose, torch.Tensor, torch.Tensor]:
    """Last pose, velocity and covariance of the trajectory that minimises all residuals together."""
    noise = torch.linalg.cholesky(torch.linalg.inv(motion._diffusion(ELAPSED, ACCELERATION))).mT
    prior = torch.linalg.cholesky(torch.linalg.inv(PRIOR)).mT

    def states(x: np.ndarray) -> tuple[list[Pose], torch.Tensor]:
        deltas = torch.as_tensor(x).reshape(STEPS, 12)
        return [se3.retract(m, d[:6]) for m, d in zip(measured, deltas)], deltas[:, 6:]

    def residuals(x: np.ndarray) -> np.ndarray:
        poses, rates = states(x)
        terms = [prior @ torch.cat([se3.local(measured[0], poses[0]), rates[0]])]
        terms += [se3.local(pose, seen) / SIGMA for pose, seen in zip(poses[1:], measured[1:])]
        for k in range(STEPS - 1):
            expected = se3.retract(poses[k], rates[k] * ELAPSED)
            terms.append(noise @ torch.cat([se3.local(expected, poses[k + 1]), rates[k + 1] - rates[k]]))
        return torch.cat(terms).numpy()

    found = least_squares(residuals, np.zeros(12 * STEPS), method="lm", xtol=1e-12, ftol=1e-12)
    poses, rates = states(found.x)
    return poses[-1], rates[-1], torch.as_tensor(np.linalg.inv(found.jac.T @ found.jac)[-12:, -12:])


def test_the_filter_ends_where_the_most_probable_trajectory_ends() -> None:
    measured = _measured()
    belief = _start(measured[0])
    for pose in measured[1:]:
        belief = motion.moved(belief, ELAPSED, ACCELERATION)
        told = motion.innovation(belief, pose, torch.diag(SIGMA**2))
        belief = motion.updated(belief, told, torch.diag(SIGMA**2))
    pose, rate, covariance = _smoothed(measured)
    sigma = covariance.diagonal().sqrt()
    off = torch.cat([se3.local(belief.pose, pose), rate - belief.velocity]) / sigma
    assert float(off.abs().max()) < 0.1
    ratio = belief.covariance.diagonal().sqrt() / sigma
    assert bool(((ratio > 0.95) & (ratio < 1.05)).all())


def test_moving_there_and_back_without_acceleration_changes_nothing() -> None:
    belief = Belief(_truth(0.2), torch.tensor([0.1, 0.2, -0.1, 0.5, -0.4, 0.3], dtype=torch.float64), PRIOR)
    still = torch.zeros(2, dtype=torch.float64)
    back = motion.moved(motion.moved(belief, 0.3, still), -0.3, still)
    assert torch.allclose(back.pose.matrix(), belief.pose.matrix(), atol=1e-12)
    assert torch.allclose(back.covariance, belief.covariance, atol=1e-12)


def test_a_mixture_has_the_mean_and_covariance_of_its_samples() -> None:
    generator = torch.Generator().manual_seed(1)
    one, other = _start(_truth(0.0)), _start(se3.retract(_truth(0.0), 0.05 * torch.ones(6, dtype=torch.float64)))
    both = Belief(
        Pose.stack([one.pose, other.pose]),
        torch.stack([one.velocity, one.velocity + 0.5]),
        0.01 * torch.stack([PRIOR, 4.0 * PRIOR]),
    )
    mixed = motion.mixture(both, torch.tensor([0.3, 0.7], dtype=torch.float64))
    count = 100_000
    which = (torch.rand(count, generator=generator) < 0.7).long()
    draws = torch.randn(count, 12, generator=generator, dtype=torch.float64)
    delta = (both.covariance.diagonal(dim1=-2, dim2=-1).sqrt()[which]) * draws
    poses = se3.retract(both.pose[which], delta[:, :6])
    offset = torch.cat([se3.local(mixed.pose, poses), both.velocity[which] + delta[:, 6:] - mixed.velocity], -1)
    sigma = mixed.covariance.diagonal().sqrt()
    assert float((offset.mean(0) / sigma).abs().max()) < 0.02
    sampled = offset.T @ offset / count
    assert float(((sampled - mixed.covariance) / (sigma[:, None] * sigma)).abs().max()) < 0.03
