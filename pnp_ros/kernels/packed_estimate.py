"""An estimate as the kernel writes it: what every caller reads as tensors, all else in one buffer.

A tensor costs a microsecond to make, and few calls read all fields: those in the buffer become tensors when they are
first read.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from pnp_ros.kernels.lm_problem import SECOND
from pnp_ros.types import Alternative, Pose, PoseEstimate

# Where the fields of B estimates begin in the buffer, in numbers for each; a field's values are in a row.
COVARIANCE, COST, ALTERNATIVE, INLIER_WEIGHTS = 0, 36, 37, 37 + SECOND


class PackedEstimate(NamedTuple):
    """Estimates of a batch: rotation (..., 3, 3), translation (..., 3), usable (...) bool; in ``rest``
    ``INLIER_WEIGHTS + points`` numbers for each, and behind them each status in a byte."""

    rotation: Tensor
    translation: Tensor
    usable: Tensor
    rest: Tensor
    problems: int
    points: int

    @classmethod
    def empty(cls, like: Tensor, batch: torch.Size, points: int) -> PackedEstimate:
        """On the device of ``like``, nothing written yet."""
        problems, flag = batch.numel(), _flag(like.device)
        return cls(
            like.new_empty(*batch, 3, 3),
            like.new_empty(*batch, 3),
            flag.new_empty(batch) if batch else torch.empty_like(flag),
            like.new_empty(problems * (INLIER_WEIGHTS + points) + (problems + 3) // 4),
            problems,
            points,
        )

    def addresses(self) -> tuple[int, ...]:
        """Of rotation, translation, usable, covariance, cost, alternative, inlier weights and status."""
        start, each = self.rest.data_ptr(), 4 * self.problems
        return (
            self.rotation.data_ptr(),
            self.translation.data_ptr(),
            self.usable.data_ptr(),
            start,
            start + COST * each,
            start + ALTERNATIVE * each,
            start + INLIER_WEIGHTS * each,
            start + (INLIER_WEIGHTS + self.points) * each,
        )

    def estimate(self) -> PoseEstimate:
        """The estimate; its other fields are views of the buffer."""
        return PoseEstimate.deferred(Pose.unchecked(self.rotation, self.translation), self.usable, self._read)

    def _read(self, name: str) -> object:
        if name == "status":
            first = 4 * self.problems * (INLIER_WEIGHTS + self.points)
            return self.rest.view(torch.int8).as_strided(self.usable.shape, self.usable.stride(), first)
        if name == "covariance":
            return self._view(COVARIANCE, 6, 6)
        if name == "cost":
            return self._view(COST)
        if name == "inlier_weights":
            return self._view(INLIER_WEIGHTS, self.points)
        return Alternative(self._view(ALTERNATIVE, SECOND))

    def _view(self, start: int, *tail: int) -> Tensor:
        shape = (*self.usable.shape, *tail)
        return self.rest.as_strided(shape, _strides(shape), start * self.problems)


@functools.lru_cache(maxsize=256)
def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a contiguous tensor."""
    return torch.empty(shape, device="meta").stride()


@functools.cache
def _flag(device: torch.device) -> Tensor:
    """A tensor of bool: to make one like another is faster than to name its type."""
    return torch.empty((), dtype=torch.bool, device=device)
