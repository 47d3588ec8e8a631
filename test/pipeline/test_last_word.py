import numpy as np
import pytest
import torch

from pnp_ros.alignment.aligner import start_at
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.objects.object_package import ObjectPackage, write_object_package
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.last_word import LastWord
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.pipeline.stages import Stages
from pnp_ros.pipeline.tracking import Track
from pnp_ros.rendering.materials import painted_on
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose
from synthetic.cad_parts import block, packaged

CAMERA = Camera.pinhole(330.0, 330.0, 159.5, 119.5, 320, 240)
TRUTH = Pose(so3.exp(torch.tensor([-1.9, 0.5, 0.4])), torch.tensor([0.015, -0.008, 0.30]))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ObjectPackage:
    return packaged(tmp_path_factory.mktemp("objects") / "bracket", "bracket")


@pytest.fixture(scope="module")
def image(package: ObjectPackage) -> np.ndarray:
    """A yellow bracket before a wall."""
    wall = np.random.default_rng(0).normal(110.0, 4.0, (240, 320, 3)).clip(0, 255).astype(np.uint8)
    mesh = painted_on(package.mesh, np.full((8, 8, 3), (224, 176, 32), np.uint8), np.random.default_rng(0))
    with Renderer() as renderer:
        return renderer.render([(renderer.add(mesh), TRUTH)], CAMERA, background=wall).rgb


def word(package: ObjectPackage, **config: bool) -> LastWord:
    track = Track(package.symmetry, package.diameter)
    stages = Stages("solve", "align")
    return LastWord(package, EstimatorConfig(track=False, **config), stages, track, lambda *_: 1.0, None)


def place(state: ObjectState, source: str, score: float = 0.0) -> ObjectEstimate:
    return ObjectEstimate(state, start_at(TRUTH, 0.005, 0.05), name="bracket", score=score, source=source)


def asking(last_word: LastWord, share: float) -> LastWord:
    object.__setattr__(last_word._config, "valid_guess", share)
    return last_word


def more_than_there_can_be(last_word: LastWord) -> LastWord:
    return asking(last_word, 1.1)


def test_a_pose_is_moved_to_where_the_image_shows_the_object(package, image):
    beside = start_at(Pose(so3.exp(torch.tensor([0.0, 0.04, 0.0])) @ TRUTH.rotation, TRUTH.translation), 0.005, 0.05)
    found = word(package).aligned(image, CAMERA, ObjectEstimate(ObjectState.VALID, beside, source="keypoints"))
    assert found.state is ObjectState.VALID
    assert float(so3.angle_between(found.estimate.pose.rotation, TRUTH.rotation)) < 0.015
    assert found.explained > 0.9


def test_without_alignment_a_pose_stays_where_it_is(package, image):
    told = place(ObjectState.VALID, "keypoints")
    assert word(package, align=False).aligned(image, CAMERA, told) is told


def test_colours_of_a_place_that_is_not_believed_are_forgotten(package, image):
    """They would contradict the object at the next place."""
    last_word = more_than_there_can_be(word(package))
    found = last_word.aligned(image, CAMERA, place(ObjectState.LOST, "templates"))
    assert "of the object where templates guess it" in found.reason
    assert not last_word.aligner._colours.known


@pytest.mark.parametrize(
    ("by_network", "state"), [(ObjectState.UNCERTAIN, ObjectState.UNCERTAIN), (ObjectState.VALID, ObjectState.VALID)]
)
def test_where_networks_are_not_sure_the_image_must_show_more(package, image, by_network, state):
    last_word = more_than_there_can_be(word(package))
    assert last_word.aligned(image, CAMERA, place(by_network, "keypoints")).state is state


@pytest.mark.parametrize(("plain", "state"), [(False, ObjectState.VALID), (True, ObjectState.UNCERTAIN)])
def test_a_guess_of_which_the_shading_tells_nothing_must_show_more(package, image, plain, state):
    """An outline alone may be that of a spot on the wall."""
    told = place(ObjectState.LOST, "templates")
    if plain:
        yellow = (image[..., 0].astype(int) - image[..., 2]) > 30
        image = np.where(yellow[..., None], np.uint8([224, 176, 32]), image)
    shown = word(package).aligned(image, CAMERA, told).explained
    assert asking(word(package), shown - 0.05).aligned(image, CAMERA, told).state is state
    assert asking(word(package), shown - 0.15).aligned(image, CAMERA, told).state is ObjectState.VALID


@pytest.mark.parametrize(("plain", "state"), [(False, ObjectState.VALID), (True, ObjectState.UNCERTAIN)])
def test_an_outline_without_dents_and_nothing_inside_may_be_anything(tmp_path, plain, state):
    mesh = block()
    package = write_object_package(tmp_path / "block", name="block", mesh=mesh, keypoints=mesh.extreme_points[:6])
    with Renderer() as renderer:
        shot = renderer.render([(renderer.add(mesh), TRUTH)], CAMERA)
    wall = np.random.default_rng(0).normal(110.0, 4.0, (240, 320, 3)).clip(0, 255).astype(np.uint8)
    inside = np.uint8([224, 176, 32]) if plain else shot.rgb // 2 + np.uint8([80, 40, 0])
    image = np.where(shot.mask[..., None] > 0, inside, wall)
    found = word(package).aligned(image, CAMERA, place(ObjectState.LOST, "templates"))
    assert found.explained > 0.9
    assert found.state is state
    assert ("outline without dents" in found.reason) is plain
    last_word = asking(word(package), found.explained - 0.12)
    assert last_word.aligned(image, CAMERA, place(ObjectState.LOST, "templates")).state is ObjectState.UNCERTAIN
    told = [place(ObjectState.VALID, "keypoints"), place(ObjectState.UNCERTAIN, "keypoints", 0.99)]
    for each in told:  # the networks see more in it
        assert word(package).aligned(image, CAMERA, each).state is ObjectState.VALID
    unsure = place(ObjectState.UNCERTAIN, "keypoints", 0.9)
    assert word(package).aligned(image, CAMERA, unsure).state is state
