"""Where alignment begins, and by which rounds it goes on: the likeliest first."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.alignment.config import FAR, FOLLOWED, FORESEEN, FOUND, HOPED, LAST, MIDDLE, NEAR, Round
from pnp_ros.geometry.single_pose import moved
from pnp_ros.types import Pose

_APART = 1.5  # standard deviations of the start between several starts
_LARGEST_MOVE, _LARGEST_TURN = 0.4, 0.6  # of the diameter, and rad: between them at most
_FAR, _NEAR = 0.06, 0.05  # of the object's size: where a start must be searched widely, and hardly
_LIKELY = 0.15  # of the object's size: doubt about a start that a close look may dispel


def attempts(
    diameter: float,
    texture: bool,
    pose: Pose,
    covariance: Tensor,
    learn: bool,
    widely: bool = True,
    closely: bool = False,
    turn: int | None = None,
) -> Iterator[tuple[Pose, Sequence[Round]]]:
    """Poses to begin with, and their rounds, for a start as far off as its covariance says.

    Args:
        diameter: of the object, metres.
        texture: whether it is compared.
        pose: the start, ``T_camera_object``.
        covariance: (6, 6) of ``[dt, dtheta]``.
        learn: no colours are known yet.
        widely: search around a start that is doubted much, too.
        closely: end where a texture is looked at near the start.
        turn: of several starts beside it, this one alone, counted round; None: all.
    """
    spread = np.sqrt(np.maximum(covariance.detach().cpu().double().numpy().diagonal(), 0.0))
    share = _share(spread, float(pose.translation[2]), diameter)
    if not math.isfinite(share):
        share = math.inf
    if share <= _LIKELY and texture and not learn:
        yield pose, FOLLOWED
        if closely:
            return
    elif share <= _LIKELY and not learn:
        yield pose, FORESEEN
        if share <= _NEAR:
            yield pose, NEAR
    elif share <= _LIKELY and texture:
        yield pose, FOUND if share <= _FAR else HOPED
        if closely:
            return
    if share <= _FAR:
        yield pose, (*MIDDLE, *LAST)
    if not widely:
        return
    if share > _NEAR:
        yield pose, (*FAR, *MIDDLE, *LAST)
    if share <= _FAR:
        return
    beside = list(_beside(pose, spread, diameter))
    yield from beside if turn is None or not beside else [beside[turn % len(beside)]]


def _beside(pose: Pose, spread: NDArray, diameter: float) -> Iterator[tuple[Pose, Sequence[Round]]]:
    """Other starts: moved sideways or turned, what is less known first."""
    most = np.array([_LARGEST_MOVE * diameter] * 2 + [_LARGEST_TURN] * 3)
    steps = np.nan_to_num(np.minimum(_APART * spread[[0, 1, 3, 4, 5]], most), nan=0.0)
    sizes = steps / np.array([diameter] * 2 + [2.0] * 3)
    for axis, sign in itertools.product(np.argsort(-sizes, kind="stable"), (1.0, -1.0)):
        if sizes[axis] > _FAR:
            delta = np.zeros(6)
            delta[(0, 1, 3, 4, 5)[axis]] = sign * steps[axis]
            yield moved(pose, delta), (*FAR, *MIDDLE, *LAST)


def _share(delta: NDArray, depth: float, diameter: float) -> float:
    """By how large a share of the object's size the image changes with [dt, dtheta]."""
    return float(max(*(delta[:2] / diameter), delta[2] / max(depth, 1e-6), *(0.5 * delta[3:])))
