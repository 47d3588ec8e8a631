"""The rotation group SO(3): exponential map, logarithm, Jacobians and quaternions.

Formulas as in Sola, Deray, Atchuthan, "A micro Lie theory for state estimation in robotics" (2018), section IV and
appendix B. Every function is finite, and has finite gradients, for every finite input; series take over near zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_SMALL = 0.25  # below this squared angle the series are exact to double precision
# |B_2n| / (2n)!, n = 1, 2, ...: the series of 1 - (x / 2) cot(x / 2) in x^2
_BERNOULLI = [
    *(1 / 12, 1 / 720, 1 / 30240, 1 / 1209600, 1 / 47900160, 691 / 1307674368000, 1 / 74724249600),
    *(3617 / 10670622842880000, 43867 / 5109094217170944000),
]

# where the entries of hat(phi) stand in [phi, -phi, 0]
_HAT = torch.tensor([[6, 5, 1], [2, 6, 3], [4, 0, 6]])
# the diagonal of 4 q q^T, w first, is 1 plus the rotation's diagonal with these signs
_SIGNS = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
# where the entries of 4 q q^T stand in [its diagonal, R - R^T, R + R^T]
_OUTER = torch.tensor([[0, 11, 6, 7], [11, 1, 14, 15], [6, 14, 2, 18], [7, 15, 18, 3]])


def _series(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Polynomial in ``x`` by Horner's rule, lowest order first."""
    result = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = result * x + coefficient
    return result


def _matrix(*rows: tuple[Tensor, ...]) -> Tensor:
    """Matrices (..., R, C) of rows of entries (...)."""
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _away_from_zero(theta2: Tensor) -> tuple[Tensor, Tensor]:
    """Where the squared angle is small, and the angle with those entries replaced, so that no gradient is NaN."""
    small = theta2 < _SMALL
    return small, torch.where(small, torch.ones_like(theta2), theta2).sqrt()


def _sin_over_angle(theta2: Tensor) -> Tensor:
    small, theta = _away_from_zero(theta2)
    series = _series(theta2, [1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800, 1 / 6227020800])
    return torch.where(small, series, theta.sin() / theta)


def _one_minus_cos_over_square(theta2: Tensor) -> Tensor:
    return 0.5 * _sin_over_angle(0.25 * theta2).square()  # half-angle form: no cancellation at any angle


def _angle_minus_sin_over_cube(theta2: Tensor) -> Tensor:
    small, theta = _away_from_zero(theta2)
    series = _series(theta2, [1 / 6, -1 / 120, 1 / 5040, -1 / 362880, 1 / 39916800, -1 / 6227020800])
    return torch.where(small, series, (theta - theta.sin()) / theta**3)


def _inverse_jacobian_coefficient(theta2: Tensor) -> Tensor:
    """``(1 - (theta / 2) cot(theta / 2)) / theta^2``."""
    small, theta = _away_from_zero(theta2)
    half = 0.5 * theta
    series = _series(theta2, _BERNOULLI)
    return torch.where(small, series, (1.0 - half * half.cos() / half.sin()) / theta.square())


def hat(phi: Tensor) -> Tensor:
    """Skew matrix (..., 3, 3) of vectors (..., 3): ``hat(a) b = a x b``."""
    entries = torch.cat([phi, -phi, torch.zeros_like(phi[..., :1])], dim=-1)
    return entries[..., _HAT.to(phi.device)]


def vee(matrix: Tensor) -> Tensor:
    """Vector (..., 3) of the skew part of matrices (..., 3, 3); the inverse of :func:`hat`."""
    skew = 0.5 * (matrix - matrix.mT)
    return torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)


def _polynomial(phi: Tensor, linear: Tensor, quadratic: Tensor) -> Tensor:
    """``I + linear hat(phi) + quadratic hat(phi)^2``."""
    skew = hat(phi)
    eye = torch.eye(3, dtype=phi.dtype, device=phi.device)
    return eye + linear[..., None, None] * skew + quadratic[..., None, None] * (skew @ skew)


