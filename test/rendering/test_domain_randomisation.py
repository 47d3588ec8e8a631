"""Random viewpoints: within the ranges and uniform; settings that make no sense are named."""

import math

import numpy as np
import pytest
import torch

from pnp_ros.rendering.domain_randomisation import (
    RandomisationConfig,
    random_camera,
    random_lighting,
    random_pose,
    view_settings,
    with_views,
)

CENTER = np.array([0.01, -0.02, 0.03])


def poses(config, count=600, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        camera = random_camera(config, rng)
        yield camera, random_pose(config, camera, CENTER, 0.1, rng)


def test_poses_are_rigid_in_view_and_at_their_distance():
    config = RandomisationConfig(distance=(3.0, 5.0))
    for camera, pose in poses(config, 100):
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(pose[:3, :3]) > 0
        middle = pose[:3, :3] @ CENTER + pose[:3, 3]
        assert 0.3 <= np.linalg.norm(middle) <= 0.5
        u, v = camera.project(torch.from_numpy(middle[None]).float())[0].tolist()
        assert 0.1 * 640 < u < 0.9 * 640
        assert 0.1 * 480 < v < 0.9 * 480
        assert 0.7 <= float(camera.intrinsics[0]) / 640 <= 1.6


def viewpoint(pose):
    """Elevation of the camera seen from the object, and roll of the image, in radians."""
    middle = pose[:3, :3] @ CENTER + pose[:3, 3]
    toward = -pose[:3, :3].T @ (middle / np.linalg.norm(middle))
    return math.asin(toward[2]), pose[:3, :3]


def test_all_orientations_are_uniform():
    rotations = np.array([pose[:3, :3] for _, pose in poses(RandomisationConfig())])
    assert np.abs(rotations.mean(axis=0)).max() < 0.09  # each entry of a uniform rotation has mean 0, deviation 0.58
    np.testing.assert_allclose((rotations**2).mean(axis=0), 1 / 3, atol=0.06)


def test_elevation_and_roll_stay_within_their_ranges():
    config = RandomisationConfig(elevation=(0.2, 1.2), roll=(-0.3, 0.3))
    elevations, azimuths = [], []
    for _, pose in poses(config, 300):
        elevation, rotation = viewpoint(pose)
        assert 0.2 - 1e-9 <= elevation <= 1.2 + 1e-9
        elevations.append(math.sin(elevation))
        azimuths.append(math.atan2(*(-rotation.T @ pose[:3, 3])[:2]))
        up = rotation[:, 2]  # where the object's z axis points in the image
        assert up[1] < 0.35  # not downwards
    assert np.mean(elevations) == pytest.approx((math.sin(0.2) + math.sin(1.2)) / 2, abs=0.03)
    assert np.std(azimuths) > 1.5
    assert config.roll_jitter < 0.2 < RandomisationConfig().roll_jitter


def test_lighting_varies_from_dim_to_bright():
    rng = np.random.default_rng(0)
    lights = [random_lighting(rng) for _ in range(200)]
    assert {len(light.lights) for light in lights} == {0, 1, 2, 3}
    level = np.array([light.sky[0] for light in lights])
    assert level.min() < 0.4 < 1.0 < level.max()
    assert {light.specular > 0 for light in lights} == {True, False}


@pytest.mark.parametrize(
    "change",
    [
        {"elevation": (1.0, 0.5)},
        {"elevation": (-2.0, 0.5)},
        {"roll": (-4.0, 0.0)},
        {"distance": (0.1, 3.0)},
        {"focal_range": (0.0, 1.0)},
        {"crop_scale": (1.2, 0.8)},
        {"negatives": 1.5},
        {"occlusion": -0.1},
        {"crop_size": 3},
        {"crop_margin": 0.5},
        {"cache_size": 100},
        {"pool": 0},
        {"effects": -1.0},
        {"frame_object_size": (10.0, 1.0)},
        {"min_visible": float("nan")},
    ],
)
def test_senseless_settings_are_named(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        RandomisationConfig(**change)


def test_views_survive_the_object_package() -> None:
    ranges = RandomisationConfig(elevation=(-0.09, math.pi / 2), roll=(-0.8, 0.8), focal_range=(0.9, 1.1))
    again = with_views(RandomisationConfig(), view_settings(ranges))
    assert again.elevation == pytest.approx(ranges.elevation, abs=1e-5)
    assert again.roll == pytest.approx(ranges.roll, abs=1e-5)
    assert again.focal_range == ranges.focal_range
    assert with_views(ranges, {}) == ranges


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"lowest_elevation": 0.0}, "views.largest_roll"), (view_settings(RandomisationConfig()) | {"x": 1}, "views.x")],
)
def test_wrong_views_are_named(settings: dict[str, float], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        with_views(RandomisationConfig(), settings)
