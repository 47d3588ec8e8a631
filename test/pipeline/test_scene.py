"""Several objects and instances: names that stay, claims that exclude each other."""

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.pipeline.scene import Scene
from pnp_ros.rendering.backgrounds import random_background
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose, PoseEstimate

CAMERA = Camera.pinhole(600.0, 600.0, 319.5, 239.5, 640, 480)
TURN = so3.exp(torch.tensor([0.4, 0.6, 0.2]))


@pytest.fixture(scope="module")
def demo() -> ObjectPackage:
    return load_object_package(resource("config/objects/demo"))


def _image(items: list[tuple[ObjectPackage, Pose]]) -> np.ndarray:
    background = random_background(640, 480, np.random.default_rng(9))
    with Renderer() as renderer:
        handles = {package.name: renderer.add(package.mesh) for package, _ in items}
        return renderer.render([(handles[p.name], pose) for p, pose in items], CAMERA, background=background).rgb


def _at(x: float, z: float = 0.5) -> Pose:
    return Pose(TURN, torch.tensor([x, 0.0, z]))


def _off(found: ObjectEstimate, truth: Pose) -> float:
    assert found.estimate is not None, found.reason
    return float((found.estimate.pose.translation - truth.translation).norm())


def test_two_objects_and_two_instances_of_one(onboarded: ObjectPackage, demo: ObjectPackage) -> None:
    scene = Scene([onboarded, demo], instances=2)
    assert list(scene.estimators) == ["box_0", "box_1", "demo_0", "demo_1"]
    truth = {"box": [_at(-0.14), _at(0.0)], "demo": [_at(0.16, 0.6)]}
    image = _image([(onboarded, pose) for pose in truth["box"]] + [(demo, truth["demo"][0])])
    for _ in range(5):  # one of the lost is searched in each image
        found = scene.estimate(image, CAMERA)
    valid = {name: item for name, item in found.items() if item.state is ObjectState.VALID}
    assert len(valid) == 3
    assert all(item.name == name.split("_")[0] for name, item in valid.items())
    for name, places in truth.items():
        items = [item for item in valid.values() if item.name == name]
        assert sorted(min(range(len(places)), key=lambda k: _off(item, places[k])) for item in items) == list(
            range(len(places))
        )
        assert all(min(_off(item, place) for place in places) < 0.005 for item in items)
    (missing,) = set(found) - set(valid)
    assert found[missing].state is ObjectState.LOST
    assert found[missing].name == "demo"


def test_names_stay_through_a_crossing(onboarded: ObjectPackage) -> None:
    """One passes in front of the other one, of the same print; both keep their names, and none is told twice."""
    steps = 12
    scene = Scene([onboarded], instances=2)
    first = {}
    for k in range(steps + 4):
        shift = 0.3 * max(0, k - 4) / steps - 0.15
        near, far = _at(shift, 0.42), _at(-0.05, 0.62)
        found = scene.estimate(_image([(onboarded, far), (onboarded, near)]), CAMERA, k / 30.0)
        told = {name: item for name, item in found.items() if item.state is ObjectState.VALID}
        for name, item in told.items():
            which = min((("near", near), ("far", far)), key=lambda entry: _off(item, entry[1]))
            assert _off(item, which[1]) < 0.01
            assert first.setdefault(name, which[0]) == which[0]
        assert len({first[name] for name in told}) == len(told)
    assert len(told) == 2