def exp(phi: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3) in radians (Rodrigues)."""
    theta2 = phi.square().sum(-1)
    linear, half = _sin_over_angle(torch.stack([theta2, 0.25 * theta2])).unbind()
    return _polynomial(phi, linear, 0.5 * half.square())


def log(rotation: Tensor) -> Tensor:
    """Rotation vectors (..., 3), length in [0, pi], of rotation matrices (..., 3, 3).

    At exactly pi the axis' sign is arbitrary. Goes through the quaternion, which is well conditioned at 0 and at pi.
    """
    quat = quat_wxyz_from_matrix(rotation)
    w, v = quat[..., :1], quat[..., 1:]
    norm2 = v.square().sum(-1, keepdim=True)
    small = norm2 < 1e-3
    norm = torch.where(small, torch.ones_like(norm2), norm2).sqrt()
    ratio2 = torch.where(small, norm2 / w.square().clamp(min=0.5), torch.zeros_like(norm2))
    # atan(x) / x, where x^2 < 2e-3
    series = 2.0 / w.clamp(min=0.5) * _series(ratio2, [1.0, -1 / 3, 1 / 5, -1 / 7, 1 / 9, -1 / 11])
    return torch.where(small, series, 2.0 * torch.atan2(norm, w) / norm) * v


def left_jacobian(phi: Tensor) -> Tensor:
    """``J`` (..., 3, 3) with ``exp(phi + d) = exp(J d) exp(phi)`` to first order, for phi (..., 3)."""
    theta2 = phi.square().sum(-1)
    return _polynomial(phi, _one_minus_cos_over_square(theta2), _angle_minus_sin_over_cube(theta2))


def left_jacobian_inverse(phi: Tensor) -> Tensor:
    """Inverse (..., 3, 3) of :func:`left_jacobian`, for ``|phi| < 2 pi``: ``log(exp(d) exp(phi)) = phi + J^-1 d``."""
    theta2 = phi.square().sum(-1)
    return _polynomial(phi, torch.full_like(theta2, -0.5), _inverse_jacobian_coefficient(theta2))


def matrix_from_quat_wxyz(quat_wxyz: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4), which need not have unit length but must not be zero."""
    w, x, y, z = quat_wxyz.unbind(-1)
    s = 2.0 / quat_wxyz.square().sum(-1)
    return _matrix(
        (1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)),
        (s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)),
        (s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)),
    )


def quat_wxyz_from_matrix(rotation: Tensor) -> Tensor:
    """Unit quaternions (..., 4), ``w >= 0``, of rotation matrices (..., 3, 3).

    The matrix gives the four rows of ``4 q q^T``; the row of the largest component is normalised (Shepperd 1978).
    """
    squares = 1.0 + (rotation.diagonal(dim1=-2, dim2=-1)[..., None, :] * _SIGNS.to(rotation)).sum(-1)
    skew, twice = rotation - rotation.mT, rotation + rotation.mT
    entries = torch.cat([squares, skew.flatten(-2), twice.flatten(-2)], dim=-1)
    quat = entries.gather(-1, _OUTER.to(rotation.device)[squares.argmax(-1)])
    quat = quat / quat.square().sum(-1, keepdim=True).sqrt()
    return torch.where(quat[..., :1] < 0, -quat, quat)


def random_rotation(
    *batch: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Rotation matrices ``(*batch, 3, 3)``, uniform over SO(3): normalised Gaussian quaternions."""
    return matrix_from_quat_wxyz(torch.randn(*batch, 4, generator=generator, dtype=dtype, device=device))


def angle_between(rotation_a: Tensor, rotation_b: Tensor) -> Tensor:
    """Angle (...) in [0, pi] of the rotation from one matrix (..., 3, 3) to the other; its gradient at 0 is 0.

    By sine and cosine together, which is well conditioned at 0 and at pi.
    """
    relative = rotation_a.mT @ rotation_b
    sine2 = vee(relative).square().sum(-1)
    zero = sine2 == 0
    sine = torch.where(zero, torch.zeros_like(sine2), torch.where(zero, torch.ones_like(sine2), sine2).sqrt())
    return torch.atan2(sine, 0.5 * (relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1.0))
