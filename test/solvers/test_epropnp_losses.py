"""The losses on a pose posterior: they are least at the truth, and training with them works."""

import re
from pathlib import Path

import pytest
import torch

from pnp_ros.geometry import se3, so3
from pnp_ros.solvers.bpnp import Implicit, reprojection_loss
from pnp_ros.solvers.classical import Classical
from pnp_ros.solvers.epropnp import sample_posterior
from pnp_ros.solvers.epropnp_losses import (
    MonteCarloPoseLoss,
    derivative_regularisation,
    monte_carlo_pose_loss,
    pose_cost,
)
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Gaussian, Huber
from pnp_ros.types import Correspondences, Pose
from synthetic.cube import random_problems

DOCUMENT = Path(__file__).parents[2] / "docs" / "epropnp.md"


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("loss", [Gaussian(), Huber(1.0)])
def test_pose_cost_is_the_solvers(loss):
    correspondences, camera, _ = random_problems(4, 12, dtype=torch.float64)
    estimate = solve_pnp(correspondences, camera, init=Classical("sqpnp"), loss=loss)
    torch.testing.assert_close(pose_cost(correspondences, camera, estimate.pose, loss=loss), estimate.cost)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_camera_and_poses_follow_the_correspondences(dtype):
    correspondences, camera, truth = random_problems(4, 12, dtype=dtype)
    other = torch.float64 if dtype == torch.float32 else torch.float32
    there, pose = camera.to(dtype=other), truth.to(dtype=other)

    def losses(camera, pose):
        return [
            pose_cost(correspondences, camera, pose),
            *derivative_regularisation(correspondences, camera, pose, pose, position_scale=0.1),
            reprojection_loss(pose, correspondences, camera, pose),
        ]

    for found, expected in zip(losses(there, pose), losses(camera, truth)):
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_problems_may_share_points_and_a_batch_may_be_empty():
    correspondences, camera, truth = random_problems(4, 12)
    object_points = correspondences.object_points[0]
    shared = Correspondences(correspondences.image_points, object_points, correspondences.weights[0])
    whole = Correspondences(
        correspondences.image_points, object_points.expand(4, 12, 3), correspondences.weights[:1].expand(4, 12, 2)
    )
    torch.testing.assert_close(pose_cost(shared, camera, truth), pose_cost(whole, camera, truth))
    none = Correspondences(*(value[:0] for value in vars(whole).values()))
    assert pose_cost(none, camera, Pose(truth.rotation[:0], truth.translation[:0])).shape == (0,)


def test_the_divergence_prefers_the_right_scale_of_the_weights():
    correspondences, camera, truth = random_problems(200, 16, sigma=2.0, seed=4)
    values = []
    for scale in (0.25, 0.5, 1.0, 2.0, 4.0):
        scaled = Correspondences(
            correspondences.image_points, correspondences.object_points, scale * correspondences.weights
        )
        posterior = sample_posterior(scaled, camera, modes=truth, generator=_generator())
        values.append(monte_carlo_pose_loss(posterior.log_evidence, scaled, camera, truth).mean().item())
    assert min(values) == values[2]


