"""Matched image and object points with their weights: what a solve takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pnp_ros.types.tensors import as_tensor, batch_and_kind, check_shape

# of the singular values of a weight that tells two directions; a line's is zero but for rounding
MIN_WEIGHT_RATIO = 1e-6


@dataclass(frozen=True, eq=False, init=False, repr=False)
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
            values = {name: as_tensor(name, value, like) for name, value in values.items()}
        for name, value in values.items():
            object.__setattr__(self, name, value)
        n = self.image_points.shape[-2] if self.image_points.ndim >= 2 else -1
        check_shape("image_points", self.image_points, (n, 2))
        check_shape("object_points", self.object_points, (n, 3))
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
        points = image_points if isinstance(image_points, Tensor) else as_tensor("image_points", image_points)
        if not isinstance(sigma, float | int):
            deviation = as_tensor("sigma", sigma, points).to(points)
            if deviation.ndim == 0:
                return cls(points, object_points, deviation.reciprocal().expand_as(points))
            deviation = deviation if deviation.shape[-2:] == points.shape[-2:] else deviation[..., None]
            return cls(points, object_points, deviation.reciprocal().expand(*deviation.shape[:-1], 2))
        if sigma <= 0:
            raise ValueError(f"sigma: expected more than 0 px, got {sigma}")
        return cls(points, object_points, torch.full_like(points, 1.0 / sigma))

    @classmethod
    def from_covariance(
        cls, image_points: ArrayLike, object_points: ArrayLike, covariance: ArrayLike
    ) -> Correspondences:
        """Correspondences whose image points have covariances (..., N, 2, 2) px^2, positive definite.

        A covariance that is not positive definite makes weights of NaN, which a solve calls ``NOT_FINITE``.
        """
        points = image_points if isinstance(image_points, Tensor) else as_tensor("image_points", image_points)
        matrix = as_tensor("covariance", covariance, points)
        check_shape("covariance", matrix, (points.shape[-2], 2, 2))
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
        points = image_points if isinstance(image_points, Tensor) else as_tensor("image_points", image_points)
        rows = as_tensor("normals", normals, points)
        deviation = as_tensor("sigma", sigma, points).to(points)
        rows = rows / (deviation[..., None] if deviation.ndim else deviation)
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
        points = as_tensor("keypoints.xy", found.xy)
        points = points if points.is_floating_point() else points.float()
        good = (points != 0).any(-1)
        confidence = getattr(found, "conf", None)
        confidence = getattr(found, "confidence", None) if confidence is None else confidence
        if confidence is not None:
            confidence = as_tensor("keypoints.confidence", confidence, points)
            check_shape("keypoints.confidence", confidence, tuple(points.shape[:-1]))
            good = good & (confidence >= least_confidence)
        return cls.from_sigma(points, as_tensor("object_points", object_points, points), sigma).scaled(good.to(points))

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
        shape, points = self.weights.shape, self.image_points.shape
        if len(shape) < 3 or shape[-1] != 2 or shape[-2] != 2 or shape[-3] != points[-2]:
            return False
        return len(shape) > len(points) or points[-2] != 2

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
    def harmless(self) -> Correspondences:
        """The same with the points without weight, which may hold anything, in the middle of the others.

        What differentiates through all points needs that: zero times NaN is NaN.
        """
        used = self.has_weight[..., None]

        def filled(points: Tensor) -> Tensor:
            known = torch.where(used, points, 0.0)
            middle = known.detach().sum(-2, keepdim=True) / used.sum(-2, keepdim=True).clamp(min=1)
            return torch.where(used, known, middle)

        return replace(self, image_points=filled(self.image_points), object_points=filled(self.object_points))

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
        return f"Correspondences({', '.join([f'{n} points{used}', kind, *batch_and_kind(batch, self.image_points)])})"

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


def rank_2x2(matrices: Tensor) -> Tensor:
    """(...) rank of matrices (..., 2, 2), 0 to 2; what single precision makes of a singular one is singular."""
    squares = matrices.square().sum((-2, -1))
    determinant = matrices[..., 0, 0] * matrices[..., 1, 1] - matrices[..., 0, 1] * matrices[..., 1, 0]
    return (squares > 0).long() + (determinant.abs() > MIN_WEIGHT_RATIO * squares)
