"""The values that flow through the package: correspondences in, a pose and its covariance out.

Conventions (see ``docs/design.md``): metres, radians, pixels; pixel centres at integer coordinates; a pose maps
object points into the camera's optical frame (x right, y down, z forward); leading dimensions ``...`` are batch
dimensions. All tensors of one value share a device and a floating dtype.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pnp_ros.geometry import so3

FITTING = 0.1  # a robust weight that nearly all inliers exceed, and hardly an outlier
MIN_WEIGHT_RATIO = (
    1e-6  # of the singular values of a weight that tells two directions; a line's is zero but for rounding
)


class SolveStatus(enum.IntEnum):
    """How one solve ended. Everything but ``CONVERGED`` and ``MAX_ITERATIONS`` means: do not use the pose."""

    CONVERGED = 0
    MAX_ITERATIONS = 1  # the cost was still falling; the pose is finite and the covariance valid
    DEGENERATE = 2  # too few or ill-placed points: the pose is not determined (singular information matrix)
    BEHIND_CAMERA = 3  # the best pose puts weighted points behind the camera
    NOT_FINITE = 4  # NaN or infinity in the input
    UNEXPLAINED = (
        5  # the points do not agree on the pose: no more than chance explains, or worse than their weights say
    )

    @property
    def usable(self) -> bool:
        """Whether a pose with this status may be used."""
        return self in (SolveStatus.CONVERGED, SolveStatus.MAX_ITERATIONS)


def rank_2x2(matrices: Tensor) -> Tensor:
    """(...) rank of matrices (..., 2, 2), 0 to 2; what single precision makes of a singular one is singular."""
    squares = matrices.square().sum((-2, -1))
    determinant = matrices[..., 0, 0] * matrices[..., 1, 1] - matrices[..., 0, 1] * matrices[..., 1, 0]
    return (squares > 0).long() + (determinant.abs() > MIN_WEIGHT_RATIO * squares)


def _as_tensor(name: str, value: ArrayLike, like: Tensor | None = None) -> Tensor:
    """A tensor of the dtype and on the device of ``like``, else float32."""
    if isinstance(value, Tensor):
        return value
    try:
        array = torch.from_numpy(np.array(value, np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected a tensor or an array of numbers, got {type(value).__name__}") from error
    return array.float() if like is None else array.to(like)


def _check_shape(name: str, tensor: Tensor, tail: tuple[int, ...]) -> None:
    if tensor.shape[-len(tail) :] != tail:
        raise ValueError(f"{name}: expected shape (..., {', '.join(map(str, tail))}), got {tuple(tensor.shape)}")


def _numbers(values: Tensor) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values.detach().flatten().tolist()) + "]"


def _where(batch: torch.Size, like: Tensor) -> list[str]:
    """What a short representation says of tensors that are not one problem's in float32 on the CPU."""
    found = [f"batch {tuple(batch)}"] if batch else []
    if like.dtype is not torch.float32:
        found.append(str(like.dtype).removeprefix("torch."))
    return found if like.device.type == "cpu" else [*found, str(like.device)]


