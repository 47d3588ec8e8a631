"""Constant errors of references are told from noise, by hypothesis and axis."""

import math
from collections.abc import Callable

import pytest
import torch

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.examples.reference_bias import Displacement, ReferenceBias
from pnp_ros.geometry import so3
from pnp_ros.types import Pose

Spoil = Callable[[Pose, int], Pose]
DIAMETER, RATE = 0.136, 0.5  # m; seconds between two images


def _turned(pose: Pose, degrees: tuple[float, float, float], by_object: bool = False) -> Pose:
    turn = so3.exp(torch.deg2rad(torch.tensor(degrees, dtype=torch.float64)))
    return Pose(pose.rotation @ turn if by_object else turn @ pose.rotation, pose.translation)


def _moved(pose: Pose, metres: tuple[float, float, float], by_object: bool = False) -> Pose:
    move = torch.tensor(metres, dtype=torch.float64)
    return Pose(pose.rotation, pose.translation + (pose.rotation @ move if by_object else move))


def _path(seconds: float) -> Pose:
    """Smooth motion, as fast as a hand's."""
    place = [0.1 + 0.08 * math.sin(1.1 * seconds), 0.05 * math.cos(0.7 * seconds), 0.65 + 0.1 * math.sin(0.3 * seconds)]
    turn = torch.tensor([0.3 * math.sin(0.5 * seconds), 0.4 * seconds, 0.2], dtype=torch.float64)
    return Pose(so3.exp(turn), torch.tensor(place, dtype=torch.float64))


def _noisy(pose: Pose, share: float) -> Pose:
    turned = _turned(pose, tuple((0.5 * share * torch.randn(3)).tolist()))
    return _moved(turned, tuple((0.002 * share * torch.randn(3)).tolist()))


def _said_after(images: tuple[int, ...], spoil: Spoil, seed: int) -> list[str]:
    """What is said after so many images.

    References have 0.5 deg and 2 mm of noise and are spoilt; images show the object with half of that noise.
    """
    torch.manual_seed(seed)
    bias, said = ReferenceBias(AdaptationConfig(), DIAMETER), []
    for index in range(max(images)):
        truth = _path(10.0 * seed + RATE * index)
        bias.add(Displacement(round(1e9 * RATE * index), _noisy(truth, 0.5), _noisy(spoil(truth, index), 1.0)))
        if index + 1 in images:
            said.append(bias.problem)
    return said


def _said(spoil: Spoil, seed: int, images: int = 40) -> str:
    return _said_after((images,), spoil, seed)[0]


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
    "every second 2 cm and 5 deg": lambda p, i: _turned(_moved(p, (0.02, 0.0, 0.0)), (0.0, 5.0, 0.0)) if i % 2 else p,
    "every third 5 cm": lambda p, i: p if i % 3 else _moved(p, (0.05, 0.0, 0.0)),
    "noise of 4 deg and 1 cm": lambda p, i: _moved(
        _turned(p, tuple((4.0 * torch.randn(3)).tolist())), tuple((0.01 * torch.randn(3)).tolist())
    ),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", POISONS)
def test_every_constant_error_is_told(name: str, seed: int) -> None:
    assert _said(POISONS[name], seed)


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_no_bias(seed: int) -> None:
    assert _said_after((10, 20, 40), lambda pose, _: pose, seed) == ["", "", ""]


@pytest.mark.parametrize(("seconds", "word"), [(0.1, "late"), (-0.1, "early")])
@pytest.mark.parametrize("seed", range(3))
def test_a_delay_is_told_with_its_length(seed: int, seconds: float, word: str) -> None:
    begin = 10.0 * seed
    said = _said(lambda _, index: _path(begin + RATE * index - seconds), seed)
    assert word in said
    assert abs(int(said.split(" ms")[0].split()[-1]) - 100) < 35


def test_a_delay_of_one_image_at_30_hz_may_be() -> None:
    assert _said(lambda _, index: _path(RATE * index - 0.01), 0) == ""


def test_a_focal_length_one_percent_off_is_no_bias() -> None:
    assert _said(lambda pose, _: Pose(pose.rotation, 1.01 * pose.translation), 0) == ""


def test_too_few_images_tell_nothing() -> None:
    assert _said(lambda pose, _: _turned(pose, (math.pi, 0.0, 0.0)), 0, images=9) == ""


def test_what_was_told_is_over_only_well_below_the_bound() -> None:
    torch.manual_seed(0)
    bias, index = ReferenceBias(AdaptationConfig(), DIAMETER), 0

    def said(share: float) -> str:
        """After 40 more images whose references are too far by this share of the distance."""
        nonlocal index
        for _ in range(40):
            truth = _path(RATE * index)
            far = Pose(truth.rotation, (1.0 + share) * truth.translation)
            bias.add(Displacement(round(1e9 * RATE * index), truth, _noisy(far, 1.0)))
            index += 1
        return bias.problem

    assert said(0.0175) == ""
    assert "too far" in said(0.03)
    assert "too far" in said(0.0175)
    assert said(0.005) == ""
