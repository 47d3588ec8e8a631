"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import settings

from pnp_ros.detection.detector_network import DetectorConfig, DetectorNetwork
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig
from pnp_ros.objects.keypoints import select_keypoints
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import ObjectPackage, write_object_package
from pnp_ros.pipeline.models import weights_of

settings.register_profile("repeatable", derandomize=True, deadline=None)  # the same examples in every run
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def untrained_package() -> Callable[..., ObjectPackage]:
    """Writes packages whose networks know nothing, but load and run quickly; of a tetrahedron unless told otherwise."""

    def write(
        folder: Path, name: str = "tetrahedron", mesh: TriangleMesh | None = None, seed: int = 0, width: int = 8
    ) -> ObjectPackage:
        torch.manual_seed(seed)
        network = KeypointNetwork(KeypointNetworkConfig(8, crop_size=64, width=width))
        detector = DetectorNetwork(DetectorConfig(160, 128, 4))
        if mesh is None:
            vertices = 0.05 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.2]], np.float32)
            mesh = TriangleMesh(vertices, np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], np.int32))
        return write_object_package(
            folder,
            name=name,
            mesh=mesh,
            keypoints=select_keypoints(mesh, 8),
            network=network.config.to_plain(),
            detector=detector.config.to_plain(),
            weights=safetensors.torch.save(weights_of(network, detector)),
        )

    return write
