"""Steps bring the losses down, touch only the copies, and give the same weights again."""

import dataclasses

import numpy as np
import torch

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.example import WINDOW_MARGIN, Example
from pnp_ros.adaptation.learner import Learner, randomisation
from pnp_ros.adaptation.objective import RealCrops, real_crops
from pnp_ros.adaptation.supervision import GIVEN, OWN, Supervision
from pnp_ros.networks.keypoint_network import KeypointNetwork
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.models import load_networks

# So dark that there is much to learn, which gives margins: of the error before, seeds 0 to 2 leave 0.36 to 0.43, in
# bfloat16 and in float32 with AVX2. At dusk there is little to learn, and seeds 0 to 4 leave 0.88 to 1.00.
NIGHT, DUSK = 0.06, 0.3
CONFIG = AdaptationConfig(batch=18, learning_rate=6e-4, check_steps=48)


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


def test_keypoints_get_better(demo: ObjectPackage, examples: list[Example]) -> None:
    examples = darkened(examples, NIGHT)
    learner, losses = learnt(demo, examples, 48)
    assert all(np.isfinite(losses))
    before = error(load_networks(demo)[0].eval(), demo, examples)
    half, after = (error(learner.candidate(share)[0], demo, examples) for share in (0.5, 1.0))
    assert after < 0.75 * before
    assert half < 0.85 * before
    start = learner.candidate(0.0)[0].state_dict()
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


def test_its_own_poses_hardly_change_how_certain_it_is(demo: ObjectPackage, examples: list[Example]) -> None:
    examples = darkened(examples, NIGHT)
    images = crops_of(examples, demo).images

    def change(supervision: Supervision) -> float:
        """Of the log sigmas, root mean square."""
        learner, _ = learnt(demo, examples, 24, supervision)
        after, before = (each.eval().predict(images).sigma for each in (learner.candidate()[0], load_networks(demo)[0]))
        return float((after / before).log().square().mean().sqrt())

    assert change(OWN) < 0.7 * change(GIVEN)


def test_held_firmer_it_answers_renders_more_as_before(demo: ObjectPackage, examples: list[Example]) -> None:
    examples = darkened(examples, DUSK)

    def change(firmer: int) -> float:
        """Of the keypoints on renders, median in crop pixels."""
        learner = Learner(demo, CONFIG, torch.device("cpu"))
        for _ in range(firmer):
            learner.hold_firmer()
        learner.start(*load_networks(demo), examples)
        for _ in range(24):
            learner.step(examples)
        renders = learner._sampler.crops(32).images
        after, before = (each.eval().predict(renders) for each in (learner.candidate()[0], load_networks(demo)[0]))
        return float((after.image_points - before.image_points).norm(dim=-1).median())

    once, twice, often = change(0), change(2), change(9)
    assert twice < 0.9 * once  # seeds 0 to 2 leave 0.65, 0.81 and 0.73
    assert often == twice, "it has a limit, or nothing more would be learnt"


def test_renders_beside_the_real_images_have_the_colours_of_the_training(demo: ObjectPackage) -> None:
    assert randomisation(demo).colour == ("mesh",)
    assert randomisation(dataclasses.replace(demo, colour=("any",))).colour == ("any",)