def test_training_points_and_weights_leads_to_the_true_pose():
    exact, camera, truth = random_problems(4, 12, sigma=0.0, seed=1)
    image_points = (exact.image_points + 10 * torch.randn(4, 12, 2, generator=_generator())).requires_grad_()
    log_sigma = torch.full((4, 12, 2), 2.0, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": [image_points], "lr": 0.5}, {"params": [log_sigma], "lr": 0.02}])
    pose_loss = MonteCarloPoseLoss(momentum=0.1)

    def error():
        correspondences = Correspondences(image_points.detach(), exact.object_points, torch.exp(-log_sigma.detach()))
        estimate = solve_pnp(correspondences, camera, init=truth, loss=Gaussian())
        return so3.angle_between(estimate.pose.rotation, truth.rotation).mean().item()

    before, sigma_before = error(), log_sigma.exp().mean().item()
    for step in range(80):
        correspondences = Correspondences(image_points, exact.object_points, torch.exp(-log_sigma))
        posterior = sample_posterior(correspondences, camera, modes=truth, num_samples=128, generator=_generator(step))
        loss = pose_loss(posterior.log_evidence, correspondences, camera, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert error() < 0.2 * before
    assert log_sigma.exp().mean().item() < 0.7 * sigma_before


def test_the_running_scale_divides():
    correspondences, camera, truth = random_problems(2, 8, sigma=0.5)
    posterior = sample_posterior(correspondences, camera, modes=truth, generator=_generator())
    plain = monte_carlo_pose_loss(posterior.log_evidence, correspondences, camera, truth).mean()
    module = MonteCarloPoseLoss()
    assert module.eval()(posterior.log_evidence, correspondences, camera, truth) == plain
    torch.testing.assert_close(module.train()(posterior.log_evidence, correspondences, camera, truth), plain / 2.0)
    wider = Correspondences(correspondences.image_points, correspondences.object_points, 2 * correspondences.weights)
    module(posterior.log_evidence, wider, camera, truth)
    assert module.scale.item() == pytest.approx(2.0 + 0.01 * 2.0)


def test_derivative_regularisation_is_the_implicit_gradient():
    correspondences, camera, truth = random_problems(3, 12, sigma=1e-4, dtype=torch.float64)
    target = se3.retract(truth, torch.full((3, 6), 0.01, dtype=torch.float64))
    image_points = correspondences.image_points.requires_grad_()
    solution = solve_pnp(correspondences, camera, init=truth, loss=Gaussian(), gradient=Implicit())
    position, orientation = derivative_regularisation(
        correspondences, camera, solution.pose, target, position_scale=10.0, damping=0.0
    )
    distance = 0.5 * ((solution.pose.translation - target.translation) / 10.0).square().sum(-1)
    trace = (solution.pose.rotation * target.rotation).sum((-2, -1))
    torch.testing.assert_close(position, distance, rtol=1e-4, atol=0.0)
    torch.testing.assert_close(orientation, 0.5 * (3 - trace), rtol=1e-4, atol=0.0)
    for term, expected in ((position, distance), (orientation, 0.5 * (3 - trace))):
        got = torch.autograd.grad(term.sum(), image_points, retain_graph=True)[0]
        implicit = torch.autograd.grad(expected.sum(), image_points, retain_graph=True)[0]
        torch.testing.assert_close(got, implicit, rtol=1e-3, atol=1e-3 * implicit.abs().max().item())


def test_derivative_regularisation_is_finite_for_degenerate_points():
    correspondences, camera, truth = random_problems(2, 6)
    inputs = [x.clone() for x in vars(correspondences).values()]
    inputs[1] = torch.zeros_like(inputs[1])
    for value in inputs:
        value.requires_grad_()
    behind = Pose(truth.rotation, -truth.translation)
    for solution in (truth, behind):
        terms = derivative_regularisation(
            Correspondences(*inputs), camera, solution, truth, position_scale=0.1, loss=Huber()
        )
        for gradient in torch.autograd.grad(sum(term.sum() for term in terms), inputs):
            assert gradient.isfinite().all()


def test_the_documented_example_trains():
    torch.manual_seed(0)
    setup, step = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    assert len([line for line in step.splitlines() if line.strip()]) <= 10
    names: dict = {}
    exec(setup, names)
    exec(step, names)
    first = names["network"].layers[1].weight.grad.norm()
    assert first > 0
    values = []
    for _ in range(60):
        exec(step, names)
        target, c = names["target"], names["correspondences"]
        value = monte_carlo_pose_loss(names["posterior"].log_evidence, c, names["camera"], target)
        values.append(value.mean().item())
    assert sum(values[-5:]) < sum(values[:5])