@dataclass(frozen=True, init=False, repr=False)
class Correspondences:
    """Matched image and object points.

    Args:
        image_points: (..., N, 2) pixels.
        object_points: (..., N, 3) metres, object frame.
        weights: (..., N, 2) inverse standard deviation of the image points, 1/px per axis; 0 ignores an axis. Or
            (..., N, 2, 2) square-root information ``W``: the whitened residual is ``W (projected - observed)``, and
            ``W^T W`` the inverse of the point's covariance. A line through the image point that only tells where it
            lies along its normal ``n``, with standard deviation ``s``, has ``W = [[n_x, n_y], [0, 0]] / s``.

    NumPy arrays and sequences are taken, too, and become tensors once, of the dtype of the tensors beside them, else
    float32. A point whose weight is zero is ignored, whatever it holds.

    Raises:
        ValueError: if a shape does not fit, or a weight per axis is negative; the message names the field.

    >>> Correspondences.from_sigma([[320, 240], [400, 240]], [[0, 0, 0], [0.1, 0, 0]], sigma=0.5)
    Correspondences(2 points, 2 with weight, a weight for each axis)
    """

    image_points: Tensor
    object_points: Tensor
    weights: Tensor

    def __init__(self, image_points: ArrayLike, object_points: ArrayLike, weights: ArrayLike) -> None:
        values = {"image_points": image_points, "object_points": object_points, "weights": weights}
        given = [value for value in values.values() if isinstance(value, Tensor)]
        if len(given) < 3:
            like = given[0] if given else torch.zeros(())
            values = {name: _as_tensor(name, value, like) for name, value in values.items()}
        for name, value in values.items():
            object.__setattr__(self, name, value)
        n = self.image_points.shape[-2] if self.image_points.ndim >= 2 else -1
        _check_shape("image_points", self.image_points, (n, 2))
        _check_shape("object_points", self.object_points, (n, 3))
        if self.has_matrices:
            return
        if tuple(self.weights.shape[-2:]) != (n, 2):
            shape = tuple(self.weights.shape)
            raise ValueError(f"weights: expected shape (..., {n}, 2) or (..., {n}, 2, 2), got {shape}")
        if self.weights.device.type == "cpu":  # elsewhere looking would wait
            negative = (self.weights < 0) & self.weights.isfinite()
            if bool(negative.any()):
                value = float(self.weights[negative][0])
                raise ValueError(f"weights: expected inverse standard deviations of 0 or more, got {value}")

    @classmethod
    def from_sigma(
        cls, image_points: ArrayLike, object_points: ArrayLike, sigma: float | ArrayLike = 1.0
    ) -> Correspondences:
        """Correspondences with standard deviations in pixels: one for all, (..., N) or, per axis, (..., N, 2)."""
        points = image_points if isinstance(image_points, Tensor) else _as_tensor("image_points", image_points)
        if not isinstance(sigma, float | int):
            deviation = _as_tensor("sigma", sigma, points)
            deviation = deviation if deviation.shape[-2:] == points.shape[-2:] else deviation[..., None]
            return cls(points, object_points, deviation.reciprocal().expand(*deviation.shape[:-1], 2))
        return cls(points, object_points, torch.full_like(points, 1.0 / sigma))

    @classmethod
    def from_covariance(
        cls, image_points: ArrayLike, object_points: ArrayLike, covariance: ArrayLike
    ) -> Correspondences:
        """Correspondences whose image points have covariances (..., N, 2, 2) px^2, positive definite.

        A covariance that is not positive definite makes weights of NaN, which a solve calls ``NOT_FINITE``.
        """
        points = image_points if isinstance(image_points, Tensor) else _as_tensor("image_points", image_points)
        matrix = _as_tensor("covariance", covariance, points)
        _check_shape("covariance", matrix, (points.shape[-2], 2, 2))
        # W = L^-1 of the covariance's Cholesky factor L = [[a, 0], [b, c]]
        a = matrix[..., 0, 0].sqrt()
        b = matrix[..., 1, 0] / a
        c = (matrix[..., 1, 1] - b.square()).sqrt()
        rows = torch.stack([a.reciprocal(), torch.zeros_like(a), -b / (a * c), c.reciprocal()], dim=-1)
        return cls(points, object_points, rows.unflatten(-1, (2, 2)))

    @classmethod
    def from_lines(
        cls,
        image_points: ArrayLike,
        object_points: ArrayLike,
        normals: ArrayLike,
        sigma: float | ArrayLike = 1.0,
    ) -> Correspondences:
        """Lines in the image: each runs through its image point, and tells its place along its normal only.

        Args:
            image_points: (..., N, 2) px, a point on each line.
            object_points: (..., N, 3) m.
            normals: (..., N, 2) unit vectors across the lines.
            sigma: standard deviation along the normal, px: one for all, or (..., N).
        """
        points = image_points if isinstance(image_points, Tensor) else _as_tensor("image_points", image_points)
        rows = _as_tensor("normals", normals, points)
        deviation = sigma if isinstance(sigma, float | int) else _as_tensor("sigma", sigma, points)[..., None]
        rows = rows / deviation
        return cls(points, object_points, torch.stack([rows, torch.zeros_like(rows)], dim=-2))

    @classmethod
    def from_keypoints(
        cls, keypoints: object, object_points: ArrayLike, sigma: float | ArrayLike = 2.0, least_confidence: float = 0.5
    ) -> Correspondences:
        """Of what a keypoint network of another library found, one problem for each instance.

        Args:
            keypoints: has ``xy`` (..., K, 2) px and perhaps ``conf`` or ``confidence`` (..., K), such as Ultralytics'
                ``results[0].keypoints`` or supervision's ``KeyPoints``; or has such ``keypoints``, as ``results[0]``.
            object_points: (K, 3) m, in the network's order.
            sigma: standard deviation of a keypoint, px: such networks do not tell it.
            least_confidence: keypoints of less, and those at (0, 0), as Ultralytics marks what it did not find, get no
                weight.

        Raises:
            ValueError: if there is no ``xy``, or shapes do not fit.

        >>> from types import SimpleNamespace
        >>> found = SimpleNamespace(xy=np.array([[[320, 240], [400, 240], [0, 0]]]), conf=np.array([[0.9, 0.3, 0.8]]))
        >>> Correspondences.from_keypoints(found, [[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]]).has_weight.tolist()
        [[True, False, False]]
        """
        found = getattr(keypoints, "keypoints", keypoints)
        if not hasattr(found, "xy"):
            raise ValueError(f"keypoints: expected an object with xy (..., K, 2), got {type(found).__name__}")
        points = _as_tensor("keypoints.xy", found.xy)
        points = points if points.is_floating_point() else points.float()
        good = (points != 0).any(-1)
        confidence = getattr(found, "conf", None)
        confidence = getattr(found, "confidence", None) if confidence is None else confidence
        if confidence is not None:
            confidence = _as_tensor("keypoints.confidence", confidence, points)
            _check_shape("keypoints.confidence", confidence, tuple(points.shape[:-1]))
            good = good & (confidence >= least_confidence)
        return cls.from_sigma(points, _as_tensor("object_points", object_points, points), sigma).scaled(good.to(points))

    @classmethod
    def cat(cls, parts: Sequence[Correspondences]) -> Correspondences:
        """All points of correspondences with one batch shape, in order; 2x2 weights if any has them."""
        weights = [part.weights for part in parts]
        if any(part.has_matrices for part in parts):
            weights = [part.square_root_information for part in parts]
        tail = -3 if weights[0].ndim > parts[0].image_points.ndim else -2
        return cls(
            torch.cat([part.image_points for part in parts], dim=-2),
            torch.cat([part.object_points for part in parts], dim=-2),
            torch.cat(weights, dim=tail),
        )

    @property
    def has_matrices(self) -> bool:
        """Whether weights are (..., N, 2, 2); with two points, only if they have one more dimension than the points."""
        n = self.image_points.shape[-2]
        matrices = self.weights.ndim >= 3 and tuple(self.weights.shape[-3:]) == (n, 2, 2)
        return matrices and (n != 2 or self.weights.ndim > self.image_points.ndim)

    @property
    def square_root_information(self) -> Tensor:
        """(..., N, 2, 2) 1/px: ``W`` of each point, whatever the weights' form; differentiable."""
        return self.weights if self.has_matrices else torch.diag_embed(self.weights)

    @property
    def axis_weights(self) -> Tensor:
        """(..., N, 2) 1/px: the lengths of ``W``'s columns, what a point tells of u alone and of v alone."""
        return self.weights.norm(dim=-2) if self.has_matrices else self.weights

    @property
    def has_weight(self) -> Tensor:
        """(..., N) bool: whether a point counts at all."""
        used = (self.weights != 0).any(-1)
        return used.any(-1) if self.has_matrices else used

    @property
    def residual_count(self) -> Tensor:
        """(..., N) how many residuals each point has, the rank of its ``W``: 2, 1 (a line), or 0 (ignored)."""
        return rank_2x2(self.square_root_information)

    def whiten(self, offsets: Tensor) -> Tensor:
        """Residuals (..., N, 2) in standard deviations, of offsets (..., N, 2) in px: ``W offset``."""
        if not self.has_matrices:
            return self.weights * offsets
        return (self.weights * offsets[..., None, :]).sum(-1)

    def __repr__(self) -> str:
        batch, n = self.image_points.shape[:-2], self.image_points.shape[-2]
        used = "" if batch else f", {int(self.has_weight.sum())} with weight"
        kind = "2x2 weights" if self.has_matrices else "a weight for each axis"
        return f"Correspondences({', '.join([f'{n} points{used}', kind, *_where(batch, self.image_points)])})"

    def numpy(self) -> dict[str, NDArray[np.floating]]:
        """The fields as arrays, by name."""
        return {f.name: getattr(self, f.name).detach().cpu().numpy() for f in fields(self)}

    def scaled(self, factor: Tensor) -> Correspondences:
        """With the weights times ``factor`` (..., N): 0 ignores a point, 0.5 doubles its standard deviation."""
        factor = factor[..., None, None] if self.has_matrices else factor[..., None]
        return replace(self, weights=self.weights * factor)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Correspondences:
        """On another device or in another floating dtype."""
        values = (self.image_points, self.object_points, self.weights)
        return Correspondences(*(value.to(device=device, dtype=dtype) for value in values))


