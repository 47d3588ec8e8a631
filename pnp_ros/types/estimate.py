"""What a solve gives: a pose, its covariance, how it ended, and perhaps a second hypothesis."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pnp_ros.types.pose import Pose
from pnp_ros.types.tensors import as_tensor, batch_and_kind, check_shape, numbers

FITTING = 0.1  # a robust weight that nearly all inliers exceed, and hardly an outlier


class SolveStatus(enum.IntEnum):
    """How one solve ended. Everything but ``CONVERGED`` and ``MAX_ITERATIONS`` means: do not use the pose."""

    CONVERGED = 0
    MAX_ITERATIONS = 1  # the cost was still falling; the pose is finite and the covariance valid
    DEGENERATE = 2  # too few or ill-placed points: the pose is not determined (singular information matrix)
    BEHIND_CAMERA = 3  # the best pose puts weighted points behind the camera
    NOT_FINITE = 4  # NaN or infinity in the input
    UNEXPLAINED = 5  # the points do not agree on the pose: no more than by chance, or worse than their weights say

    @property
    def usable(self) -> bool:
        """Whether a pose with this status may be used."""
        return self in (SolveStatus.CONVERGED, SolveStatus.MAX_ITERATIONS)


@dataclass(frozen=True, eq=False)
class Alternative:
    """A second hypothesis: another minimum that may be the right one, such as the mirrored pose of a flat object.

    Args:
        values: (..., 49) rotation (9, row by row), translation (3), covariance (36), probability.
    """

    values: Tensor

    @property
    def pose(self) -> Pose:
        """``T_camera_object``; the estimate's own where there is no other."""
        return Pose(self.values[..., :9].unflatten(-1, (3, 3)), self.values[..., 9:12])

    @property
    def covariance(self) -> Tensor:
        """(..., 6, 6) about its own pose."""
        return self.values[..., 12:48].unflatten(-1, (6, 6))

    @property
    def probability(self) -> Tensor:
        """(...) that it, and not the estimate's pose, is the right one: below one half; 0 where there is no other."""
        return self.values[..., 48]

    def numpy(self) -> dict[str, NDArray[np.generic]]:
        """What it holds as arrays, by name; ``pose`` (..., 4, 4) homogeneous."""
        values = {"covariance": self.covariance, "probability": self.probability}
        return {"pose": self.pose.numpy(), **{name: x.detach().cpu().numpy() for name, x in values.items()}}


@dataclass(frozen=True, eq=False, repr=False)
class PoseEstimate:
    """The result of a PnP solve.

    Args:
        pose: ``T_camera_object``.
        covariance: (..., 6, 6) of the perturbation [dt, dtheta] (m, rad) in camera axes about the object's origin:
            ``t = t_hat + dt``, ``R = exp(dtheta) R_hat``. NaN-free; meaningful where ``status`` is usable. Where an
            alternative has a probability of more than a thousandth, it is that of both together about ``pose``. A
            robust solve of fewer than 40 inliers allows for a wrong one among them.
        inlier_weights: (..., N) robust weight of each correspondence, 0 (outlier) to 1 (inlier).
        cost: (...) robust cost at the pose (half the sum of squared whitened residuals for a Gaussian loss).
        status: (...) int8 tensor of :class:`SolveStatus`.
        alternative: a second hypothesis; None if none was sought.
    """

    pose: Pose
    covariance: Tensor
    inlier_weights: Tensor
    cost: Tensor
    status: Tensor
    # a factory, so that the class itself has no such attribute, as it has none of the others
    alternative: Alternative | None = field(default_factory=lambda: None)

    @classmethod
    def deferred(cls, pose: Pose, usable: Tensor, read: Callable[[str], object]) -> PoseEstimate:
        """An estimate whose other fields are made when they are first used: ``read`` takes a field's name."""
        estimate = object.__new__(cls)
        fields = estimate.__dict__
        fields["pose"], fields["_usable"], fields["_read"] = pose, usable, read
        return estimate

    if not TYPE_CHECKING:  # a type checker knows the fields and nothing else

        def __getattr__(self, name: str) -> object:
            """A field that was not made yet."""
            read = self.__dict__.get("_read")
            if read is None or name not in PoseEstimate.__dataclass_fields__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            self.__dict__[name] = value = read(name)
            return value

    def __repr__(self) -> str:
        batch = self.status.shape
        if batch:
            what = [f"{int(self.usable.sum())} of {batch.numel()} usable"]
        else:
            sigma = self.covariance.diagonal().clamp_min(0.0).sqrt()
            what = [SolveStatus(int(self.status)).name, f"translation {numbers(self.pose.translation)} m"]
            what.append(f"sigma {numbers(sigma[:3])} m {numbers(sigma[3:])} rad")
        weights = self.inlier_weights
        if weights.shape[-1] > 0:
            found = "" if batch else f"{int((weights > FITTING).sum())} fitting of "
            what.append(f"{found}{weights.shape[-1]} points")
        return f"PoseEstimate({', '.join([*what, *batch_and_kind(batch, self.covariance)])})"

    def numpy(self) -> dict[str, NDArray[np.generic]]:
        """The fields as arrays, by name; ``pose`` (..., 4, 4) homogeneous, and ``usable``."""
        names = ("covariance", "inlier_weights", "cost", "status", "usable")
        arrays: dict[str, NDArray[np.generic]] = {n: getattr(self, n).detach().cpu().numpy() for n in names}
        return {"pose": self.pose.numpy(), **arrays}

    @classmethod
    def of(cls, pose: Pose, covariance: ArrayLike | Tensor) -> PoseEstimate:
        """A pose and how sure it is (6, 6) or (..., 6, 6), as a prior: from a motion model, or another sensor."""
        translation = pose.translation
        batch = translation.shape[:-1]
        matrix = as_tensor("covariance", covariance, translation).to(translation)
        check_shape("covariance", matrix, (6, 6))
        status = torch.full(batch, int(SolveStatus.CONVERGED), dtype=torch.int8, device=translation.device)
        zero = translation.new_zeros(batch)
        return cls(pose, matrix.expand(*batch, 6, 6), translation.new_zeros(*batch, 0), zero, status)

    @property
    def usable(self) -> Tensor:
        """(...) bool: whether the pose may be used."""
        known: Tensor | None = self.__dict__.get("_usable")
        return self.status <= int(SolveStatus.MAX_ITERATIONS) if known is None else known
