"""Training PnP-Net: the problems are what they claim, training gets somewhere, and its file is used."""

import argparse
import math

import pytest
import torch

from pnp_ros.cli import train_pnpnet
from pnp_ros.geometry import so3
from pnp_ros.solvers import pnp_net
from pnp_ros.training import pnp_net_trainer
from pnp_ros.training.pnp_net_trainer import PnPNetTrainingConfig, synthetic_problems, training_loss


def test_problems_have_the_outliers_they_claim():
    problems = synthetic_problems(200, 32, torch.Generator().manual_seed(0))
    c = problems.correspondences
    exact = problems.camera.project(problems.pose.transform(c.object_points))
    whitened = ((c.image_points - exact) * c.weights).norm(dim=-1)
    assert (whitened[problems.inlier] < 5).float().mean() > 0.999
    assert (whitened[~problems.inlier] > 5).float().mean() > 0.8
    share = (~problems.inlier).float().mean(-1)
    assert 0.3 < share.mean() < 0.5
    assert share.max() < 0.82
    assert (problems.pose.transform(c.object_points)[..., 2] > 0.1).all()
    fixed = synthetic_problems(3, 20, torch.Generator().manual_seed(0), outliers=0.5)
    assert (fixed.inlier.sum(-1) == 10).all()


def test_canonical_frames_lead_there_and_back():
    problems = synthetic_problems(5, 16, torch.Generator().manual_seed(0), outliers=0.0)
    problem, frames = pnp_net.canonicalise(problems.correspondences, problems.camera)
    canonical = frames.from_camera(problems.pose)
    back = frames.to_camera(canonical)
    torch.testing.assert_close(back.rotation, problems.pose.rotation, rtol=0.0, atol=1e-5)
    torch.testing.assert_close(back.translation, problems.pose.translation, rtol=1e-4, atol=1e-4)
    # At the true pose, the canonical errors are the noise: about one in units of the precision.
    whitened = pnp_net.residuals(problem, canonical) * problem.precision[..., None]
    assert 0.8 < whitened.square().mean().sqrt() < 1.2


def test_gauss_newton_converges():
    problems = synthetic_problems(20, 32, torch.Generator().manual_seed(1), outliers=0.0)
    problem, frames = pnp_net.canonicalise(problems.correspondences, problems.camera)
    target = frames.from_camera(problems.pose)
    start = pnp_net.Pose(so3.exp(torch.full((20, 3), 0.1)) @ target.rotation, target.translation * 1.1)
    pose = pnp_net.gauss_newton(problem, start, torch.ones(20, 32), 8)
    angle = so3.angle_between(pose.rotation, target.rotation)
    assert angle.median() < math.radians(2.0)


def test_a_short_training_helps():
    torch.manual_seed(0)
    network = pnp_net.PnPNet(channels=32, stages=2)
    problems = synthetic_problems(64, 32, torch.Generator().manual_seed(9), outliers=0.4)
    with torch.no_grad():
        before, accuracy_before, _ = training_loss(network, problems)
    config = PnPNetTrainingConfig(minutes=60.0, max_steps=60, points_per_step=768)
    reports = list(pnp_net_trainer.train(network, config, report_every=0.0))
    with torch.no_grad():
        after, accuracy, _ = training_loss(network, problems)
    assert [report.step for report in reports] == list(range(1, 61))
    assert after < 0.9 * before
    assert accuracy > accuracy_before + 0.05


def test_the_command_writes_weights_that_load(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    train_pnpnet.add_arguments(parser)
    out = tmp_path / "new" / "net.safetensors"
    assert train_pnpnet.run(parser.parse_args(["--minutes", "0.01", "--out", str(out)])) == 0
    assert out.stat().st_size < 5e6
    pnp_net.load_network(out)
    assert str(out) in capsys.readouterr().out


def test_a_wrong_configuration_is_named():
    with pytest.raises(ValueError, match="minutes"):
        PnPNetTrainingConfig(minutes=0.0)