@dataclass(frozen=True, repr=False)
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
        _check_shape("rotation", self.rotation, (3, 3))
        _check_shape("translation", self.translation, (3,))

    @classmethod
    def unchecked(cls, rotation: Tensor, translation: Tensor) -> Pose:
        """Of tensors whose shapes are known to be right: checks cost as much as a fifth of a small solve."""
        pose = object.__new__(cls)
        pose.__dict__.update(rotation=rotation, translation=translation)
        return pose

    @classmethod
    def from_matrix(cls, T_camera_object: Tensor) -> Pose:
        """From (..., 4, 4) homogeneous matrices."""
        _check_shape("T_camera_object", T_camera_object, (4, 4))
        return cls(T_camera_object[..., :3, :3], T_camera_object[..., :3, 3])

    @classmethod
    def from_quat_wxyz(cls, quat_wxyz: ArrayLike, translation: ArrayLike) -> Pose:
        """From quaternions (..., 4), scalar first, of any length but zero, and translations (..., 3)."""
        quat = _as_tensor("quat_wxyz", quat_wxyz)
        _check_shape("quat_wxyz", quat, (4,))
        return cls(so3.matrix_from_quat_wxyz(quat), _as_tensor("translation", translation, quat))

    @classmethod
    def from_quat_xyzw(cls, quat_xyzw: ArrayLike, translation: ArrayLike) -> Pose:
        """From quaternions (..., 4), scalar last as in ROS and SciPy, and translations (..., 3)."""
        return cls.from_quat_wxyz(_as_tensor("quat_xyzw", quat_xyzw).roll(1, -1), translation)

    @classmethod
    def from_rvec(cls, rvec: ArrayLike, translation: ArrayLike) -> Pose:
        """From rotation vectors (..., 3) rad, such as OpenCV's, and translations (..., 3)."""
        vector = _as_tensor("rvec", rvec)
        _check_shape("rvec", vector, (3,))
        return cls(so3.exp(vector), _as_tensor("translation", translation, vector))

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
            values = [f"translation {_numbers(self.translation)} m", f"quat_wxyz {_numbers(self.quat_wxyz)}"]
        return f"Pose({', '.join([*values, *_where(batch, self.translation)])})"

    def inverse(self) -> Pose:
        """``T_object_camera`` of ``T_camera_object``."""
        rotation = self.rotation.mT
        return Pose(rotation, -(rotation @ self.translation[..., None]).squeeze(-1))

    def apply(self, points: Tensor) -> Tensor:
        """Points (..., N, 3) transformed; the same as :meth:`transform`."""
        return self.transform(points)

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


