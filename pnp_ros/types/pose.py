"""A rigid transform, with the algebra that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pnp_ros.geometry import so3
from pnp_ros.types.tensors import as_tensor, batch_and_kind, check_shape, numbers


@dataclass(frozen=True, eq=False, repr=False)
class Pose:
    """A rigid transform that maps object points into the camera frame: ``p_camera = rotation @ p + translation``.

    Args:
        rotation: (..., 3, 3) rotation matrix.
        translation: (..., 3) metres.

    >>> T_base_camera = Pose.from_quat_xyzw([0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.5])
    >>> T_camera_object = Pose.from_rvec([0.0, 0.0, 0.0], [0.0, 0.0, 2.0])
    >>> (T_base_camera @ T_camera_object).translation.tolist()
    [1.0, 0.0, 2.5]
    >>> (T_camera_object @ T_camera_object.inverse()).translation.tolist()
    [0.0, 0.0, 0.0]
    >>> T_camera_object
    Pose(translation [0, 0, 2] m, quat_wxyz [1, 0, 0, 0])
    """

    rotation: Tensor
    translation: Tensor

    def __post_init__(self) -> None:
        if not (isinstance(self.rotation, Tensor) and isinstance(self.translation, Tensor)):  # arrays become tensors
            rotation = as_tensor("rotation", self.rotation)
            object.__setattr__(self, "rotation", rotation)
            object.__setattr__(self, "translation", as_tensor("translation", self.translation, rotation))
        check_shape("rotation", self.rotation, (3, 3))
        check_shape("translation", self.translation, (3,))

    @classmethod
    def unchecked(cls, rotation: Tensor, translation: Tensor) -> Pose:
        """Of tensors whose shapes are known to be right: checks cost as much as a fifth of a small solve."""
        pose = object.__new__(cls)
        fields = pose.__dict__
        fields["rotation"], fields["translation"] = rotation, translation
        return pose

    @classmethod
    def from_matrix(cls, T_camera_object: ArrayLike) -> Pose:
        """From (..., 4, 4) homogeneous matrices."""
        matrix = as_tensor("T_camera_object", T_camera_object)
        check_shape("T_camera_object", matrix, (4, 4))
        return cls(matrix[..., :3, :3], matrix[..., :3, 3])

    @classmethod
    def from_quat_wxyz(cls, quat_wxyz: ArrayLike, translation: ArrayLike) -> Pose:
        """From quaternions (..., 4), scalar first, of any length but zero, and translations (..., 3)."""
        quat = as_tensor("quat_wxyz", quat_wxyz)
        check_shape("quat_wxyz", quat, (4,))
        return cls(so3.matrix_from_quat_wxyz(quat), as_tensor("translation", translation, quat))

    @classmethod
    def from_quat_xyzw(cls, quat_xyzw: ArrayLike, translation: ArrayLike) -> Pose:
        """From quaternions (..., 4), scalar last as in ROS and SciPy, and translations (..., 3)."""
        return cls.from_quat_wxyz(as_tensor("quat_xyzw", quat_xyzw).roll(1, -1), translation)

    @classmethod
    def from_rvec(cls, rvec: ArrayLike, translation: ArrayLike) -> Pose:
        """From rotation vectors (..., 3) rad, such as OpenCV's, and translations (..., 3)."""
        vector = as_tensor("rvec", rvec)
        check_shape("rvec", vector, (3,))
        return cls(so3.exp(vector), as_tensor("translation", translation, vector))

    @classmethod
    def identity(cls, *batch: int) -> Pose:
        """No motion, with batch shape ``batch``."""
        return cls(torch.eye(3).expand(*batch, 3, 3), torch.zeros(*batch, 3))

    @classmethod
    def stack(cls, poses: Sequence[Pose]) -> Pose:
        """Poses (...) as one with a new first dimension."""
        return cls(torch.stack([p.rotation for p in poses]), torch.stack([p.translation for p in poses]))

    def __matmul__(self, other: Pose) -> Pose:
        """``T_a_c = T_a_b @ T_b_c``: the transform that applies ``other`` first."""
        shift = (self.rotation @ other.translation[..., None]).squeeze(-1)
        return Pose(self.rotation @ other.rotation, shift + self.translation)

    def __getitem__(self, index: int | slice | Tensor) -> Pose:
        """Of the first batch dimension."""
        if self.translation.ndim < 2:
            raise IndexError("a single pose has no batch dimension to index")
        return Pose(self.rotation[index], self.translation[index])

    def __repr__(self) -> str:
        batch = self.translation.shape[:-1]
        values = []
        if not batch:
            values = [f"translation {numbers(self.translation)} m", f"quat_wxyz {numbers(self.quat_wxyz)}"]
        return f"Pose({', '.join([*values, *batch_and_kind(batch, self.translation)])})"

    def inverse(self) -> Pose:
        """``T_object_camera`` of ``T_camera_object``."""
        rotation = self.rotation.mT
        return Pose(rotation, -(rotation @ self.translation[..., None]).squeeze(-1))

    @property
    def quat_wxyz(self) -> Tensor:
        """(..., 4) unit quaternions, scalar first and not negative."""
        return so3.quat_wxyz_from_matrix(self.rotation)

    @property
    def quat_xyzw(self) -> Tensor:
        """(..., 4) unit quaternions, scalar last as in ROS and SciPy."""
        return self.quat_wxyz.roll(-1, -1)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Pose:
        """On another device or in another floating dtype."""
        return Pose(self.rotation.to(device=device, dtype=dtype), self.translation.to(device=device, dtype=dtype))

    def numpy(self) -> NDArray[np.floating]:
        """(..., 4, 4) homogeneous matrices as an array."""
        array: NDArray[np.floating] = self.matrix().detach().cpu().numpy()
        return array

    def matrix(self) -> Tensor:
        """(..., 4, 4) homogeneous matrices ``T_camera_object``."""
        top = torch.cat([self.rotation, self.translation[..., None]], dim=-1)
        bottom = torch.zeros_like(top[..., :1, :])
        bottom[..., 0, 3] = 1.0
        return torch.cat([top, bottom], dim=-2)

    def transform(self, object_points: Tensor) -> Tensor:
        """Object points (..., N, 3) in the camera frame (..., N, 3)."""
        return object_points @ self.rotation.mT + self.translation[..., None, :]

    apply = transform
