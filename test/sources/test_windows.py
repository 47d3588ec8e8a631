"""Presence all over an image: windows are where the object is, and are searched after the detector's places."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from pnp_ros.detection.box import Box
from pnp_ros.detection.detector import Detection, Detector
from pnp_ros.networks.dense_network import DenseNetwork, DenseNetworkConfig
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.models import load_models
from pnp_ros.pipeline.package_sources import network_source
from pnp_ros.sources.windows import Windows

CPU = torch.device("cpu")


class _Filling:
    """Sees a bright square that fills the crop as in training: as bright inside as dark around it."""

    config = SimpleNamespace(crop_size=128, crop_margin=1.25)

    def window_presence(self, images: Tensor) -> Tensor:
        windows = images.mean(1).unfold(1, 128, 32).unfold(2, 128, 32)
        inside, all_of_it = windows[..., 13:115, 13:115].mean((-2, -1)), windows.mean((-2, -1))
        return 60.0 * (inside - (all_of_it * 128**2 - inside * 102**2) / (128**2 - 102**2)) - 12.0


@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (200, 96)])
def test_the_best_window_is_about_where_the_object_is_and_as_large(size: tuple[int, int]) -> None:
    windows = Windows(cast(KeypointNetwork, _Filling()))
    shorter = min(size)
    for side, left, top in ((0.3, 0.1, 0.6), (0.45, 0.5, 0.02), (0.8, 0.15, 0.1)):
        image = np.zeros((*size, 3), np.uint8)
        x, y, length = round(left * size[1]), round(top * size[0]), round(side * shorter)
        image[y : y + length, x : x + length] = 255
        places = windows.detect(image, 4)
        assert places[0].box.overlap(Box(x, y, length, length)) > 0.4
        assert all(place.score >= 0.5 for place in places)
        assert len(places) <= 4
        assert sorted(places, key=lambda place: -place.score) == places
    assert windows.detect(np.zeros((*size, 3), np.uint8), 4) == []


@pytest.mark.parametrize(
    "network",
    [
        KeypointNetwork(KeypointNetworkConfig(num_keypoints=8, crop_size=64, width=8)),
        DenseNetwork(
            DenseNetworkConfig(crop_size=64, width=8, count=64, sees="edges"), torch.tensor([[-1.0] * 3, [1.0] * 3])
        ),
    ],
    ids=["keypoints", "dense"],
)
@torch.inference_mode()
def test_a_window_is_the_crop_but_for_what_it_sees_beyond_its_edges(network: KeypointNetwork | DenseNetwork) -> None:
    network = network.eval()
    crop = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(network.window_presence(crop), network(crop).presence[:, None, None])
    wide = torch.full((1, 3, 192, 256), 0.5)  # grey is zero to the network, as is what lies around a crop
    wide[:, :, 64:128, 96:160] = crop
    alone, among = float(network(crop).presence), network.window_presence(wide)[0]
    assert among.shape == (5, 7)
    spread = float(among.std())
    assert abs(float(among[2, 3]) - alone) < 3.0 * spread + 0.05


def test_windows_follow_where_the_detectors_places_gave_nothing_and_the_mesh_has_no_colours(
    untrained_package: Callable[..., ObjectPackage], tmp_path: Path
) -> None:
    package = untrained_package(tmp_path / "thing")
    models = load_models(package, CPU)
    source = network_source(package, models, CPU)
    first, second = Detection(Box(1.0, 2.0, 30.0, 40.0), 0.9), Detection(Box(5.0, 5.0, 60.0, 60.0), 0.8)
    asked: list[str] = []

    def answering(name: str, found: Detection) -> SimpleNamespace:
        return SimpleNamespace(detect=lambda image, count: asked.append(name) or [found])

    source.detector = cast(Detector, answering("detector", first))
    source.windows = cast(Windows, answering("windows", second))
    places = iter(source.places(np.zeros((64, 64, 3), np.uint8), 3))
    assert (next(places), asked) == (first, ["detector"]), "windows are not calculated before they are needed"
    assert (next(places), asked) == (second, ["detector", "windows"])
    assert network_source(package, models, CPU).windows is models.windows is not None
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 255, package.mesh.vertices.shape, np.uint8)
    painted = dataclasses.replace(package, mesh=dataclasses.replace(package.mesh, vertex_colors=colours))
    assert network_source(painted, models, CPU).windows is None