def test_an_image_has_one_search_and_what_is_not_found_is_searched_less_often(
    onboarded: ObjectPackage, demo: ObjectPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []
    real = PoseEstimator.estimate

    def estimate(self: PoseEstimator, *args: object, **options: object) -> ObjectEstimate:
        if options.get("search", True):
            searched.append(self.package.name)
        return real(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(PoseEstimator, "estimate", estimate)
    scene, black, counts = Scene([onboarded, demo], instances=3), np.zeros((480, 640, 3), np.uint8), []
    for _ in range(24):
        before = len(searched)
        found = scene.estimate(black, CAMERA)
        counts.append(len(searched) - before)
        assert {item.state for item in found.values()} == {ObjectState.LOST}
    assert max(counts) == 1
    assert set(searched[:2]) == {"box", "demo"}
    assert 2 * 3 <= sum(counts) <= 2 * 6  # every eighth image each, after some at the beginning
    assert any("not looked for" in item.reason for item in found.values())


def test_a_found_instance_gets_the_name_of_the_one_last_seen_nearest(onboarded: ObjectPackage) -> None:
    scene = Scene([onboarded], instances=3)
    scene._last = {"box_0": (_at(-0.2), 0.0), "box_1": (_at(0.2), 0.0)}
    scene._clock = 1.0
    names = list(scene.estimators)
    assert scene._named(names, _at(-0.1)) == "box_0"
    assert scene._named(names, _at(0.12)) == "box_1"
    assert scene._named(names, _at(3.0)) == "box_2"  # neither can have come so far
    assert scene._named(names[:2], _at(3.0)) == "box_1"


def test_what_is_in_front_is_not_compared_with_what_it_hides(
    onboarded: ObjectPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image of the far one is flat where the near one is; that of the near one is as it was."""
    places, seen = {"box_0": _at(0.0, 0.8), "box_1": _at(0.04, 0.5)}, {}

    def estimate(self: PoseEstimator, image: np.ndarray, *_: object, **__: object) -> ObjectEstimate:
        (name,) = (name for name, each in scene.estimators.items() if each is self)
        seen[name] = image
        return ObjectEstimate(ObjectState.VALID, PoseEstimate.of(places[name], 1e-6 * torch.eye(6)), name="box")

    monkeypatch.setattr(PoseEstimator, "estimate", estimate)
    scene = Scene([onboarded], instances=2)
    for name, pose in places.items():
        scene.estimators[name].follow(pose, 0.0)
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
    scene.estimate(image, CAMERA, 0.01)
    assert seen["box_1"] is image
    centre = CAMERA.project(places["box_1"].translation[None])[0].round().int().tolist()
    flat = seen["box_0"][centre[1] - 5 : centre[1] + 6, centre[0] - 5 : centre[0] + 6]
    assert (flat == flat[0, 0]).all()
    same = (seen["box_0"] == image).all(-1)
    assert 0.7 < same.mean() < 0.99


def test_objects_come_and_go(onboarded: ObjectPackage, demo: ObjectPackage) -> None:
    scene = Scene([onboarded])
    assert scene.add(demo, 2) == ("demo_0", "demo_1")
    image = _image([(onboarded, _at(-0.1)), (demo, _at(0.12, 0.6))])
    for _ in range(3):
        found = scene.estimate(image, CAMERA)
    assert list(found) == ["box", "demo_0", "demo_1"]
    assert [item.state for item in found.values()].count(ObjectState.VALID) == 2
    for package, count, named in ((demo, 1, "demo"), (onboarded, 3, "box"), (demo, 0, "instances")):
        with pytest.raises(ValueError, match=named):
            scene.add(package, count)
    with pytest.raises(ValueError, match="box, demo, got 'cup'"):
        scene.remove("cup")
    assert scene.remove("demo") == ("demo_0", "demo_1")
    found = scene.estimate(image, CAMERA)
    assert list(found) == ["box"]
    assert found["box"].state is ObjectState.VALID
    assert scene.add(demo) == ("demo",)
    scene.remove("box")
    scene.remove("demo")
    assert scene.estimate(image, CAMERA) == {}


def test_what_is_wrong_is_named(onboarded: ObjectPackage) -> None:
    with pytest.raises(ValueError, match="packages"):
        Scene([])
    with pytest.raises(ValueError, match="packages"):
        Scene([onboarded, onboarded])
    with pytest.raises(ValueError, match="instances"):
        Scene([onboarded], instances=0)
