"""Several objects and instances: names that stay, claims that exclude each other."""

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.pipeline.scene import Scene
from pnp_ros.rendering.backgrounds import random_background
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose

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
    steps = 16
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


def test_what_is_wrong_is_named(onboarded: ObjectPackage) -> None:
    with pytest.raises(ValueError, match="packages"):
        Scene([])
    with pytest.raises(ValueError, match="packages"):
        Scene([onboarded, onboarded])
    with pytest.raises(ValueError, match="instances"):
        Scene([onboarded], instances=0)
