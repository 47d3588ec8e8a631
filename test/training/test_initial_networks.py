import json
from pathlib import Path

import pytest
import torch

from pnp_ros.detection.detector_network import DetectorConfig, DetectorNetwork
from pnp_ros.networks.dense_network import DenseNetwork
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.pipeline.models import load_networks
from pnp_ros.training.config import TrainingConfig
from pnp_ros.training.distributed import Group
from pnp_ros.training.trainer import _claim, initial_networks, new_network

DEMO = Path(__file__).parents[2] / "config/objects/demo"


def test_training_starts_from_the_weights_of_a_package_of_the_same_object() -> None:
    package = load_object_package(DEMO)
    networks = KeypointNetwork(KeypointNetworkConfig.from_plain(package.network)), DetectorNetwork(DetectorConfig())
    started = initial_networks(*networks, package.keypoints, DEMO)
    for network, expected in zip(started, load_networks(package), strict=True):
        for name, tensor in expected.state_dict().items():
            assert torch.equal(network.state_dict()[name], tensor), name


def test_the_package_of_another_object_is_no_start() -> None:
    package = load_object_package(DEMO)
    networks = KeypointNetwork(KeypointNetworkConfig.from_plain(package.network)), DetectorNetwork(DetectorConfig())
    with pytest.raises(ValueError, match="has other keypoints"):
        initial_networks(*networks, package.keypoints + 0.01, DEMO)
    edges = new_network(TrainingConfig(sees="edges"), package.mesh)
    with pytest.raises(ValueError, match=r"start_from: the networks of .* see colours, expected edges"):
        initial_networks(edges, networks[1], package.keypoints, DEMO)


def test_a_dense_network_starts_with_the_layers_it_shares_with_a_keypoint_network() -> None:
    package = load_object_package(DEMO)
    network = new_network(TrainingConfig(network="dense"), package.mesh)
    started, _ = initial_networks(network, DetectorNetwork(DetectorConfig()), package.keypoints, DEMO)
    assert isinstance(started, DenseNetwork)
    for name, tensor in load_networks(package)[0].pyramid.state_dict().items():
        assert torch.equal(started.pyramid.state_dict()[name], tensor), name
    torch.testing.assert_close(started.middle + started.reach, torch.from_numpy(package.mesh.bounds[1]))


def test_poses_alone_teach_the_dense_network_through_epropnp_only() -> None:
    TrainingConfig(network="dense", loss="both", from_poses=True)
    for network, loss in (("keypoints", "both"), ("dense", "lincov"), ("dense", "heatmap")):
        with pytest.raises(ValueError, match="from_poses: expected network dense and loss epropnp or both"):
            TrainingConfig(network=network, loss=loss, from_poses=True)  # type: ignore[arg-type]


def test_checkpoints_of_a_run_that_knew_fewer_settings_are_gone_on_with(tmp_path: Path) -> None:
    mesh, group = load_object_package(DEMO).mesh, Group(torch.device("cpu"))
    _claim(tmp_path, "thing", mesh, TrainingConfig(), group)
    record = json.loads((tmp_path / "run.json").read_text())
    for setting in ("loss", "network", "from_poses", "pose_loss_begin"):
        del record[setting]
    (tmp_path / "run.json").write_text(json.dumps(record))
    _claim(tmp_path, "thing", mesh, TrainingConfig(minutes=3.0, loss="heatmap"), group)  # all that there was
    with pytest.raises(ValueError, match="loss was heatmap, now both"):
        _claim(tmp_path, "thing", mesh, TrainingConfig(loss="both"), group)
