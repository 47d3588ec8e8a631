"""Only weights that are better where it counts, and worse nowhere, pass every gate."""

import dataclasses

import numpy as np
import pytest

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.trials.gates import Measured, OnAnchors, calibrated, judge
from pnp_ros.pipeline.calibration import CovarianceCalibration, Doubt

CONFIG = AdaptationConfig()
OWN = OnAnchors(0.80, 0.9, 0)
DOUBT = Doubt(0.01, 0.01)


def measured(error: float = 0.08, valid: float = 1.0, nees: float = 6.0) -> Measured:
    """40 images with errors around ``error``; those that are not valid count as lost."""
    rng = np.random.default_rng(0)
    is_valid = np.arange(40) < 40 * valid
    errors = np.where(is_valid, error * rng.uniform(0.5, 1.5, 40), 0.5)
    count = int(is_valid.sum())
    return Measured(errors, is_valid & (errors < 0.1), nees / 6.0 * rng.chisquare(6, count), [DOUBT] * count)


def failed(
    candidate: Measured,
    anchors: OnAnchors = OWN,
    active: Measured | None = None,
    active_anchors: OnAnchors = OWN,
    nees: tuple[float, float] = (6.0, 6.0),
) -> list[str]:
    gates = judge(CONFIG, OWN, (active or measured(), active_anchors, nees[0]), (candidate, anchors, nees[1]))
    assert len(gates) == 5
    return [gate.name.split(",")[0] for gate in gates if not gate.passed]


def test_better_weights_pass() -> None:
    assert failed(measured(0.05)) == []


def test_the_same_weights_gain_nothing() -> None:
    assert failed(measured()) == ["held-back error"]


def test_lost_images_count() -> None:
    assert set(failed(measured(0.05, valid=0.7))) == {"held-back error", "held-back recall"}


def test_what_was_known_must_not_be_forgotten() -> None:
    assert failed(measured(0.05), OnAnchors(0.795, 0.9, 0)) == []
    assert failed(measured(0.05), OnAnchors(0.785, 0.9, 0)) == ["anchor AUC"]
    assert failed(measured(0.05), OnAnchors(0.80, 0.9, 1)) == ["false poses on anchors"]


def test_small_losses_do_not_add_up_over_versions() -> None:
    """The bound is the package's own weights', not the active ones'."""
    assert failed(measured(0.05), OnAnchors(0.785, 0.9, 0), active_anchors=OnAnchors(0.79, 0.9, 0)) == ["anchor AUC"]


def test_overconfident_weights_do_not_pass() -> None:
    assert failed(measured(0.05), nees=(6.0, 13.0)) == ["held-back mean NEES"]
    assert failed(measured(0.05), nees=(20.0, 13.0)) == []


def test_the_covariance_is_calibrated_anew() -> None:
    calibration, nees = calibrated(measured(nees=24.0), CovarianceCalibration())
    assert calibration.factor(DOUBT) == pytest.approx(4.0, rel=0.3)
    assert nees == pytest.approx(6.0, rel=0.4)


def test_with_few_poses_the_calibration_stays() -> None:
    few = dataclasses.replace(measured(nees=24.0), nees=np.full(5, 24.0), doubts=[DOUBT] * 5)
    calibration, nees = calibrated(few, CovarianceCalibration(2.0, 0.0))
    assert calibration == CovarianceCalibration(2.0, 0.0)
    assert nees == pytest.approx(12.0)


def test_no_valid_pose_at_all() -> None:
    none = measured(valid=0.0)
    assert none.recall == 0.0
    assert none.mean_nees(CovarianceCalibration()) == 0.0
    assert failed(measured(0.05), active=none) == []
