"""Steps bring the losses down, touch only the copies, and give the same weights again."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.examples.example import WINDOW_MARGIN, Example
from pnp_ros.adaptation.learning.learner import Learner, randomisation
from pnp_ros.adaptation.learning.objective import RealCrops, real_crops
from pnp_ros.adaptation.supervision import GIVEN, OWN, Supervision
from pnp_ros.networks.keypoint_network import KeypointNetwork
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.models import load_networks

# So dark that there is much to learn, which gives margins: of the error before, seeds 0 to 2 leave 0.36 to 0.43, in
# bfloat16 and in float32 with AVX2. At dusk there is little to learn, and seeds 0 to 4 leave 0.88 to 1.00.
NIGHT, DUSK = 0.06, 0.3
CONFIG = AdaptationConfig(batch=18, learning_rate=6e-4, check_steps=48)


class Night(NamedTuple):
    """A training in the dark."""

    examples: list[Example]
    half_way: KeypointNetwork
    learner: Learner
    losses: list[float]


def darkened(examples: list[Example], light: float) -> list[Example]:
    return [dataclasses.replace(example, window=(light * example.window).astype(np.uint8)) for example in examples]


def learnt(
    package: ObjectPackage, examples: list[Example], steps: int, supervision: Supervision = GIVEN
) -> tuple[Learner, list[float]]:
    learner = Learner(package, CONFIG, torch.device("cpu"), supervision)
    learner.start(*load_networks(package), examples)
    losses = [learner.step(examples) for _ in range(steps)]
    return learner, [loss.reprojection + loss.correspondence for loss in losses]


def crops_of(examples: list[Example], demo: ObjectPackage) -> RealCrops:
    generator = torch.Generator().manual_seed(5)
    return real_crops(examples, torch.from_numpy(demo.keypoints), 128, 1.25, WINDOW_MARGIN, 0.25, generator)


def error(network: KeypointNetwork, demo: ObjectPackage, examples: list[Example]) -> float:
    """Median keypoint error in crop pixels."""
    crops = crops_of(examples, demo)
    return float((network.predict(crops.images).image_points - crops.keypoints).norm(dim=-1).median())


@pytest.fixture(scope="module")
def night(demo: ObjectPackage, examples: list[Example]) -> Night:
    """Forty-eight steps in the dark, and the keypoint network as it was half way."""
    dark = darkened(examples, NIGHT)
    learner, losses = learnt(demo, dark, 24)
    half_way = learner.candidate()[0]
    losses += [loss.reprojection + loss.correspondence for loss in (learner.step(dark) for _ in range(24))]
    return Night(dark, half_way, learner, losses)


def test_keypoints_get_better(demo: ObjectPackage, night: Night) -> None:
    assert all(np.isfinite(night.losses))
    before = error(load_networks(demo)[0].eval(), demo, night.examples)
    half, after = (error(night.learner.candidate(share)[0], demo, night.examples) for share in (0.5, 1.0))
    assert after < 0.75 * before
    assert half < 0.85 * before
    start = night.learner.candidate(0.0)[0].state_dict()
    assert all(torch.equal(value, start[name]) for name, value in load_networks(demo)[0].state_dict().items())


def test_the_candidate_differs_and_the_package_does_not(demo: ObjectPackage, examples: list[Example]) -> None:
    learner, _ = learnt(demo, examples, 4)
    before, _ = load_networks(demo)
    after, detector = learner.candidate()
    changed = {name for name, value in after.state_dict().items() if not torch.equal(value, before.state_dict()[name])}
    assert any(name.endswith("weight") for name in changed)
    assert not any("running" in name for name in changed), "batch normalisation keeps its statistics"
    assert all(bool(torch.isfinite(value).all()) for value in detector.state_dict().values())


def test_the_same_seed_gives_the_same_weights(demo: ObjectPackage, examples: list[Example]) -> None:
    first, second = (learnt(demo, examples, 3)[0].candidate()[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_its_own_poses_hardly_change_how_certain_it_is(demo: ObjectPackage, night: Night) -> None:
    images = crops_of(night.examples, demo).images
    before = load_networks(demo)[0].eval().predict(images).sigma

    def change(network: KeypointNetwork) -> float:
        """Of the log sigmas, root mean square."""
        return float((network.eval().predict(images).sigma / before).log().square().mean().sqrt())

    own, _ = learnt(demo, night.examples, 24, OWN)
    assert change(own.candidate()[0]) < 0.7 * change(night.half_way)


def test_held_firmer_it_answers_renders_more_as_before(demo: ObjectPackage, examples: list[Example]) -> None:
    examples = darkened(examples, DUSK)

    def held(firmer: int, steps: int) -> tuple[KeypointNetwork, Tensor]:
        """After so many steps, with renders to try it on."""
        learner = Learner(demo, CONFIG, torch.device("cpu"))
        for _ in range(firmer):
            learner.hold_firmer()
        learner.start(*load_networks(demo), examples)
        for _ in range(steps):
            learner.step(examples)
        return learner.candidate()[0].eval(), learner._sampler.crops(32).images

    def change(firmer: int) -> float:
        """Of the keypoints on renders, median in crop pixels."""
        network, renders = held(firmer, 24)
        before = load_networks(demo)[0].eval().predict(renders)
        return float((network.predict(renders).image_points - before.image_points).norm(dim=-1).median())

    once, twice = change(0), change(2)
    assert twice < 0.9 * once  # seeds 0 to 2 leave 0.65, 0.81 and 0.73
    first, second = (held(firmer, 2)[0].state_dict() for firmer in (2, 9))
    assert all(torch.equal(first[n], second[n]) for n in first), "it has a limit, or nothing more would be learnt"


def test_renders_beside_the_real_images_have_the_colours_of_the_training(demo: ObjectPackage) -> None:
    assert randomisation(demo).colour == ("mesh",)
    assert randomisation(dataclasses.replace(demo, colour=("any",))).colour == ("any",)
