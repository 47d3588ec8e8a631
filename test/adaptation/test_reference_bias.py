"""Constant errors of references are told from noise, by hypothesis and axis."""

import math
from collections.abc import Callable

import pytest
import torch

from pnp_ros.adaptation.reference_bias import ReferenceBias
from pnp_ros.geometry import so3
from pnp_ros.types import Pose

Spoil = Callable[[Pose, int], Pose]
DIAMETER = 0.136


def _turned(pose: Pose, degrees: tuple[float, float, float], by_object: bool = False) -> Pose:
    turn = so3.exp(torch.deg2rad(torch.tensor(degrees, dtype=torch.float64)))
    return Pose(pose.rotation @ turn if by_object else turn @ pose.rotation, pose.translation)


def _moved(pose: Pose, metres: tuple[float, float, float], by_object: bool = False) -> Pose:
    move = torch.tensor(metres, dtype=torch.float64)
    return Pose(pose.rotation, pose.translation + (pose.rotation @ move if by_object else move))


def _said(spoil: Spoil, seed: int, images: int = 40) -> str:
    """What is said of references with 0.5 deg and 2 mm of noise, spoilt, beside estimates with half of that."""
    torch.manual_seed(seed)
    bias = ReferenceBias(DIAMETER, max_shift=0.04, max_turn=0.04)
    for index in range(images):
        place = torch.tensor([0.1, 0.05, 0.65], dtype=torch.float64) + 0.05 * torch.randn(3, dtype=torch.float64)
        truth = Pose(so3.random_rotation().double(), place)

        def noisy(pose: Pose, share: float) -> Pose:
            turned = _turned(pose, tuple((0.5 * share * torch.randn(3)).tolist()))
            return _moved(turned, tuple((0.002 * share * torch.randn(3)).tolist()))

        bias.add(noisy(truth, 0.5), noisy(spoil(truth, index), 1.0))
    return bias.problem


def _axis(index: int, size: float) -> tuple[float, float, float]:
    return (size * (index == 0), size * (index == 1), size * (index == 2))


POISONS: dict[str, Spoil] = {
    **{f"turn 5 deg, camera {k}": lambda p, i, k=k: _turned(p, _axis(k, 5.0)) for k in range(3)},
    **{f"turn 5 deg, object {k}": lambda p, i, k=k: _turned(p, _axis(k, 5.0), True) for k in range(3)},
    "turn 10 deg": lambda p, i: _turned(p, (0.0, 10.0, 0.0)),
    "depth -2 cm": lambda p, i: _moved(p, (0.0, 0.0, -0.02)),
    "depth +1.5 cm": lambda p, i: _moved(p, (0.0, 0.0, 0.015)),
    "1 cm aside": lambda p, i: _moved(p, (0.01, 0.0, 0.0)),
    "1 cm and 5 deg": lambda p, i: _turned(_moved(p, (0.0, 0.01, 0.0)), (0.0, 0.0, 5.0)),
    "1.5 cm in the object's axes": lambda p, i: _moved(p, (0.0, 0.0, 0.015), True),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", POISONS)
def test_every_constant_error_is_told(name: str, seed: int) -> None:
    assert _said(POISONS[name], seed)


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_no_bias(seed: int) -> None:
    for images in (10, 20, 40):
        assert _said(lambda pose, _: pose, seed, images) == ""


def test_a_focal_length_one_percent_off_is_no_bias() -> None:
    assert _said(lambda pose, _: Pose(pose.rotation, 1.01 * pose.translation), 0) == ""


def test_too_few_images_tell_nothing() -> None:
    assert _said(lambda pose, _: _turned(pose, (math.pi, 0.0, 0.0)), 0, images=9) == ""
