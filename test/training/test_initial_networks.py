import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pnp_ros.detection.detector_network import DetectorConfig, DetectorNetwork
from pnp_ros.io.checkpoints import read_tensors
from pnp_ros.io.resources import resource
from pnp_ros.networks.dense_network import DenseNetwork
from pnp_ros.networks.edges import Sees
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.pipeline.models import load_networks
from pnp_ros.training.config import TrainingConfig
from pnp_ros.training.distributed import Group
from pnp_ros.training.trainer import SHARED_LAYERS, START, _claim, initial_networks, new_network

DEMO = Path(__file__).parents[2] / "config/objects/demo"


def test_training_starts_from_the_weights_of_a_package_of_the_same_object() -> None:
    package = load_object_package(DEMO)
    networks = KeypointNetwork(KeypointNetworkConfig.from_plain(package.network)), DetectorNetwork(DetectorConfig())
    started = initial_networks(*networks, package.keypoints, DEMO)
    for network, expected in zip(started, load_networks(package), strict=True):
        for name, tensor in expected.state_dict().items():
            assert torch.equal(network.state_dict()[name], tensor), name


def test_of_another_object_all_layers_are_taken_but_the_last(caplog: pytest.LogCaptureFixture) -> None:
    package = load_object_package(DEMO)
    network = KeypointNetwork(KeypointNetworkConfig(9))
    with caplog.at_level("INFO", "pnp_ros"):
        started, detector = initial_networks(network, DetectorNetwork(DetectorConfig()), package.keypoints[:9], DEMO)
    assert "another object" in caplog.text
    known, known_detector = load_networks(package)
    assert isinstance(started, KeypointNetwork)
    for part in ("pyramid", "head"):
        for name, tensor in getattr(known, part).state_dict().items():
            assert torch.equal(getattr(started, part).state_dict()[name], tensor), name
    assert not started.output.bias.any()
    assert started.output.out_channels == 27
    assert torch.equal(detector.output.weight, known_detector.output.weight)


def test_a_start_that_does_not_fit_is_refused() -> None:
    package = load_object_package(DEMO)
    detector = DetectorNetwork(DetectorConfig())
    edges = new_network(TrainingConfig(sees="edges"), package.mesh)
    with pytest.raises(ValueError, match=r"start_from: the networks of .* see colours, expected edges"):
        initial_networks(edges, detector, package.keypoints, DEMO)
    narrow = new_network(TrainingConfig(width=16), package.mesh)
    with pytest.raises(ValueError, match=r"start_from: the networks of .* have another size"):
        initial_networks(narrow, detector, package.keypoints + 0.01, DEMO)


@pytest.mark.parametrize("sees", ["edges", "colours"])
def test_the_shipped_layers_are_all_but_the_last_and_by_colours_the_first(sees: Sees) -> None:
    package = load_object_package(DEMO)
    config = TrainingConfig(sees=sees, start_from="shipped")
    torch.manual_seed(1)
    fresh = copy.deepcopy(network := new_network(config, package.mesh))
    detector = DetectorNetwork(DetectorConfig(sees=sees))
    untouched = copy.deepcopy(detector)
    started, started_detector = initial_networks(network, detector, package.keypoints, config.start_from)
    shipped = read_tensors(resource(START))
    assert sum(tensor.nbytes for tensor in shipped.values()) < 12e6
    assert {name.split(".")[0] for name in shipped} == set(SHARED_LAYERS)
    for name, tensor in started.state_dict().items():
        known = name in shipped and (sees == "edges" or not name.startswith("pyramid.stem."))
        expected = shipped[name].to(tensor.dtype) if known else fresh.state_dict()[name]
        assert torch.equal(tensor, expected), name
    for name, tensor in started_detector.state_dict().items():
        assert torch.equal(tensor, untouched.state_dict()[name]), name


@pytest.mark.parametrize("other", [{"width": 16}, {"network": "dense"}])
def test_shipped_layers_are_for_one_kind_of_network(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="start_from: shipped are layers of a keypoint network, 32 wide"):
        TrainingConfig(**other, start_from="shipped")


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
