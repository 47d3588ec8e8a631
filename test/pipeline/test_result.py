import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.pipeline.calibration import Doubt
from pnp_ros.pipeline.result import FrameResult, Hypothesis, ObjectEstimate, ObjectState
from pnp_ros.types import Pose, PoseEstimate

POSE = Pose(torch.eye(3), torch.tensor([0.0, 0.0, 1.0]))
CAMERA = Camera.pinhole(500.0, 500.0, 160.0, 120.0, 320, 240)


def test_the_record_keeps_all_that_the_estimator_said() -> None:
    doubt = Doubt(0.02, 0.01)
    solved = PoseEstimate(POSE, 2.0 * torch.eye(6), torch.ones(4), torch.tensor(0.0), torch.tensor(0, dtype=torch.int8))
    said = ObjectEstimate(
        ObjectState.UNCERTAIN, solved, name="mug", score=0.7, reason="why", latency={"total": 0.1},
        source="keypoints", doubt=doubt, explained=0.8,
    )  # fmt: skip
    record = FrameResult.of(said, 3.5, CAMERA)
    expected = FrameResult(
        ObjectState.UNCERTAIN, solved.pose, solved.covariance, latency={"total": 0.1}, stamp=3.5, camera=CAMERA,
        reason="why", score=0.7, name="mug", source="keypoints", doubt=doubt, explained=0.8,
    )  # fmt: skip
    assert vars(record) == vars(expected)  # the same tensors
    assert not record.is_valid
    lost = FrameResult.of(ObjectEstimate(ObjectState.LOST, name="mug", reason="gone"))
    assert (lost.pose, lost.covariance, lost.state) == (None, None, ObjectState.LOST)


def test_arrays_of_an_estimate() -> None:
    solved = PoseEstimate(POSE, 2.0 * torch.eye(6), torch.ones(4), torch.tensor(0.0), torch.tensor(0, dtype=torch.int8))
    both = (Hypothesis(POSE, torch.eye(6), 0.75), Hypothesis(POSE, 3.0 * torch.eye(6), 0.25))
    said = ObjectEstimate(ObjectState.UNCERTAIN, solved, hypotheses=both).numpy()
    np.testing.assert_array_equal(said["pose"][:3, 3], [0.0, 0.0, 1.0])
    np.testing.assert_array_equal(said["covariance"], 2.0 * np.eye(6))
    assert said["poses"].shape == (2, 4, 4)
    np.testing.assert_array_equal(said["covariances"][1], 3.0 * np.eye(6))
    np.testing.assert_array_equal(said["probabilities"], [0.75, 0.25])
    np.testing.assert_array_equal(
        FrameResult(ObjectState.UNCERTAIN, POSE, hypotheses=both).numpy()["poses"], said["poses"]
    )
    assert ObjectEstimate(ObjectState.LOST, score=0.1).numpy() == {"score": 0.1}


def test_valid_visible_and_false() -> None:
    assert FrameResult(ObjectState.VALID, POSE).is_valid
    assert not FrameResult(ObjectState.VALID).is_valid
    assert FrameResult(ObjectState.LOST, truth=POSE).is_visible
    assert not FrameResult(ObjectState.LOST, truth=POSE, visible=False).is_visible
    assert FrameResult(ObjectState.VALID, POSE, visible=False).is_false
    assert not FrameResult(ObjectState.VALID, POSE).is_false
