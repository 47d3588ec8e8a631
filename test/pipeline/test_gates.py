import dataclasses

import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.geometry import so3
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.gates import absent, judge, reduced_chi_square
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.solvers.classical import Classical
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.sources.source import Sighting
from pnp_ros.types import Correspondences, Pose, PoseEstimate, SolveStatus

CAMERA = Camera.pinhole(600.0, 600.0, 320.0, 240.0, 640, 480)
CONFIG = EstimatorConfig()
DIAMETER = 0.15
BOX = Box(0.0, 0.0, 640.0, 480.0)


def _scene(outliers: int = 0, noise: float = 1.0, depth: float = 0.6) -> tuple[Correspondences, PoseEstimate]:
    generator = torch.Generator().manual_seed(3)
    points = 0.1 * (torch.rand(16, 3, generator=generator) - 0.5)
    pose = Pose(so3.exp(torch.tensor([0.3, -0.5, 0.2])), torch.tensor([0.02, -0.03, depth]))
    pixels = CAMERA.project(pose.transform(points)) + noise * torch.randn(16, 2, generator=generator)
    pixels[:outliers] += 100.0 * torch.randn(outliers, 2, generator=generator)
    correspondences = Correspondences.from_sigma(pixels, points, 1.0)
    return correspondences, solve_pnp(correspondences, CAMERA, init=Classical("ransac"), loss=Cauchy(2.0))


def _judge(correspondences: Correspondences, estimate: PoseEstimate, presence: float = 0.99) -> tuple[ObjectState, str]:
    verdict = judge(estimate, Sighting(correspondences, presence, BOX), CAMERA, DIAMETER, CONFIG)
    return verdict.state, verdict.reason


def test_a_good_pose_is_valid_without_a_reason() -> None:
    correspondences, estimate = _scene()
    assert _judge(correspondences, estimate) == (ObjectState.VALID, "")
    assert float(reduced_chi_square(estimate, correspondences, CAMERA)) == pytest.approx(1.0, abs=0.6)


def test_absent_object_is_lost_and_doubtful_presence_uncertain() -> None:
    scene = _scene()
    for presence in (0.05, float("nan")):
        assert "object absent" in absent(Sighting(scene[0], presence, BOX), CONFIG)
    assert not absent(Sighting(scene[0], 0.4, BOX), CONFIG)
    state, reason = _judge(*scene, presence=0.4)
    assert state is ObjectState.UNCERTAIN
    assert "presence" in reason


def test_few_agreeing_keypoints() -> None:
    correspondences, estimate = _scene()
    weights = torch.zeros(16)
    weights[:6] = 1.0
    some = dataclasses.replace(estimate, inlier_weights=weights)
    assert _judge(correspondences, some) == (ObjectState.UNCERTAIN, "6 keypoints agree, expected at least 8")
    weights[3:] = 0.0
    few = dataclasses.replace(estimate, inlier_weights=weights)
    assert _judge(correspondences, few)[0] is ObjectState.LOST


def test_noise_beyond_the_stated_sigmas_is_uncertain() -> None:
    correspondences, _ = _scene(noise=3.0)
    gaussian = solve_pnp(correspondences, CAMERA, init=Classical("sqpnp"))
    everything = dataclasses.replace(gaussian, inlier_weights=torch.ones(16))
    state, reason = _judge(correspondences, everything)
    assert state is ObjectState.UNCERTAIN
    assert "chi-square" in reason


def test_keypoints_with_wide_sigmas_are_uncertain_though_they_agree() -> None:
    correspondences, _ = _scene(noise=0.5)
    vague = dataclasses.replace(correspondences, weights=torch.full((16, 2), 1 / 24.0))
    estimate = solve_pnp(vague, CAMERA, init=Classical("ransac"), loss=Cauchy(2.0))
    verdict = judge(estimate, Sighting(vague, 0.99, BOX), CAMERA, DIAMETER, EstimatorConfig(max_rotation_sigma=3.0))
    assert verdict.state is ObjectState.UNCERTAIN
    assert "keypoint sigma 0.16" in verdict.reason


@pytest.mark.parametrize(("block", "word"), [(slice(0, 3), "translation"), (slice(3, 6), "rotation")])
def test_wide_covariance_is_uncertain(block: slice, word: str) -> None:
    correspondences, estimate = _scene()
    covariance = estimate.covariance.clone()
    covariance[block, block] += torch.eye(3)
    state, reason = _judge(correspondences, dataclasses.replace(estimate, covariance=covariance))
    assert state is ObjectState.UNCERTAIN
    assert word in reason


def test_unusable_or_implausible_poses_are_lost() -> None:
    correspondences, estimate = _scene()
    failed = dataclasses.replace(estimate, status=torch.tensor(int(SolveStatus.DEGENERATE), dtype=torch.int8))
    assert _judge(correspondences, failed) == (ObjectState.LOST, "no pose: degenerate")
    nan = dataclasses.replace(estimate, covariance=torch.full((6, 6), float("nan")))
    assert _judge(correspondences, nan)[0] is ObjectState.LOST
    far = dataclasses.replace(estimate, pose=Pose(estimate.pose.rotation, torch.tensor([0.0, 0.0, 100.0])))
    assert "implausible distance" in _judge(correspondences, far)[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("detector_threshold", 1.5),
        ("max_chi_square", 0.0),
        ("min_inliers", 3),
        ("max_distance", 0.1),
        ("valid_presence", 0.1),
        ("robust_scale", float("nan")),
        ("max_candidates", 0),
        ("max_passes", 0),
        ("settled", -0.1),
        ("max_keypoint_sigma", 0.0),
    ],
)
def test_config_names_the_wrong_field(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        EstimatorConfig(**{field: value})


def test_matches_are_judged_by_how_many_agree_not_by_their_share() -> None:
    correspondences, estimate = _scene()
    weights = torch.zeros(100)
    for count, state in ((7, ObjectState.LOST), (11, ObjectState.UNCERTAIN), (12, ObjectState.VALID)):
        weights[:count] = 1.0
        some = dataclasses.replace(estimate, inlier_weights=weights)
        verdict = judge(some, Sighting(correspondences, 1.0, BOX, matched=True), CAMERA, DIAMETER, CONFIG)
        assert verdict.state is state
        assert ("matches agree" in verdict.reason) == (state is not ObjectState.VALID)


def test_sources_of_the_config_are_known_ones() -> None:
    assert EstimatorConfig(sources=["features"]).sources == ("features",)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sources"):
        EstimatorConfig(sources=("sift",))
