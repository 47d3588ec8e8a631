"""Training PnP-Net: the problems are what they claim, training gets somewhere and resumes, and its file is used."""

import argparse

import pytest
import torch

from pnp_ros.cli import train_pnpnet
from pnp_ros.solvers import pnp_net
from pnp_ros.training import pnp_net_trainer
from pnp_ros.training.pnp_net_problems import synthetic_problems
from pnp_ros.training.pnp_net_trainer import PnPNetTrainingConfig, training_loss


def test_problems_have_the_outliers_they_claim():
    problems = synthetic_problems(300, 32, torch.Generator().manual_seed(0))
    c = problems.correspondences
    exact = problems.camera.project(problems.pose.transform(c.object_points))
    whitened = ((c.image_points - exact) * c.weights).norm(dim=-1)
    assert (whitened[problems.inlier] < 5).float().mean() > 0.999
    assert (whitened[~problems.inlier] > 5).float().mean() > 0.8
    share = (~problems.inlier).float().mean(-1)
    assert 0.5 < share.mean() < 0.75
    assert share.max() < 0.86  # five inliers are left
    assert (problems.pose.transform(c.object_points)[..., 2] > 0.1).all()
    fixed = synthetic_problems(3, 20, torch.Generator().manual_seed(0), outliers=0.5)
    assert (fixed.inlier.sum(-1) == 10).all()


def test_a_short_training_helps():
    torch.manual_seed(0)
    network = pnp_net.LikelihoodNetwork()
    problems = synthetic_problems(64, 32, torch.Generator().manual_seed(9), outliers=0.4)
    with torch.no_grad():
        before, accuracy_before, drawn_before = training_loss(network, problems)
    config = PnPNetTrainingConfig(minutes=60.0, max_steps=40, points_per_step=1024)
    reports = list(pnp_net_trainer.train(network, config, report_every=0.0))
    with torch.no_grad():
        after, accuracy, drawn = training_loss(network, problems)
    assert [report.step for report in reports] == list(range(1, 41))
    assert after < 0.9 * before
    assert accuracy > accuracy_before
    assert drawn > drawn_before + 0.02


def test_a_training_goes_on_where_it_was(tmp_path):
    def trained(steps: int, checkpoint):
        torch.manual_seed(0)
        network = pnp_net.LikelihoodNetwork()
        config = PnPNetTrainingConfig(minutes=1e4, max_steps=steps, points_per_step=256)
        steps = [r.step for r in pnp_net_trainer.train(network, config, checkpoint=checkpoint, report_every=0.0)]
        return network, steps

    path = tmp_path / "net.checkpoint"
    _, first = trained(4, path)
    network, second = trained(7, path)
    assert (first, second) == ([1, 2, 3, 4], [5, 6, 7])
    assert all(p.isfinite().all() for p in network.parameters())


def test_the_command_writes_weights_that_load(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    train_pnpnet.add_arguments(parser)
    out = tmp_path / "new" / "net.safetensors"
    assert train_pnpnet.run(parser.parse_args(["--minutes", "0.01", "--out", str(out)])) == 0
    assert out.stat().st_size < 1e5
    pnp_net.load_network(out)
    assert [path.name for path in out.parent.iterdir()] == ["net.safetensors"]
    assert str(out) in capsys.readouterr().out


def test_a_wrong_configuration_is_named():
    with pytest.raises(ValueError, match="minutes"):
        PnPNetTrainingConfig(minutes=0.0)
