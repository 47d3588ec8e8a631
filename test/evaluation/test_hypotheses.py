"""Hypotheses are measured by whether the true pose is among them, and by their probabilities."""

from dataclasses import replace

import pytest
import torch

from pnp_ros.evaluation.hypotheses import figures, reliability_plots, told_and_true
from pnp_ros.geometry import so3
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.result import FrameResult, Hypothesis, ObjectState
from pnp_ros.types import Pose

POINTS = torch.tensor([(x, y, z) for x in (-0.1, 0.1) for y in (-0.1, 0.1) for z in (-0.1, 0.1)])
TRUTH = Pose(torch.eye(3), torch.tensor([0.0, 0.0, 1.0]))
TURNED = Pose(so3.exp(torch.tensor([0.0, 0.0, 1.6])), TRUTH.translation)


def frame(*told: tuple[Pose, float]) -> FrameResult:
    hypotheses = tuple(Hypothesis(pose, 1e-6 * torch.eye(6), probability) for pose, probability in told)
    return FrameResult(ObjectState.UNCERTAIN, told[0][0], 1e-6 * torch.eye(6), TRUTH, hypotheses=hypotheses)


# of ten images, the likelier of two is right in eight
FRAMES = [frame((TRUTH, 0.8), (TURNED, 0.2))] * 8 + [frame((TURNED, 0.8), (TRUTH, 0.2))] * 2


def test_figures_of_probabilities_that_are_true() -> None:
    found = figures(FRAMES, POINTS, 0.35)
    assert found is not None
    assert (found["images"], found["poses_an_image"], found["truth_among"]) == (10, 2.0, 1.0)
    assert found["calibration_error"] == pytest.approx(0.0, abs=1e-9)
    assert found["told_of_the_truth"] == pytest.approx(0.8 * 0.8 + 0.2 * 0.2)


def test_figures_of_probabilities_that_are_not() -> None:
    boasting = [frame((TRUTH, 0.95), (TURNED, 0.05))] * 5 + [frame((TURNED, 0.95), (TURNED, 0.05))] * 5
    found = figures(boasting, POINTS, 0.35)
    assert found is not None
    assert found["truth_among"] == 0.5
    assert found["calibration_error"] == pytest.approx((0.45 + 0.05) / 2.0)


def test_a_pose_that_says_that_it_may_be_far_off_may_be() -> None:
    far = replace(TRUTH, translation=torch.tensor([0.0, 0.0, 1.05]))
    wide = Hypothesis(far, 4e-4 * torch.eye(6), 1.0)
    said, was, _, _ = told_and_true([replace(FRAMES[0], hypotheses=(wide,))], POINTS, 0.35)
    assert (said.tolist(), was.tolist()) == ([1.0], [True])


def test_without_hypotheses_there_is_nothing_to_tell(untrained_package, tmp_path) -> None:  # type: ignore[no-untyped-def]
    package: ObjectPackage = untrained_package(tmp_path / "tetrahedron")
    alone = [replace(FRAMES[0], hypotheses=())]
    assert figures(alone, POINTS, 0.35) is None
    assert reliability_plots(alone, package) == []
    assert "probability told" in reliability_plots(FRAMES, package)[0][1]
