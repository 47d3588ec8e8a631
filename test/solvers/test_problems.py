"""The generator of problems against the package's own cameras and derivatives, and against what it says of itself."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from pnp_ros.geometry import se3, so3
from pnp_ros.types import Pose
from synthetic.lenses import LENSES
from synthetic.problems import SURE, Case, draw

CASES = [
    Case(lens="ip", kind="clustered", outliers=0.5),
    Case(lens="oak_d", n=20, shape="flat", kind="second", outliers=0.4),
    Case(lens="rational_4k", shape="line", kind="near", outliers=0.3, weights="axes"),
    Case(lens="fisheye", weights="full", extent=0.6, kind="shuffled", outliers=0.3),
    Case(lens="tilted_14", width=3840, n=4, extent=0.2, sigma=5.0),
]


@pytest.mark.parametrize("name", LENSES)
def test_cameras_project_as_opencv_does(name: str) -> None:
    lens = LENSES[name]
    camera = lens.camera(torch.float64)
    grid = np.stack(np.meshgrid(np.linspace(0, lens.width - 1, 17), np.linspace(0, lens.height - 1, 13)), -1)
    bearings = lens.unproject(grid)
    ahead = bearings[bearings[..., 2] > 0.1]
    if lens.fisheye:
        zero = np.zeros(3)
        opencv, _ = cv2.fisheye.projectPoints(ahead[:, None], zero, zero, lens.matrix, lens.coefficients)
        np.testing.assert_allclose(lens.project(ahead), opencv[:, 0], atol=1e-6)
    np.testing.assert_allclose(lens.project(bearings), grid, atol=1e-6)  # every pixel has one, so no lens folds
    np.testing.assert_allclose(camera.project(torch.from_numpy(bearings)), grid, atol=1e-6)
    np.testing.assert_allclose(camera.unproject(torch.from_numpy(grid)), bearings, atol=1e-7)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_problems_are_what_their_case_says(case: Case) -> None:
    problems = draw(case, 400)
    camera, truth = problems.lens.camera(torch.float64), problems.truth()
    exact = camera.project(truth.transform(torch.from_numpy(problems.object_points))).numpy()
    size = np.array([problems.lens.width, problems.lens.height])
    assert ((exact > 0) & (exact < size - 1)).all()
    assert (~problems.inlier).mean(-1) == pytest.approx(round(case.outliers * case.n) / case.n)
    whitened = (problems.whitening @ (problems.image_points - exact)[..., None])[..., 0]
    inliers = whitened[problems.inlier]
    assert np.abs(np.cov(inliers.T) - np.eye(2)).max() < 6.0 / np.sqrt(len(inliers))
    if case.outliers:
        assert np.median(np.linalg.norm(whitened[~problems.inlier], axis=-1)) > 6.0
    extent = np.ptp(exact, axis=1).max(-1)
    assert (extent < 2.0 * case.extent * problems.lens.height).all()


def test_same_seed_same_problems() -> None:
    first, again, other = (draw(CASES[0], 3, seed=seed).image_points for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
    assert (draw(dataclasses.replace(CASES[0], sigma=2.0), 3, seed=1).image_points != first).all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bound_is_the_inverse_of_the_packages_information(case: Case) -> None:
    problems = draw(case, 20)
    truth, points = problems.truth(), torch.from_numpy(problems.object_points)
    rotated = points @ truth.rotation.mT
    _, by_point = problems.lens.camera(torch.float64).project_with_jacobian(truth.transform(points))
    jacobian = torch.from_numpy(problems.whitening) @ torch.cat([by_point, -by_point @ so3.hat(rotated)], dim=-1)
    jacobian = (jacobian * torch.from_numpy(problems.inlier)[..., None, None]).flatten(1, 2)
    product = jacobian.mT @ jacobian @ torch.from_numpy(problems.covariance())
    torch.testing.assert_close(product, torch.eye(6, dtype=torch.float64).expand_as(product), atol=1e-4, rtol=0)


def test_errors_and_what_is_right() -> None:
    problems = draw(Case(n=8, sigma=1.5, extent=0.1), 200)
    truth = problems.truth()
    assert problems.right(truth).all()
    generator = torch.Generator().manual_seed(0)
    root = torch.linalg.cholesky(torch.from_numpy(problems.covariance()))
    step = (root @ torch.randn(200, 6, 1, generator=generator, dtype=torch.float64))[..., 0]
    estimate = se3.retract(truth, step)
    degrees, share, back = problems.errors(estimate)
    assert (degrees > 5.0).mean() > 0.3  # not determined to 5 degrees, and right all the same
    assert problems.right(estimate).all()
    np.testing.assert_allclose(back, se3.local(estimate, truth), atol=1e-9)
    np.testing.assert_allclose(share, (step[:, :3].norm(dim=-1) / truth.translation.norm(dim=-1)).numpy())
    turned = so3.exp(torch.tensor([3.1415, 0.0, 0.0], dtype=torch.float64)) @ truth.rotation
    degrees, _, _ = problems.errors(Pose(turned, truth.translation))
    np.testing.assert_allclose(degrees, 180.0, atol=0.01)
    assert not problems.right(Pose(turned, truth.translation)).any()
    assert SURE > 30.0
