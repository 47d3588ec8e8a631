"""so3 against the matrix exponential, finite differences and round trips, near 0 and near pi."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pnp_ros.geometry import so3

ANGLES = [0.0, 1e-12, 1e-6, 1e-2, 0.499, 0.501, 1.0, 3.0, math.pi - 1e-6]
vectors = st.lists(st.floats(-1.7, 1.7), min_size=3, max_size=3).map(lambda v: torch.tensor(v, dtype=torch.float64))


def rotation_vectors(angle: float, dtype: torch.dtype) -> torch.Tensor:
    axes = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return angle * torch.nn.functional.normalize(axes, dim=-1)


@pytest.mark.parametrize("angle", [*ANGLES, math.pi])
def test_exp_is_the_matrix_exponential(angle: float) -> None:
    phi = rotation_vectors(angle, torch.float64)
    torch.testing.assert_close(so3.exp(phi), torch.linalg.matrix_exp(so3.hat(phi)), atol=1e-12, rtol=0)


# in float32 the last angle may round to beyond pi
@pytest.mark.parametrize(
    ("angle", "dtype", "tolerance"),
    [(a, torch.float32, 3e-6) for a in ANGLES[:-1]] + [(a, torch.float64, 1e-14) for a in ANGLES],
)
def test_log_inverts_exp_with_unit_gradient(angle: float, dtype: torch.dtype, tolerance: float) -> None:
    phi = rotation_vectors(angle, dtype).requires_grad_()
    again = so3.log(so3.exp(phi))
    torch.testing.assert_close(again, phi, atol=tolerance, rtol=0)
    (gradient,) = torch.autograd.grad(again.sum(), phi)
    torch.testing.assert_close(gradient, torch.ones_like(phi), atol=30 * tolerance, rtol=0)


def test_log_at_pi_has_length_pi_and_finite_gradient() -> None:
    rotation = so3.exp(rotation_vectors(math.pi, torch.float64)).requires_grad_()
    phi = so3.log(rotation)
    torch.testing.assert_close(phi.norm(dim=-1), torch.full((20,), math.pi, dtype=torch.float64))
    torch.testing.assert_close(so3.exp(phi), rotation, atol=1e-12, rtol=0)
    assert torch.autograd.grad(phi.sum(), rotation)[0].isfinite().all()


@given(vectors, vectors)
def test_left_jacobian_is_the_derivative_of_exp(phi: torch.Tensor, direction: torch.Tensor) -> None:
    step = 1e-6 * direction
    change = so3.log(so3.exp(phi + step) @ so3.exp(phi - step).mT) / 2e-6
    torch.testing.assert_close(so3.left_jacobian(phi) @ direction, change, atol=1e-8, rtol=0)


@pytest.mark.parametrize("angle", [*ANGLES, math.pi])
def test_left_jacobian_inverse(angle: float) -> None:
    phi = rotation_vectors(angle, torch.float64).requires_grad_()
    product = so3.left_jacobian(phi) @ so3.left_jacobian_inverse(phi)
    torch.testing.assert_close(product, torch.eye(3, dtype=torch.float64).expand(20, 3, 3), atol=1e-13, rtol=0)
    assert torch.autograd.grad(so3.left_jacobian_inverse(phi).sum(), phi)[0].isfinite().all()


def test_quaternions_and_matrices_agree() -> None:
    rotation = so3.random_rotation(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    half_turns = so3.exp(math.pi * torch.eye(3, dtype=torch.float64))
    rotation = torch.cat([rotation, half_turns, torch.eye(3, dtype=torch.float64)[None]])
    quat = so3.quat_wxyz_from_matrix(rotation)
    assert (quat[:, 0] >= 0).all()
    torch.testing.assert_close(so3.matrix_from_quat_wxyz(quat), rotation, atol=1e-14, rtol=0)
    torch.testing.assert_close(so3.matrix_from_quat_wxyz(-3.0 * quat), rotation, atol=1e-14, rtol=0)
    about_z = so3.quat_wxyz_from_matrix(so3.exp(torch.tensor([0.0, 0.0, math.pi / 2])))
    torch.testing.assert_close(about_z, torch.tensor([math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)]))


def test_hat_and_vee() -> None:
    a, b = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close((so3.hat(a) @ b[..., None]).squeeze(-1), torch.linalg.cross(a, b))
    torch.testing.assert_close(so3.vee(so3.hat(a)), a)


def test_random_rotation_is_uniform() -> None:
    rotation = so3.random_rotation(20000, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(rotation.det(), torch.ones(20000))
    assert rotation.mean(0).abs().max() < 0.02
    # the angle of a uniform rotation has the mean pi / 2 + 2 / pi
    angle = so3.angle_between(torch.eye(3), rotation).mean().item()
    assert angle == pytest.approx(math.pi / 2 + 2 / math.pi, abs=0.02)


def test_angle_between() -> None:
    phi = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    a = so3.exp(torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64))
    torch.testing.assert_close(so3.angle_between(a, so3.exp(phi) @ a), phi.norm())
    eye = torch.eye(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(so3.angle_between(eye, torch.eye(3)), eye)
    assert (gradient == 0).all()
