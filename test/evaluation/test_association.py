"""Who is who among several instances: by place, kept from image to image."""

import pytest
import torch

from pnp_ros.evaluation.association import Association
from pnp_ros.evaluation.truth import Truth
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.pipeline.result import FrameResult, ObjectState
from pnp_ros.types import Pose


def _at(x: float) -> Pose:
    return Pose(torch.eye(3, dtype=torch.float64), torch.tensor([x, 0.0, 1.0], dtype=torch.float64))


def _told(**places: float | None) -> dict[str, FrameResult]:
    states = {True: ObjectState.LOST, False: ObjectState.VALID}
    return {n: FrameResult(states[x is None], None if x is None else _at(x), name=n) for n, x in places.items()}


def _true(**places: float) -> dict[str, Truth]:
    return {name: Truth(_at(x), True) for name, x in places.items()}


@pytest.fixture
def association() -> Association:
    """Of an object 0.14 m across: what is 0.07 m away is another one."""
    return Association(load_object_package(resource("config/objects/demo")))


def test_names_are_found_by_place_and_a_change_is_a_swap(association: Association) -> None:
    found, strays = association.pair(_told(cup_0=0.5, cup_1=0.01), _true(a=0.0, b=0.5))
    assert {name: record.name for name, record in found.items()} == {"a": "cup_1", "b": "cup_0"}
    assert (strays, association.swaps) == ([], 0)
    association.pair(_told(cup_0=0.3, cup_1=0.25), _true(a=0.26, b=0.29))
    assert association.swaps == 0
    found, _ = association.pair(_told(cup_0=0.0, cup_1=0.5), _true(a=0.0, b=0.5))
    assert association.swaps == 2
    assert found["a"].name == "cup_0"


def test_a_pair_stays_one_while_it_is_near_enough(association: Association) -> None:
    """Two that pass each other: the nearest one for a moment is the wrong one."""
    association.pair(_told(cup_0=0.0, cup_1=0.5), _true(a=0.0, b=0.5))
    found, _ = association.pair(_told(cup_0=0.26, cup_1=0.24), _true(a=0.24, b=0.26))
    assert (found["a"].name, association.swaps) == ("cup_0", 0)


def test_what_is_nowhere_near_is_false_and_what_is_not_told_is_missed(association: Association) -> None:
    found, strays = association.pair(_told(cup_0=0.0, cup_1=2.0), _true(a=0.0, b=0.5))
    assert [record.name for record in strays] == ["cup_1"]
    assert strays[0].is_false
    assert (found["b"].state, found["b"].is_visible) == (ObjectState.LOST, True)
    found, strays = association.pair(_told(cup_0=0.3, cup_1=0.5), _true(a=0.0, b=0.5))
    assert found["a"].reason == "cup_0 is told elsewhere"
    assert [record.name for record in strays] == ["cup_0"]
    assert found["b"].name == "cup_1"
    absent = {"a": Truth(visible=False), "b": Truth(_at(0.5), True)}
    found, strays = association.pair(_told(cup_0=None, cup_1=0.5), absent)
    assert not found["a"].is_visible
    assert (strays, association.swaps) == ([], 0)
