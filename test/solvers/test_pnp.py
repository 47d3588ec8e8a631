from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pnp_ros.geometry import so3
from pnp_ros.solvers.classical import METHODS, Classical
from pnp_ros.solvers.levenberg_marquardt import LevenbergMarquardt
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy, Gaussian, GemanMcClure
from pnp_ros.solvers.search import Search
from pnp_ros.types import Correspondences, Pose
from synthetic.cube import random_problems

UNREFINED = LevenbergMarquardt(max_iterations=0)


def _rotation_error_deg(pose: Pose, truth: Pose) -> torch.Tensor:
    return so3.angle_between(pose.rotation, truth.rotation).rad2deg()


@pytest.mark.parametrize(("n", "outliers", "limit"), [(8, 0.0, 2.0), (64, 0.0, 0.5), (64, 0.3, 0.6), (64, 0.6, 0.8)])
def test_default_solves_without_an_initial_pose(n: int, outliers: float, limit: float) -> None:
    correspondences, camera, truth = random_problems(20, n, outliers=outliers)
    estimate = solve_pnp(correspondences, camera)
    assert estimate.usable.all()
    assert _rotation_error_deg(estimate.pose, truth).median() < limit


@pytest.mark.parametrize("method", list(METHODS))
def test_classical_solvers_give_pose_and_covariance(method: str) -> None:
    correspondences, camera, truth = random_problems(5, 16)
    estimate = solve_pnp(correspondences, camera, init=Classical(method), solver=UNREFINED)
    assert estimate.usable.all()
    assert (_rotation_error_deg(estimate.pose, truth) < 10.0).all()
    assert (torch.linalg.eigvalsh(estimate.covariance.double()) > 0).all()


@pytest.mark.parametrize("method", ["magsac", "poselib"])
def test_consensus_of_others_withstands_outliers(method: str) -> None:
    correspondences, camera, truth = random_problems(20, 64, outliers=0.6)
    estimate = solve_pnp(correspondences, camera, init=Classical(method), solver=UNREFINED)
    assert (_rotation_error_deg(estimate.pose, truth) < 5.0).double().mean() >= 0.95
    assert _rotation_error_deg(estimate.pose, truth).median() < 1.0


def test_initial_pose_is_refined_to_the_same_solution() -> None:
    correspondences, camera, truth = random_problems(10, 32, dtype=torch.float64)
    turn = so3.exp(torch.tensor([0.3, -0.3, 0.3], dtype=torch.float64))
    init = Pose(turn @ truth.rotation, truth.translation * 1.2)
    a = solve_pnp(correspondences, camera, init=init, loss=Gaussian())
    b = solve_pnp(correspondences, camera, init=Classical("epnp"), loss=Gaussian())
    torch.testing.assert_close(a.pose.rotation, b.pose.rotation, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "epnp"}, r"solver: expected LevenbergMarquardt.*'epnp'"),
        ({"init": "epnp"}, r"init: expected a Pose.*Classical.*'epnp'"),
        ({"init": torch.eye(4)}, r"init: expected a Pose.*Tensor"),
        ({"loss": "cauchy"}, r"loss: expected.*Cauchy\(\).*'cauchy'"),
        ({"gradient": "implicit"}, r"gradient: expected Implicit\(\).*'implicit'"),
    ],
)
def test_an_argument_of_another_type_is_named(options: dict[str, Any], message: str) -> None:
    correspondences, camera, _ = random_problems(1, 8)
    with pytest.raises(TypeError, match=message):
        solve_pnp(correspondences, camera, **options)


def test_a_matrix_is_no_camera_and_tensors_are_no_correspondences() -> None:
    correspondences, camera, _ = random_problems(1, 8)
    with pytest.raises(TypeError, match=r"camera: expected a Camera, got ndarray; Camera\.pinhole"):
        solve_pnp(correspondences, np.eye(3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="correspondences: expected Correspondences, got Tensor"):
        solve_pnp(correspondences.image_points, camera)  # type: ignore[arg-type]


def test_points_of_another_dtype_are_named_and_not_the_camera() -> None:
    c, camera, _ = random_problems(1, 8)
    for dtype in (torch.int32, torch.float16):
        others = Correspondences(*(x.to(dtype) for x in (c.image_points, c.object_points, c.weights)))
        with pytest.raises(ValueError, match=f"image_points: expected float32 or float64, got {dtype}"):
            solve_pnp(others, camera)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Classical("magic"), r"method: expected one of sqpnp.*'magic'"),
        (lambda: LevenbergMarquardt(max_iterations=-1), "max_iterations: expected 0 or more, got -1"),
        (lambda: LevenbergMarquardt(tolerance=0.0), "tolerance: expected a positive number"),
        (lambda: LevenbergMarquardt(samples=0), "samples: expected 1 or more"),
        (lambda: Cauchy(1e-300), "scale: expected 0.001 to 1000000.0 standard deviations, got 1e-300"),
        (lambda: GemanMcClure(float("nan")), "scale: expected"),
    ],
)
def test_options_are_checked_when_they_are_made(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_camera_follows_the_correspondences_dtype() -> None:
    correspondences, camera, truth = random_problems(3, 12, dtype=torch.float64)
    estimate = solve_pnp(correspondences, camera.to(dtype=torch.float32))
    assert estimate.pose.rotation.dtype == torch.float64
    assert (_rotation_error_deg(estimate.pose, truth) < 5.0).all()


@pytest.mark.parametrize("kind", [np.asarray, list, torch.as_tensor])
def test_likelihoods_may_be_an_array(kind: Callable[[list[float]], object]) -> None:
    correspondences, camera, _ = random_problems(1, 12, seed=2)
    scores = kind([0.9] * 8 + [0.1] * 4)
    found = solve_pnp(correspondences, camera, init=Search(scores))  # type: ignore[arg-type]
    assert bool(found.usable.all())
    for wrong in ("all", 1.0):
        with pytest.raises(ValueError, match="likelihood"):
            Search(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_likelihoods_of_other_points_are_refused_in_either_precision(dtype: torch.dtype) -> None:
    correspondences, camera, _ = random_problems(1, 12, dtype=dtype)
    with pytest.raises(ValueError, match=r"likelihood: expected shape \(\.\.\., 12\), got \(11,\)"):
        solve_pnp(correspondences, camera, init=Search(torch.ones(11)))
