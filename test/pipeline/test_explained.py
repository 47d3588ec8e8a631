"""What is left of an image without the objects that explain parts of it."""

import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.pipeline.explained import Explained
from pnp_ros.types import Pose

CAMERA = Camera.pinhole(600.0, 600.0, 319.5, 239.5, 640, 480)
CUBE = 0.05 * np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), -1).reshape(-1, 3).astype(np.float32)
TURN = so3.exp(torch.tensor([0.4, 0.6, 0.2]))


def _at(x: float, z: float) -> Pose:
    return Pose(TURN, torch.tensor([x, 0.0, z]))


def _explained() -> Explained:
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
    return Explained(image, CAMERA, {"a": CUBE, "b": CUBE})


def test_what_was_given_stays_as_it_is() -> None:
    """A look that is put off until the pose is out sees what it was given; and the image is nobody's to paint on."""
    places = {"a": _at(0.02, 0.5), "b": _at(0.0, 0.8)}, {"b": _at(0.27, 0.5)}, {"a": _at(-0.5, 0.5)}, {}
    shared = _explained()
    before = shared.image.copy()
    given = [shared.without(each) for each in places]
    assert all((left == _explained().without(each)).all() for left, each in zip(given, places))
    assert (given[-1] == before).all()
    assert (shared.image == before).all()


def test_what_is_painted_is_flat_and_the_rest_is_the_image() -> None:
    explained = _explained()
    left = explained.without({"a": _at(0.0, 0.5)}, 1.1)
    changed = (left != explained.image).any(-1)
    assert len(np.unique(left[changed], axis=0)) == 1
    rows, columns = np.nonzero(changed)
    assert abs(rows.mean() - 239.5) < 5.0
    assert abs(columns.mean() - 319.5) < 5.0
    assert changed.sum() > (explained.without({"a": _at(0.0, 0.5)}) != explained.image).any(-1).sum()


def test_an_object_is_behind_those_that_hide_most_of_it() -> None:
    near = {"a": _at(0.0, 0.4)}
    explained = _explained()
    assert explained.behind("b", _at(0.0, 0.8), near) == ["a"]
    assert explained.behind("b", _at(0.15, 0.8), near) == []
    assert explained.behind("b", _at(0.0, 0.3), near) == []
    assert explained.behind("b", _at(0.0, -0.8), near) == []  # not in view at all
