"""Keypoints lie on the surface, spread out, and are the same every time."""

import numpy as np
import pytest
import trimesh

from pnp_ros.objects.keypoints import select_keypoints
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.surface import sample_surface


@pytest.fixture
def ellipsoid() -> TriangleMesh:
    sphere = trimesh.creation.icosphere(subdivisions=3)
    return TriangleMesh(sphere.vertices * [0.05, 0.07, 0.1], sphere.faces)


@pytest.mark.parametrize("count", [4, 16, 64])
def test_keypoints_are_on_the_surface_and_spread(ellipsoid, count):
    keypoints = select_keypoints(ellipsoid, count)
    assert keypoints.shape == (count, 3)
    radius = np.linalg.norm(keypoints / [0.05, 0.07, 0.1], axis=1)
    assert np.all((radius > 0.98) & (radius < 1.0001))
    separation = np.linalg.norm(keypoints[:, None] - keypoints, axis=-1) + np.eye(count)
    random = sample_surface(ellipsoid, count)
    random_separation = np.linalg.norm(random[:, None] - random, axis=-1) + np.eye(count)
    assert separation.min() > 2.0 * random_separation.min()
    covered = np.linalg.norm(sample_surface(ellipsoid, 2000, seed=9)[:, None] - keypoints, axis=-1).min(axis=1)
    assert covered.max() <= separation.min() * 1.1  # no part of the surface is farther than the keypoints are apart


def test_keypoints_are_deterministic_and_start_far_from_the_centroid(ellipsoid):
    keypoints = select_keypoints(ellipsoid)
    np.testing.assert_array_equal(keypoints, select_keypoints(ellipsoid))
    np.testing.assert_allclose(np.abs(keypoints[:2, 2]), 0.1, rtol=1e-3)  # the two ends of the long axis


def test_too_few_keypoints_are_refused(ellipsoid):
    with pytest.raises(ValueError, match="count"):
        select_keypoints(ellipsoid, 3)


def test_surface_samples_are_uniform_over_the_area():
    big_and_small = TriangleMesh(
        np.array([[0, 0, 0], [3, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1]]), np.array([[0, 1, 2], [3, 4, 5]])
    )
    samples = sample_surface(big_and_small, 8000)
    assert np.mean(samples[:, 2] == 0) == pytest.approx(0.75, abs=0.02)
    np.testing.assert_allclose(samples[samples[:, 2] == 0].mean(axis=0), [1.0, 1 / 3, 0.0], atol=0.03)
