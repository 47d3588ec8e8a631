"""Properties of the differentiable layers and of PnP-Net, whatever the problem; those of the solver stand beside."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.solvers.bpnp import Implicit, reprojection_loss
from pnp_ros.solvers.epropnp import sample_posterior
from pnp_ros.solvers.epropnp_losses import derivative_regularisation, pose_cost
from pnp_ros.solvers.linear_covariance import linear_covariance
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.pnp_net import PnPNet
from pnp_ros.solvers.robust_loss import Cauchy, Gaussian, GemanMcClure, Huber
from pnp_ros.types import Correspondences, Pose
from synthetic.cube import random_problems

quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 10_000)
losses = st.sampled_from([Gaussian(), Huber(), Cauchy(), GemanMcClure()])
NAMES = ("image_points", "object_points", "weights")


def _gradients(c: Correspondences, camera: Camera, init: Pose, loss: Gaussian, points: Tensor) -> list[Tensor]:
    """Of where the pose puts ``points`` of the object."""
    leaves = [getattr(c, name).detach().clone().requires_grad_() for name in NAMES]
    estimate = solve_pnp(Correspondences(*leaves), camera, init=init, loss=loss, gradient=Implicit())
    return list(torch.autograd.grad(estimate.pose.transform(points).square().sum(), leaves))


def _evidence(c: Correspondences, camera: Camera, modes: Pose, samples: int = 512) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return sample_posterior(c, camera, modes=modes, num_samples=samples, generator=generator).log_evidence


def _moved(c: Correspondences, seed: int) -> tuple[Correspondences, Pose]:
    """The same problem in another object frame, and the transform to it."""
    turn = so3.random_rotation(generator=torch.Generator().manual_seed(seed), dtype=c.image_points.dtype)
    move = Pose(turn, torch.tensor([1.0, -2.0, 0.5]).to(turn))
    return Correspondences(c.image_points, move.transform(c.object_points), c.weights), move


@quick
@given(seed=seeds, loss=losses)
def test_implicit_gradients_do_not_depend_on_the_order_of_the_points(seed: int, loss: Gaussian) -> None:
    c, camera, truth = random_problems(2, 12, seed=seed, dtype=torch.float64)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    shuffled = Correspondences(*(getattr(c, name)[:, order] for name in NAMES))
    corners = c.object_points[:, :3]
    expected = _gradients(c, camera, truth, loss, corners)
    for a, b in zip(expected, _gradients(shuffled, camera, truth, loss, corners)):
        torch.testing.assert_close(a[:, order], b, rtol=1e-5, atol=1e-7 * float(a.abs().max()))


@quick
@given(seed=seeds, loss=losses)
def test_implicit_gradients_do_not_depend_on_the_object_frame(seed: int, loss: Gaussian) -> None:
    c, camera, truth = random_problems(2, 12, seed=seed, dtype=torch.float64)
    moved, move = _moved(c, seed)
    start = se3.compose(truth, se3.inverse(move))
    here = _gradients(c, camera, truth, loss, c.object_points[:, :3])
    there = _gradients(moved, camera, start, loss, moved.object_points[:, :3])
    there[1] = there[1] @ move.rotation
    for a, b in zip(here, there):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6 * float(a.abs().max()))


@quick
@given(seed=seeds)
def test_evidence_does_not_depend_on_order_frame_and_batch(seed: int) -> None:
    c, camera, truth = random_problems(3, 12, seed=seed)
    expected = _evidence(c, camera, truth)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    shuffled = Correspondences(*(getattr(c, name)[:, order] for name in NAMES))
    torch.testing.assert_close(_evidence(shuffled, camera, truth), expected, rtol=0.0, atol=0.02)
    moved, move = _moved(c, seed)
    there = _evidence(moved, camera, se3.compose(truth, se3.inverse(move)))
    torch.testing.assert_close(there, expected, rtol=0.0, atol=0.02)
    # A batch draws other samples than its problems alone: equal within the samples' noise.
    many = _evidence(c, camera, truth, 4096)
    for i in range(3):
        one = Correspondences(*(getattr(c, name)[i] for name in NAMES))
        alone = _evidence(one, camera, Pose(truth.rotation[i], truth.translation[i]), 4096)
        torch.testing.assert_close(alone, many[i], rtol=0.0, atol=0.25)


@quick
@given(seed=seeds)
def test_evidence_of_single_and_double_precision_agrees(seed: int) -> None:
    results = []
    for dtype in (torch.float32, torch.float64):
        c, camera, truth = random_problems(3, 12, seed=seed, dtype=dtype)
        leaves = [getattr(c, name).requires_grad_() for name in NAMES]
        value = _evidence(Correspondences(*leaves), camera, truth)
        results.append([value.detach(), *torch.autograd.grad(value.sum(), leaves)])
    for single, double in zip(*results):
        torch.testing.assert_close(single.double(), double, rtol=0.02, atol=0.02 * float(double.abs().max()))


@quick
@given(seed=seeds, outliers=st.sampled_from([0.0, 0.3]))
def test_pnp_net_in_single_and_double_precision_finds_the_same_pose(seed: int, outliers: float) -> None:
    poses = []
    for dtype in (torch.float32, torch.float64):
        c, camera, _ = random_problems(2, 24, outliers=outliers, seed=seed, dtype=dtype)
        poses.append(solve_pnp(c, camera, init=PnPNet(), loss=Cauchy()).pose)
    torch.testing.assert_close(poses[0].rotation.double(), poses[1].rotation, rtol=0.0, atol=2e-3)
    torch.testing.assert_close(poses[0].translation.double(), poses[1].translation, rtol=2e-3, atol=2e-3)


finite = st.floats(-(2.0**50), 2.0**50, width=32)  # beyond, samples leave the range of single precision


@pytest.mark.parametrize("layer", ["implicit", "evidence", "pnp_net"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(numbers=hnp.arrays(np.float32, 7 * 8 + 3, elements=finite), n=st.integers(1, 8), loss=losses)
def test_no_finite_input_gives_nan(layer: str, numbers: np.ndarray, n: int, loss: Gaussian) -> None:
    values = torch.from_numpy(numbers.copy())
    points = values[: 7 * n].reshape(n, 7)
    leaves = [part.clone().requires_grad_() for part in (points[:, :2], points[:, 2:5], points[:, 5:7].abs())]
    c = Correspondences(*leaves)
    camera = Camera.pinhole(800.0, 800.0, 320.0, 240.0, 640, 480)
    tensors: list[Tensor] = []
    if layer == "evidence":
        start = Pose(torch.eye(3), values[-3:])
        posterior = sample_posterior(c, camera, modes=start, loss=loss, num_samples=64)
        value = posterior.log_evidence
        tensors += [posterior.log_weights, posterior.poses.rotation, posterior.poses.translation, posterior.covariance]
    elif layer == "implicit":
        estimate = solve_pnp(c, camera, loss=loss, gradient=Implicit())
        value = estimate.pose.matrix().sum()
    else:
        estimate = solve_pnp(c, camera, init=PnPNet(), loss=loss)
        value = estimate.cost
        tensors += [estimate.pose.rotation, estimate.pose.translation, estimate.covariance, estimate.inlier_weights]
    tensors.append(value)
    if value.requires_grad:
        tensors += torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    for tensor in tensors:
        assert tensor.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("matrices", [False, True])
def test_points_without_weight_may_hold_anything(dtype: torch.dtype, matrices: bool) -> None:
    c, camera, truth = random_problems(2, 12, dtype=dtype)
    weights = c.weights.clone()
    weights[:, :3] = 0.0
    weights = torch.diag_embed(weights) if matrices else weights
    image_points, object_points = c.image_points.clone(), c.object_points.clone()
    image_points[:, 0], object_points[:, 1], object_points[:, 2] = torch.nan, torch.nan, torch.inf

    def told(kept: slice) -> tuple[Tensor, list[Tensor]]:
        leaves = [part[:, kept].detach().clone().requires_grad_() for part in (image_points, object_points, weights)]
        points = Correspondences(*leaves)
        solved = solve_pnp(points, camera, init=truth, loss=Gaussian(), gradient=Implicit()).pose
        step = derivative_regularisation(points, camera, solved, truth, position_scale=0.1)
        values = torch.stack(
            [
                reprojection_loss(solved, points, camera, truth),
                pose_cost(points, camera, truth),
                0.1 * _evidence(points, camera, truth),
                *step,
                linear_covariance(points, camera, truth).diagonal(dim1=-2, dim2=-1).sum(-1),
            ]
        )
        return values, list(torch.autograd.grad(values.sum(), leaves))

    values, gradients = told(slice(None))
    expected, gradients_of_others = told(slice(3, None))
    torch.testing.assert_close(values, expected, rtol=1e-3, atol=0.01)
    for gradient, other in zip(gradients, gradients_of_others):
        assert (gradient[:, :3] == 0).all()
        torch.testing.assert_close(gradient[:, 3:], other, rtol=0.0, atol=0.1 * float(other.abs().max()))
