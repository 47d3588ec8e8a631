import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.pipeline.calibration import CovarianceCalibration, Doubt, doubt_of
from pnp_ros.pipeline.calibration_fit import fit_calibration
from pnp_ros.types import Correspondences, Pose

INSIDE = 10.645  # of NEES: the region that holds 90 % of what is consistent


def doubts(count: int, rng: np.random.Generator) -> list[Doubt]:
    """Any sigma from 0.4 to 3 %, any misfit from 0.5 to 8 %."""
    low, high = np.log([0.004, 0.005]), np.log([0.03, 0.08])
    return [Doubt(*row) for row in np.exp(rng.uniform(low, high, (count, 2))).tolist()]


def calibrated(nees: NDArray, known: list[Doubt], calibration: CovarianceCalibration) -> NDArray:
    """The NEES with the factors of a calibration."""
    return nees / [calibration.factor(doubt) for doubt in known]


def test_fit_finds_scale_and_powers() -> None:
    rng = np.random.default_rng(0)
    known, true = doubts(1000, rng), CovarianceCalibration(2.5, 1.5, 0.7)
    nees = rng.chisquare(6, 1000) * [true.factor(doubt) for doubt in known]
    found = fit_calibration(nees, known)
    assert found.scale == pytest.approx(2.5, rel=0.25)
    assert found.growth == pytest.approx(1.5, abs=0.15)
    assert found.discord == pytest.approx(0.7, abs=0.15)
    assert np.mean(calibrated(nees, known, found) < INSIDE) == pytest.approx(0.91, abs=0.025)


def test_regions_hold_what_they_say_where_errors_have_heavy_tails() -> None:
    """Keypoints of half-hidden objects err together, now and then by much: a mean would leave too many outside."""
    rng = np.random.default_rng(1)
    known = doubts(500, rng)
    hidden = np.array([doubt.misfit > 0.02 for doubt in known])
    nees = rng.chisquare(6, 500) * np.where(hidden, np.exp(rng.normal(1.0, 1.0, 500)), 1.0)
    held = calibrated(nees, known, fit_calibration(nees, known)) < INSIDE
    assert 0.86 < held.mean() < 0.94
    for part in (hidden, ~hidden):
        assert held[part].mean() == pytest.approx(0.9, abs=0.07)


def test_gross_errors_do_not_widen_everything() -> None:
    rng = np.random.default_rng(1)
    for count in (30, 300):
        nees = rng.chisquare(6, count)
        nees[: count // 50 + 1] = 5000.0
        found = fit_calibration(nees, [Doubt(0.01, 0.01)] * count)
        assert found.factor(Doubt(0.01, 0.01)) == pytest.approx(1.0, rel=0.25)


def test_too_few_poses_to_tell() -> None:
    assert fit_calibration([], []) == CovarianceCalibration()
    assert fit_calibration([float("inf")], [Doubt(0.01, 0.01)]) == CovarianceCalibration()
    assert fit_calibration([12.0], [Doubt(0.01, float("nan"))]) == CovarianceCalibration()
    assert fit_calibration([12.0, 12.0], [Doubt(0.01, 0.01), Doubt(0.05, 0.03)]) == CovarianceCalibration(2.0, 0.0)


def test_the_factor_stays_finite() -> None:
    steep = CovarianceCalibration(3.0, 4.0, 2.0)
    extremes = (0.0, 1e9, float("inf"))
    assert np.isfinite([steep.factor(Doubt(sigma, misfit)) for sigma in extremes for misfit in extremes]).all()
    assert steep.factor(Doubt(0.01, 0.01)) == pytest.approx(3.0)
    assert steep.factor(Doubt(0.01, 0.02)) == pytest.approx(12.0)


def test_doubt_is_a_share_of_the_projected_size() -> None:
    camera = Camera.pinhole(500.0, 500.0, 320.0, 240.0, 640, 480)
    pose = Pose(torch.eye(3), torch.tensor([0.0, 0.0, 0.5]))
    points = 0.1 * torch.rand(9, 3, generator=torch.Generator().manual_seed(0))
    pixels = camera.project(pose.transform(points))
    pixels[:4, 0] += 100.0  # fewer than half
    pixels[4:, 1] += 3.0
    found = doubt_of(pose, Correspondences.from_sigma(pixels, points, 2.0), camera, 0.2)
    assert found.sigma == pytest.approx(2.0 / 200.0)
    assert found.misfit == pytest.approx(3.0 / 200.0, rel=1e-3)