@dataclass(frozen=True)
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


@dataclass(frozen=True, repr=False)
class PoseEstimate:
    """The result of a PnP solve.

    Args:
        pose: ``T_camera_object``.
        covariance: (..., 6, 6) of the perturbation [dt, dtheta] (m, rad) in camera axes about the object's origin:
            ``t = t_hat + dt``, ``R = exp(dtheta) R_hat``. NaN-free; meaningful where ``status`` is usable. Where an
            alternative has a probability of more than a thousandth, it is that of both together about ``pose``.
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
    alternative: Alternative | None = field(
        default_factory=lambda: None
    )  # so that the class has none, as of the others

    @classmethod
    def deferred(cls, pose: Pose, usable: Tensor, read: Callable[[str], object]) -> PoseEstimate:
        """An estimate whose other fields are made when they are first used: ``read`` takes a field's name."""
        estimate = object.__new__(cls)
        estimate.__dict__.update(pose=pose, _usable=usable, _read=read)
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
            what = [SolveStatus(int(self.status)).name, f"translation {_numbers(self.pose.translation)} m"]
            what.append(f"sigma {_numbers(sigma[:3])} m {_numbers(sigma[3:])} rad")
        weights = self.inlier_weights
        if weights.shape[-1] > 0:
            found = "" if batch else f"{int((weights > FITTING).sum())} fitting of "
            what.append(f"{found}{weights.shape[-1]} points")
        return f"PoseEstimate({', '.join([*what, *_where(batch, self.covariance)])})"

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
        matrix = _as_tensor("covariance", covariance, translation).to(translation)
        _check_shape("covariance", matrix, (6, 6))
        status = torch.full(batch, int(SolveStatus.CONVERGED), dtype=torch.int8, device=translation.device)
        zero = translation.new_zeros(batch)
        return cls(pose, matrix.expand(*batch, 6, 6), translation.new_zeros(*batch, 0), zero, status)

    @property
    def usable(self) -> Tensor:
        """(...) bool: whether the pose may be used."""
        known: Tensor | None = self.__dict__.get("_usable")
        return self.status <= int(SolveStatus.MAX_ITERATIONS) if known is None else known
