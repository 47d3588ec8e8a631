"""An estimate as the kernel writes it: what every caller reads as tensors, all else in one buffer.

A tensor costs a microsecond to make, and few calls read all fields: those in the buffer become tensors when they are
first read.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from pnp_ros.kernels.lm_problem import SECOND
from pnp_ros.types import Alternative, Pose, PoseEstimate

# Where the fields of B estimates begin in the buffer, in numbers for each; a field's values are in a row.
COVARIANCE, COST, STATUS, ALTERNATIVE, INLIER_WEIGHTS = 0, 36, 37, 38, 38 + SECOND


class PackedEstimate:
    """Estimates of a batch, nothing written yet, on the device of ``like``.

    ``tensors``: rotation (..., 3, 3), translation (..., 3), usable (...) bool, and ``INLIER_WEIGHTS + points`` numbers
    for each problem.
    """

    __slots__ = ("batch", "points", "tensors")

    def __init__(self, like: Tensor, batch: torch.Size, points: int) -> None:
        self.batch, self.points = batch, points
        flag = _flag(like.device)
        if batch:
            usable, rest = flag.new_empty(batch), like.new_empty(batch.numel() * (INLIER_WEIGHTS + points))
            self.tensors = like.new_empty(*batch, 3, 3), like.new_empty(*batch, 3), usable, rest
        else:
            usable, rest = torch.empty_like(flag), like.new_empty(INLIER_WEIGHTS + points)
            self.tensors = like.new_empty(3, 3), like.new_empty(3), usable, rest

    def estimate(self) -> PoseEstimate:
        """The estimate; its other fields are made of the buffer."""
        rotation, translation, usable, _ = self.tensors
        return PoseEstimate.deferred(Pose.unchecked(rotation, translation), usable, self._read)

    def _read(self, name: str) -> object:
        if name == "status":
            return self._view(STATUS).to(torch.int8)
        if name == "covariance":
            return self._view(COVARIANCE, 6, 6)
        if name == "cost":
            return self._view(COST)
        if name == "inlier_weights":
            return self._view(INLIER_WEIGHTS, self.points)
        return Alternative(self._view(ALTERNATIVE, SECOND))

    def _view(self, start: int, *tail: int) -> Tensor:
        shape = (*self.batch, *tail)
        return self.tensors[3].as_strided(shape, _strides(shape), start * self.batch.numel())


@functools.lru_cache(maxsize=256)
def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a contiguous tensor."""
    return torch.empty(shape, device="meta").stride()


@functools.cache
def _flag(device: torch.device) -> Tensor:
    """A tensor of bool: to make one like another is faster than to name its type."""
    return torch.empty((), dtype=torch.bool, device=device)
