import torch

from pnp_ros.geometry import se3, so3
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.pipeline.tracking import PATIENCE, Track
from pnp_ros.types import Pose, PoseEstimate

START = Pose(so3.exp(torch.tensor([0.3, -0.2, 0.5])), torch.tensor([0.1, 0.0, 0.6]))
VELOCITY = torch.tensor([0.3, -0.1, 0.2, 1.0, 0.5, -2.0])  # m/s, rad/s


def _estimate(time: float) -> PoseEstimate:
    # turns about one axis, so that constant velocity is exact
    pose = Pose(so3.exp(time * VELOCITY[3:]) @ START.rotation, START.translation + time * VELOCITY[:3])
    return PoseEstimate(pose, 1e-6 * torch.eye(6), torch.ones(4), torch.zeros(()), torch.tensor(0, dtype=torch.int8))


def test_constant_velocity_is_predicted_and_is_narrower_than_an_unknown_one() -> None:
    track = Track(Symmetry(), 0.1)
    assert track.predict(0.0) is None
    track.follow(_estimate(0.0), 0.0)
    still = track.predict(0.033)
    assert still is not None
    assert torch.equal(still.pose.translation, START.translation)
    for step in range(1, 4):
        expected = track.predict(0.033 * step)
        truth = _estimate(0.033 * step)
        assert expected is not None
        if step > 1:
            assert se3.local(expected.pose, truth.pose).abs().max() < 1e-5
            assert (expected.covariance.diagonal() < still.covariance.diagonal()).all()
        offset = se3.local(expected.pose, truth.pose)
        assert float(offset @ torch.linalg.solve(expected.covariance, offset)) < 16.8  # 99 % of six degrees of freedom
        track.follow(truth, 0.033 * step)


def test_what_no_image_confirmed_is_forgotten_after_a_while() -> None:
    track = Track(Symmetry(), 0.1)
    track.follow(_estimate(0.0), 10.0)
    later = [track.predict(10.0 + wait) for wait in (0.1, 0.5, PATIENCE)]
    spreads = [float(expected.covariance.diagonal().sum()) for expected in later if expected is not None]
    assert len(spreads) == 3
    assert spreads == sorted(spreads)
    assert track.predict(10.0 + 1.01 * PATIENCE) is None
    assert track.predict(9.9) is None  # time jumped back
    track.lose()
    assert track.predict(10.1) is None
