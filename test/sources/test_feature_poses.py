"""One match tells a pose; those that agree on it are right."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import so3
from pnp_ros.sources.feature_poses import FeatureFrames, agreeing, feature_frames
from pnp_ros.types import Pose

PINHOLE = Camera.pinhole(600.0, 620.0, 322.0, 238.0, 640, 480)
FISHEYE = Camera(
    CameraModel.KANNALA_BRANDT,
    torch.tensor([300.0, 300.0, 320.0, 240.0]),
    torch.tensor([0.02, -0.01, 0.003, 0.0]),
    640,
    480,
)
POSE = Pose(so3.exp(torch.tensor([0.4, -0.3, 0.9])), torch.tensor([0.05, -0.04, 0.5]))
DIAMETER, LENGTH = 0.2, 0.004  # metres: of the object, and of a feature's stroke


def features(camera: Camera, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, FeatureFrames]:
    """Strokes on an object: points, axes and sizes on it, and how the camera sees them."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-DIAMETER / 3, DIAMETER / 3, (count, 3)).astype(np.float32)
    strokes = rng.normal(size=(count, 3)).astype(np.float32)
    turn, at = POSE.rotation.numpy(), POSE.transform(torch.from_numpy(points)).numpy()
    rays = at / np.linalg.norm(at, axis=1, keepdims=True)
    along = strokes @ turn.T
    along -= (along * rays).sum(1, keepdims=True) * rays
    along *= LENGTH / np.linalg.norm(along, axis=1, keepdims=True)
    begin, end = (camera.project(torch.from_numpy(v)).numpy() for v in (at, at + along))
    angles = np.degrees(np.arctan2(*(end - begin).T[::-1])).astype(np.float32)
    seen = feature_frames(camera, begin, angles, np.linalg.norm(end - begin, axis=1).astype(np.float32))
    axes = np.stack([along / LENGTH, np.cross(rays, along / LENGTH), rays], axis=2)
    return points, turn.T @ axes, np.full(count, LENGTH, np.float32), seen


@pytest.mark.parametrize("camera", [PINHOLE, FISHEYE], ids=["pinhole", "fisheye"])
def test_a_match_by_itself_tells_the_pose(camera: Camera) -> None:
    points, axes, sizes, seen = features(camera, 20, 0)
    turns = torch.from_numpy(seen.axes @ axes.transpose(0, 2, 1))
    assert float(so3.angle_between(turns, POSE.rotation).max()) < math.radians(1.0)
    distances = POSE.transform(torch.from_numpy(points)).norm(dim=-1).numpy()
    np.testing.assert_allclose(sizes / seen.widths, distances, rtol=0.02)


def test_right_matches_agree_and_those_by_chance_do_not() -> None:
    right, chance = 12, 100
    points, axes, sizes, seen = features(PINHOLE, right + chance, 1)
    rng = np.random.default_rng(2)
    pixels = rng.uniform((0.0, 0.0), (640.0, 480.0), (chance, 2)).astype(np.float32)
    angles, widths = rng.uniform(0.0, 360.0, chance), np.exp(rng.uniform(0.5, 3.0, chance))
    anywhere = feature_frames(PINHOLE, pixels, angles.astype(np.float32), widths.astype(np.float32))
    seen.axes[right:], seen.widths[right:] = anywhere.axes, anywhere.widths
    count = agreeing(points, axes, sizes, seen, DIAMETER, rng.permutation(right + chance))
    assert (count[:right] >= right - 1).all()
    assert (count[right:] >= 2).mean() < 0.35


def test_the_most_trusted_speak_for_all() -> None:
    points, axes, sizes, seen = features(PINHOLE, 300, 3)
    order = np.random.default_rng(0).permutation(300)
    count = agreeing(points, axes, sizes, seen, DIAMETER, order)
    witness = np.zeros(300, bool)
    witness[order[:200]] = True
    assert (count[witness] == 199).all()  # itself it does not count
    assert (count[~witness] == 200).all()


def test_a_feature_without_a_ray_agrees_with_none() -> None:
    """Beyond the fold of a lens."""
    points, axes, sizes, seen = features(PINHOLE, 6, 4)
    seen.axes[0], seen.widths[0] = np.nan, np.nan
    assert agreeing(points, axes, sizes, seen, DIAMETER, np.arange(6)).tolist() == [0, 4, 4, 4, 4, 4]


def test_without_matches_there_is_nothing_to_agree() -> None:
    points, axes, sizes, seen = features(PINHOLE, 0, 5)
    assert agreeing(points, axes, sizes, seen, DIAMETER, np.arange(0)).shape == (0,)
