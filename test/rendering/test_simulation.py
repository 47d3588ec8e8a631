import itertools
import math

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera, camera_from_info
from pnp_ros.geometry import so3
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.rendering.simulation import ABSENCE_S, OCCLUSION_S, SimulatedScene, SimulationConfig

pytest.importorskip("moderngl")
CAMERA = Camera.pinhole(300.0, 300.0, 159.5, 119.5, 320, 240)
RATE = 10.0


@pytest.fixture(scope="module")
def scene() -> SimulatedScene:
    return SimulatedScene(demo_mesh(), CAMERA)


def _index(time: float) -> int:
    return round(time * RATE)


def test_same_seed_and_index_give_the_same_bytes(scene: SimulatedScene) -> None:
    again = SimulatedScene(demo_mesh(), CAMERA).frame(7, RATE)
    assert again.rgb.tobytes() == scene.frame(7, RATE).rgb.tobytes()
    other = SimulatedScene(demo_mesh(), CAMERA, SimulationConfig(seed=1)).frame(7, RATE)
    assert other.pose is not None
    assert other.rgb.tobytes() != again.rgb.tobytes()


@pytest.mark.parametrize("time", [0.0, 3.3, 6.1, 13.0, 18.9])
def test_truth_is_where_the_object_is_seen(scene: SimulatedScene, time: float) -> None:
    frame = scene.frame(_index(time), RATE)
    assert frame.pose is not None
    assert frame.box is not None
    assert frame.visible == 1.0
    vertices = torch.from_numpy(demo_mesh().vertices.astype(np.float64))
    pixels = CAMERA.to(dtype=torch.float64).project(frame.pose.transform(vertices)).numpy()
    x, y, width, height = frame.box
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    np.testing.assert_allclose([x, y], low, atol=1.5)
    np.testing.assert_allclose([x + width - 1, y + height - 1], high, atol=1.5)
    assert low.min() > 0
    assert (high < [320, 240]).all()


def test_object_is_partly_hidden_then_absent(scene: SimulatedScene) -> None:
    hidden = scene.frame(_index(sum(OCCLUSION_S) / 2), RATE)
    assert 0.4 < hidden.visible < 0.9
    absent = scene.frame(_index(sum(ABSENCE_S) / 2), RATE)
    assert absent.pose is None
    assert absent.box is None
    assert absent.visible == 0.0


def test_path_is_smooth_and_seen_from_above(scene: SimulatedScene) -> None:
    poses = [scene.pose(i / RATE) for i in range(200)]
    for a, b in itertools.pairwise(poses):
        assert so3.angle_between(a.rotation, b.rotation) < math.radians(15.0)
        assert (a.translation - b.translation).norm() < 0.1
    for pose in poses:
        eye = -(pose.rotation.mT @ pose.translation)
        assert eye[2] > 0.0


def test_distorted_camera_keeps_the_truth() -> None:
    k = [300.0, 0.0, 159.5, 0.0, 300.0, 119.5, 0.0, 0.0, 1.0]
    camera = camera_from_info(320, 240, "plumb_bob", [-0.3, 0.1, 0.001, -0.001, 0.0], k)
    frame = SimulatedScene(demo_mesh(), camera).frame(0, RATE)
    assert frame.pose is not None
    assert frame.box is not None
    vertices = torch.from_numpy(demo_mesh().vertices.astype(np.float64))
    pixels = camera.to(dtype=torch.float64).project(frame.pose.transform(vertices)).numpy()
    np.testing.assert_allclose(frame.box[:2], pixels.min(axis=0), atol=1.5)


@pytest.mark.parametrize(
    "field", [{"elevation": (1.0, 0.5)}, {"distance": (0.5, 2.0)}, {"distance": 3.0}, {"occlusion": 1.0}]
)
def test_wrong_settings_are_named(field: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        SimulationConfig(**field)
