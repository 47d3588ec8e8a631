"""One step of the filter against a second implementation: the most probable trajectory by least squares."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from pnp_ros.filtering import motion
from pnp_ros.filtering.localization import View, localize
from pnp_ros.filtering.motion import Belief, Law
from pnp_ros.geometry import covariance as covariances
from pnp_ros.geometry import se3, so3
from pnp_ros.types import Pose, PoseEstimate

LAW = Law(np.array([0.4, 1.5]), np.zeros(2), np.array(1.0))
NO_CAUSES = np.zeros((6, 0))
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
    return Belief(pose.rotation.numpy(), pose.translation.numpy(), np.zeros(6), np.zeros(0), PRIOR.numpy())


def _smoothed(measured: list[Pose]) -> tuple[Pose, torch.Tensor, torch.Tensor]:
    """Last pose, velocity and covariance of the trajectory that minimises all residuals together."""
    noise = torch.linalg.cholesky(torch.linalg.inv(torch.from_numpy(motion._diffusion(ELAPSED, LAW)))).mT
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


def _smoothed_by_gtsam(measured: list[Pose]) -> tuple[Pose, torch.Tensor, torch.Tensor]:
    """The same trajectory by GTSAM's factor graph and solver; turns by SciPy."""
    gtsam = pytest.importorskip("gtsam", reason="GTSAM is not installed (pip install gtsam)")
    graph, values = gtsam.NonlinearFactorGraph(), gtsam.Values()

    def add(covariance: np.ndarray, steps: tuple[int, ...], residual: Callable[..., np.ndarray]) -> None:
        """A factor over the poses and rates of some steps; Jacobians by central differences."""

        def error(_: Any, at: Any, jacobians: list[np.ndarray] | None) -> np.ndarray:
            state = [(at.atPose3(2 * k).matrix(), at.atVector(2 * k + 1)) for k in steps]
            if jacobians is not None:
                for place, k in enumerate(steps):
                    poses, rates = [], []
                    for unit in 1e-6 * np.eye(6):
                        near = [[at.atPose3(2 * k).retract(sign * unit).matrix(), state[place][1]] for sign in (1, -1)]
                        fast = [[state[place][0], state[place][1] + sign * unit] for sign in (1, -1)]
                        for columns, (plus, minus) in ((poses, near), (rates, fast)):
                            ahead, behind = (
                                [*state[:place], tuple(each), *state[place + 1 :]] for each in (plus, minus)
                            )
                            columns.append((residual(*ahead) - residual(*behind)) / 2e-6)
                    jacobians[2 * place], jacobians[2 * place + 1] = np.array(poses).T, np.array(rates).T
            return residual(*state)

        keys = [key for k in steps for key in (2 * k, 2 * k + 1)]
        graph.add(gtsam.CustomFactor(gtsam.noiseModel.Gaussian.Covariance(covariance), keys, error))

    def off(pose: np.ndarray, other: np.ndarray) -> np.ndarray:
        turn = Rotation.from_matrix(other[:3, :3] @ pose[:3, :3].T).as_rotvec()
        return np.concatenate([other[:3, 3] - pose[:3, 3], turn])

    def steady(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        (pose, rate), (later, later_rate) = a, b
        expected = pose.copy()
        expected[:3, :3] = Rotation.from_rotvec(ELAPSED * rate[3:]).as_matrix() @ pose[:3, :3]
        expected[:3, 3] += ELAPSED * rate[:3]
        return np.concatenate([off(expected, later), later_rate - rate])

    matrices = [pose.matrix().numpy() for pose in measured]
    for k, matrix in enumerate(matrices):
        values.insert(2 * k, gtsam.Pose3(matrix))
        values.insert(2 * k + 1, np.zeros(6))
    add(PRIOR.numpy(), (0,), lambda state: np.concatenate([off(matrices[0], state[0]), state[1]]))
    for k in range(1, STEPS):
        add(np.diag(SIGMA.numpy() ** 2), (k,), lambda state, seen=matrices[k]: off(state[0], seen))
        add(motion._diffusion(ELAPSED, LAW), (k - 1, k), steady)
    found = gtsam.LevenbergMarquardtOptimizer(graph, values).optimize()
    last = 2 * (STEPS - 1)
    keys = gtsam.KeyVector([last, last + 1])
    own = gtsam.Marginals(graph, found).jointMarginalCovariance(keys).fullMatrix()
    pose = found.atPose3(last).matrix()
    axes = np.zeros((12, 12))  # GTSAM: turn and shift in the body's own axes
    axes[:3, 3:6] = axes[3:6, :3] = pose[:3, :3]
    axes[6:, 6:] = np.eye(6)
    told = Pose.from_matrix(torch.from_numpy(pose))
    return told, torch.from_numpy(found.atVector(last + 1)), torch.from_numpy(axes @ own @ axes.T)


@pytest.mark.parametrize("smoothed", [_smoothed, _smoothed_by_gtsam])
def test_the_filter_ends_where_the_most_probable_trajectory_ends(smoothed: Any) -> None:
    measured = _measured()
    belief = _start(measured[0])
    for pose in measured[1:]:
        belief, own = motion.moved(belief, ELAPSED, LAW), np.diag(SIGMA.numpy() ** 2)
        told = motion.innovation(belief, pose.rotation.numpy(), pose.translation.numpy(), own, NO_CAUSES)
        belief = motion.updated(belief, told, own, NO_CAUSES)
    pose, rate, covariance = smoothed(measured)
    sigma = covariance.diagonal().sqrt()
    off = torch.cat([se3.local(belief.pose, pose), rate - torch.from_numpy(belief.velocity)]) / sigma
    assert float(off.abs().max()) < 0.1
    ratio = torch.from_numpy(belief.covariance).diagonal().sqrt() / sigma
    assert bool(((ratio > 0.95) & (ratio < 1.05)).all())


def test_causes_that_a_moving_camera_shows_are_those_of_all_views_together() -> None:
    """Step by step, of a body at rest, what generalised least squares over all views says at once."""
    generator = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    causes, own = 0.3 * draw(3), torch.diag(SIGMA**2)
    views = []
    for k in range(6):
        camera, columns = Pose(so3.exp(0.4 * k * torch.tensor([0.3, 1.0, 0.0]).double()), draw(3)), 0.02 * draw(6, 3)
        seen = se3.retract(camera.inverse() @ _truth(0.0), columns @ causes + SIGMA * draw(6))
        views.append(View(camera, PoseEstimate.of(seen, own + columns @ columns.mT), float(k), columns))
    first = covariances.in_frame(views[0].camera, views[0].estimate).pose
    rest, belief = Law(np.zeros(2), np.zeros(2), np.array(0.0)), _start(first)
    belief = motion.with_causes(dataclasses.replace(belief, covariance=1e6 * PRIOR.numpy()), 3)
    for view in views:
        turn = view.camera.rotation
        pose, noise = view.camera @ view.estimate.pose, covariances.rotate(own, turn).numpy()
        common = covariances.turned(view.systematic, turn).numpy()
        belief = motion.moved(belief, 1.0, rest)
        told = motion.innovation(belief, pose.rotation.numpy(), pose.translation.numpy(), noise, common)
        belief = motion.updated(belief, told, noise, common)
    expected = localize(views, gate=1e9).estimate
    sigma = expected.covariance.diagonal().sqrt()
    assert float((se3.local(belief.pose, expected.pose) / sigma).abs().max()) < 0.1
    assert np.allclose(np.diag(belief.covariance)[:6], expected.covariance.diagonal().numpy(), rtol=0.02)
    assert (
        float(np.abs(belief.causes - causes.numpy()).max()) < 4.0 * float(np.diag(belief.covariance)[12:].max()) ** 0.5
    )
    assert np.diag(belief.covariance)[12:].max() < 0.5


def test_a_body_at_rest_has_no_velocity_and_stays() -> None:
    rest, start = Law(np.array([0.01, 0.02]), np.zeros(2), np.array(0.0)), _start(_truth(0.0))
    told = motion.moved(dataclasses.replace(start, velocity=np.full(6, 0.5)), 2.0, rest)
    assert np.array_equal(told.translation, start.translation)
    assert np.array_equal(told.velocity, np.zeros(6))
    assert np.allclose(told.covariance[:6, :6], PRIOR.numpy()[:6, :6])
    assert np.allclose(np.diag(told.covariance)[6:], np.repeat([0.01**2, 0.02**2], 3))


def test_moving_there_and_back_without_acceleration_changes_nothing() -> None:
    start, still = _start(_truth(0.2)), Law(np.zeros(2), np.zeros(2), np.array(1.0))
    belief = dataclasses.replace(start, velocity=np.array([0.1, 0.2, -0.1, 0.5, -0.4, 0.3]))
    back = motion.moved(motion.moved(belief, 0.3, still), -0.3, still)
    assert torch.allclose(back.pose.matrix(), belief.pose.matrix(), atol=1e-12)
    assert np.allclose(back.covariance, belief.covariance, atol=1e-12)


def test_a_mixture_has_the_mean_and_covariance_of_its_samples() -> None:
    generator = torch.Generator().manual_seed(1)
    one, other = _start(_truth(0.0)), _start(se3.retract(_truth(0.0), 0.05 * torch.ones(6, dtype=torch.float64)))
    both = Belief(
        np.stack([one.rotation, other.rotation]),
        np.stack([one.translation, other.translation]),
        np.stack([one.velocity, one.velocity + 0.5]),
        np.zeros((2, 0)),
        0.01 * np.stack([PRIOR.numpy(), 4.0 * PRIOR.numpy()]),
    )
    mixed = motion.mixture(both, np.array([0.3, 0.7]))
    count = 100_000
    which = (torch.rand(count, generator=generator) < 0.7).long()
    draws = torch.randn(count, 12, generator=generator, dtype=torch.float64)
    delta = (torch.from_numpy(both.covariance).diagonal(dim1=-2, dim2=-1).sqrt()[which]) * draws
    poses = se3.retract(both.pose[which], delta[:, :6])
    rates = torch.from_numpy(both.velocity)[which] + delta[:, 6:] - torch.from_numpy(mixed.velocity)
    offset, covariance = torch.cat([se3.local(mixed.pose, poses), rates], -1), torch.from_numpy(mixed.covariance)
    sigma = covariance.diagonal().sqrt()
    assert float((offset.mean(0) / sigma).abs().max()) < 0.02
    sampled = offset.T @ offset / count
    assert float(((sampled - covariance) / (sigma[:, None] * sigma)).abs().max()) < 0.03


def test_numpy_and_torch_agree() -> None:
    """Small turns, large ones and half a turn, against the geometry that has a test of its own."""
    axis = torch.tensor([0.6, -0.48, 0.64], dtype=torch.float64)
    phi = torch.tensor([0.0, 1e-9, 1e-3, 0.5, 2.0, 3.0, np.pi], dtype=torch.float64)[:, None] * axis
    turn, jacobian = motion._exp_and_jacobian(phi.numpy())
    assert np.allclose(turn, so3.exp(phi).numpy(), atol=1e-14)
    assert np.allclose(jacobian, so3.left_jacobian(phi).numpy(), atol=1e-9)
    assert np.allclose(motion._log(turn[:4]), phi[:4].numpy(), atol=1e-14)
    assert np.allclose(np.linalg.norm(motion._log(turn), axis=-1), phi.norm(dim=-1).numpy(), atol=1e-7)
