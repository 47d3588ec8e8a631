from pathlib import Path

import pytest
import torch

from pnp_ros.detection.detector_network import DetectorConfig, DetectorNetwork
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.pipeline.models import load_networks
from pnp_ros.training.trainer import initial_networks

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
