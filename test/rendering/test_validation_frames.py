"""Held-out frames: the pose projects onto the object, hidden shares are told, the same seed gives the same images."""

import numpy as np
import pytest
import torch

from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.rendering.domain_randomisation import RandomisationConfig
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.rendering.validation_frames import validation_frames


def test_frames_show_the_object_where_they_say():
    mesh = demo_mesh()
    config = RandomisationConfig(negatives=0.2, occlusion=0.6, effects=0.0, distance=(2.0, 4.0))
    frames = list(validation_frames(mesh, config, 24, seed=6))
    shown = [frame for frame in frames if frame.T_camera_object is not None]
    assert 0 < len(frames) - len(shown) < 12
    assert all(frame.rgb.shape == (480, 640, 3) and frame.rgb.dtype == np.uint8 for frame in frames)
    assert all(frame.visible >= config.min_visible for frame in shown)
    assert any(frame.visible < 0.95 for frame in shown)
    assert all(frame.visible == 0.0 for frame in frames if frame.T_camera_object is None)
    likeness = []
    with Renderer() as renderer:
        handle = renderer.add(mesh)
        for frame in shown:
            if frame.visible < 0.99:
                continue
            alone = renderer.render([(handle, torch.from_numpy(frame.T_camera_object))], frame.camera)
            pixels = alone.mask > 0
            pair = np.stack([alone.rgb[pixels].mean(axis=1), frame.rgb[pixels].mean(axis=1)])
            likeness.append(np.corrcoef(pair)[0, 1])
    assert len(likeness) >= 5
    assert np.median(likeness) > 0.85


def test_the_same_seed_gives_the_same_frames():
    mesh, config = demo_mesh(), RandomisationConfig(image_size=(160, 120))
    first, again = (list(validation_frames(mesh, config, 3, seed=9)) for _ in range(2))
    other = next(validation_frames(mesh, config, 1, seed=10))
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a.rgb, b.rgb)
        assert a.visible == pytest.approx(b.visible)
    assert not np.array_equal(first[0].rgb, other.rgb)
