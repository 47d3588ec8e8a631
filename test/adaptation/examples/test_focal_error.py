"""A wrong focal length is told from references that are wrong by as many metres, near and far."""

import numpy as np
import pytest
import torch

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.examples.buffer import ReplayBuffer
from pnp_ros.adaptation.examples.example import ExampleCutter
from pnp_ros.adaptation.examples.focal_error import FocalError
from pnp_ros.adaptation.examples.witness import Witness
from pnp_ros.objects.object_package import ObjectPackage

MOST = AdaptationConfig.max_depth_bias


def gathered(share: float, metres: float, images: int, seed: int, spread: float = 0.1) -> FocalError:
    """One image a second of an object 0.65 m away; each is 0.7 % of the distance off, as blurred images are."""
    rng, found = np.random.default_rng(seed), FocalError(MOST)
    for index in range(images):
        distance = float(np.clip(rng.normal(0.65, spread), 0.4, 0.9))
        found.add(1_000_000_000 * index, distance, share + metres / distance + rng.normal(0.0, 0.007))
    return found


@pytest.mark.parametrize("share", [-0.012, 0.009])
@pytest.mark.parametrize("seed", range(5))
def test_a_focal_error_is_told(share: float, seed: int) -> None:
    assert gathered(share, 0.0, 200, seed).share == pytest.approx(share, abs=0.0025)


@pytest.mark.parametrize(("share", "metres"), [(0.0, 0.015), (-0.012, 0.015), (0.0, -0.02), (0.012, -0.02)])
@pytest.mark.parametrize("images", [45, 100, 200])
@pytest.mark.parametrize("seed", range(5))
def test_wrong_references_tell_none(share: float, metres: float, images: int, seed: int) -> None:
    assert gathered(share, metres, images, seed).share == 0.0


def test_few_images_and_one_distance_tell_none() -> None:
    assert gathered(0.012, 0.0, 39, 0).share == 0.0
    assert gathered(0.012, 0.0, 300, 0, spread=0.005).share == 0.0
    crowded = FocalError(MOST)
    for index in range(300):
        crowded.add(30_000_000 * index, 0.5 + 0.001 * index, 0.01)  # 9 s
    assert crowded.share == 0.0


def test_what_was_told_is_forgotten_and_refuted() -> None:
    found = gathered(0.012, 0.0, 200, 1)
    for index in range(300):
        distance = 0.5 + 0.001 * index
        found.add(1_000_000_000 * (200 + index), distance, 0.018 / distance - 0.012)
    assert found.share == 0.0
    found = gathered(0.012, 0.0, 200, 1)
    found.forget()
    assert found.share == 0.0


def test_examples_follow_what_is_known(demo: ObjectPackage, examples: list) -> None:
    cutter = ExampleCutter(demo, Witness(demo.mesh))
    buffer = ReplayBuffer(10, 10)
    for example in examples:
        buffer.add(example)
    buffer.change(lambda example: cutter.corrected(example, 0.01))
    for before, after in zip(examples, sorted(buffer.learnt + buffer.held_back, key=lambda each: each.stamp_ns)):
        torch.testing.assert_close(after.pose.translation, 1.01 * before.pose.translation)
        assert float((after.keypoints - before.keypoints).abs().max()) > 0.1
        back = cutter.corrected(after, 0.0)
        torch.testing.assert_close(back.keypoints, before.keypoints, atol=1e-3, rtol=0.0)
