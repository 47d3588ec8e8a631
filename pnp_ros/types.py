"""The values that flow through the package: correspondences in, a pose and its covariance out.

Conventions (see ``docs/design.md``): metres, radians, pixels; pixel centres at integer coordinates; a pose maps
object points into the camera's optical frame (x right, y down, z forward); leading dimensions ``...`` are batch
dimensions. All tensors of one value share a device and a floating dtype.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import torch
from torch import Tensor


class SolveStatus(enum.IntEnum):
    """How one solve ended. Everything but ``CONVERGED`` and ``MAX_ITERATIONS`` means: do not use the pose."""

    CONVERGED = 0
    MAX_ITERATIONS = 1  # the cost was still falling; the pose is finite and the covariance valid
    DEGENERATE = 2  # too few or ill-placed points: the pose is not determined (singular information matrix)
    BEHIND_CAMERA = 3  # the best pose puts weighted points behind the camera
    NOT_FINITE = 4  # NaN or infinity in the input

    @property
    def usable(self) -> bool:
        """Whether a pose with this status may be used."""
        return self in (SolveStatus.CONVERGED, SolveStatus.MAX_ITERATIONS)


def _check_shape(name: str, tensor: Tensor, tail: tuple[int, ...]) -> None:
    if tuple(tensor.shape[-len(tail) :]) != tail:
        raise ValueError(f"{name}: expected shape (..., {', '.join(map(str, tail))}), got {tuple(tensor.shape)}")


@dataclass(frozen=True)
class Correspondences:
    """Matched image and object points.

    Args:
        image_points: (..., N, 2) pixels.
        object_points: (..., N, 3) metres, object frame.
        weights: (..., N, 2) inverse standard deviation of the image points, 1/px per axis; 0 ignores an axis.

    Raises:
        ValueError: if a shape does not fit; the message names the field.
    """

    image_points: Tensor
    object_points: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        n = self.image_points.shape[-2] if self.image_points.ndim >= 2 else -1
        _check_shape("image_points", self.image_points, (n, 2))
        _check_shape("object_points", self.object_points, (n, 3))
        _check_shape("weights", self.weights, (n, 2))

    @classmethod
    def from_sigma(cls, image_points: Tensor, object_points: Tensor, sigma: float = 1.0) -> Correspondences:
        """Correspondences that all have the same standard deviation ``sigma`` in pixels."""
        return cls(image_points, object_points, torch.full_like(image_points, 1.0 / sigma))


@dataclass(frozen=True)
class Pose:
    """A rigid transform that maps object points into the camera frame: ``p_camera = rotation @ p + translation``.

    Args:
        rotation: (..., 3, 3) rotation matrix.
        translation: (..., 3) metres.
    """

    rotation: Tensor
    translation: Tensor

    def __post_init__(self) -> None:
        _check_shape("rotation", self.rotation, (3, 3))
        _check_shape("translation", self.translation, (3,))

    @classmethod
    def from_matrix(cls, T_camera_object: Tensor) -> Pose:
        """From (..., 4, 4) homogeneous matrices."""
        _check_shape("T_camera_object", T_camera_object, (4, 4))
        return cls(T_camera_object[..., :3, :3], T_camera_object[..., :3, 3])

    def matrix(self) -> Tensor:
        """(..., 4, 4) homogeneous matrices ``T_camera_object``."""
        top = torch.cat([self.rotation, self.translation[..., None]], dim=-1)
        bottom = torch.zeros_like(top[..., :1, :])
        bottom[..., 0, 3] = 1.0
        return torch.cat([top, bottom], dim=-2)

    def transform(self, object_points: Tensor) -> Tensor:
        """Object points (..., N, 3) in the camera frame (..., N, 3)."""
        return object_points @ self.rotation.mT + self.translation[..., None, :]


@dataclass(frozen=True)
class PoseEstimate:
    """The result of a PnP solve.

    Args:
        pose: ``T_camera_object``.
        covariance: (..., 6, 6) of the perturbation [dt, dtheta] (m, rad) in camera axes about the object's origin:
            ``t = t_hat + dt``, ``R = exp(dtheta) R_hat``. NaN-free; meaningful where ``status`` is usable.
        inlier_weights: (..., N) robust weight of each correspondence, 0 (outlier) to 1 (inlier).
        cost: (...) robust cost at the pose (half the sum of squared whitened residuals for a Gaussian loss).
        status: (...) int8 tensor of :class:`SolveStatus`.
    """

    pose: Pose
    covariance: Tensor
    inlier_weights: Tensor
    cost: Tensor
    status: Tensor

    @property
    def usable(self) -> Tensor:
        """(...) bool: whether the pose may be used."""
        return self.status <= int(SolveStatus.MAX_ITERATIONS)
