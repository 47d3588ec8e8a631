import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.pipeline.calibration import CovarianceCalibration, fit_calibration, relative_sigma
from pnp_ros.types import Correspondences, Pose


def test_fit_finds_scale_and_growth_and_makes_the_nees_six() -> None:
    rng = np.random.default_rng(0)
    sigma = np.exp(rng.uniform(np.log(0.004), np.log(0.03), 2000))
    true = CovarianceCalibration(2.5, 1.5)
    nees = rng.chisquare(6, 2000) * [true.factor(value) for value in sigma]
    found = fit_calibration(nees, sigma)
    assert found.scale == pytest.approx(2.5, rel=0.05)
    assert found.growth == pytest.approx(1.5, abs=0.08)
    assert np.mean(nees / [found.factor(value) for value in sigma]) == pytest.approx(6.0, rel=0.03)


def test_gross_errors_do_not_widen_everything() -> None:
    rng = np.random.default_rng(1)
    nees = rng.chisquare(6, 300)
    nees[:6] = 5000.0
    found = fit_calibration(nees, np.full(300, 0.01))
    assert found.growth == 0.0
    assert found.scale == pytest.approx(1.0, rel=0.1)


def test_too_few_poses_to_tell() -> None:
    assert fit_calibration([], []) == CovarianceCalibration()
    assert fit_calibration([float("inf")], [0.01]) == CovarianceCalibration()
    assert fit_calibration([12.0, 12.0], [0.01, 0.05]) == CovarianceCalibration(2.0, 0.0)


def test_the_factor_stays_finite() -> None:
    steep = CovarianceCalibration(3.0, 4.0)
    assert np.isfinite([steep.factor(value) for value in (0.0, 1e9, float("inf"))]).all()
    assert steep.factor(0.01) == pytest.approx(3.0)


def test_relative_sigma_is_a_share_of_the_projected_size() -> None:
    camera = Camera.pinhole(500.0, 500.0, 320.0, 240.0, 640, 480)
    correspondences = Correspondences.from_sigma(torch.zeros(9, 2), torch.zeros(9, 3), 2.0)
    pose = Pose(torch.eye(3), torch.tensor([0.0, 0.0, 0.5]))
    assert float(relative_sigma(pose, correspondences, camera, 0.2)) == pytest.approx(2.0 / 200.0)
