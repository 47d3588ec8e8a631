import math

import pytest
import torch

from pnp_ros.filtering.fusion import fuse, mean
from pnp_ros.filtering.rig import Rig
from pnp_ros.geometry import covariance, se3, so3
from pnp_ros.types import Pose, PoseEstimate

TRUTH = Pose(so3.exp(torch.tensor([0.4, -0.9, 1.3], dtype=torch.float64)), torch.tensor([0.2, -0.1, 0.8]).double())


def _camera_covariance(yaw: float) -> torch.Tensor:
    """Of a camera that looks along a direction in the plane: depth is told worst."""
    own = torch.diag(torch.tensor([0.001, 0.001, 0.006, 0.02, 0.02, 0.008], dtype=torch.float64) ** 2)
    return covariance.rotate(own, so3.exp(torch.tensor([0.0, yaw, 0.0], dtype=torch.float64)))


def _seen(generator: torch.Generator, covariances: list[torch.Tensor]) -> list[PoseEstimate]:
    made = []
    for cov in covariances:
        noise = torch.linalg.cholesky(cov) @ torch.randn(6, generator=generator, dtype=torch.float64)
        made.append(PoseEstimate.of(se3.retract(TRUTH, noise), cov))
    return made


def test_fused_poses_err_as_their_covariance_says() -> None:
    generator = torch.Generator().manual_seed(0)
    covariances = [_camera_covariance(yaw) for yaw in (0.0, 1.2, -0.7)]
    squares, depths = [], []
    for _ in range(200):
        told = mean(_seen(generator, covariances))
        delta = se3.local(TRUTH, told.pose)
        squares.append(covariance.nees(delta, told.covariance))
        depths.append(delta[2])
    assert float(torch.stack(squares).mean()) == pytest.approx(6.0, abs=0.9)  # 3.7 sigmas of the mean of 200
    assert float(torch.stack(depths).square().mean().sqrt()) < 0.003  # 6 mm from one camera: the others look across


def test_the_order_does_not_matter_and_wide_turns_are_right() -> None:
    """Two exact turns and a vague one: a mean of quaternions or of matrices would be off."""
    sharp = torch.diag(torch.tensor([1e-3] * 3 + [1e-3, 1e-3, 0.3], dtype=torch.float64) ** 2)
    vague = torch.diag(torch.tensor([1e-1] * 3 + [1e-1, 1e-1, 0.1], dtype=torch.float64) ** 2)
    turned = se3.retract(TRUTH, torch.tensor([0, 0, 0, 0, 0, 0.5], dtype=torch.float64))
    a, b = PoseEstimate.of(TRUTH, sharp), PoseEstimate.of(turned, vague)
    one, other = mean([a, b]), mean([b, a])
    assert torch.allclose(one.pose.matrix(), other.pose.matrix(), atol=1e-9)
    share = (1 / 0.01) / (1 / 0.01 + 1 / 0.09)  # of the way about z, by the inverse variances
    assert so3.log(one.pose.rotation @ TRUTH.rotation.mT)[2] == pytest.approx(0.5 * share, abs=1e-6)


@pytest.mark.parametrize("wrong", ["left", "middle", "right"])
def test_a_camera_that_was_bumped_is_named(wrong: str) -> None:
    generator = torch.Generator().manual_seed(3)
    names = ["left", "middle", "right"]
    bump = Pose(so3.exp(torch.tensor([0.0, math.radians(2.0), 0.0], dtype=torch.float64)), torch.zeros(3).double())
    told = 0
    for _ in range(20):
        seen = dict(zip(names, _seen(generator, [_camera_covariance(yaw) for yaw in (0.0, 1.2, -0.7)])))
        assert fuse(seen).refused == ()
        seen[wrong] = PoseEstimate.of(bump @ seen[wrong].pose, seen[wrong].covariance)
        found = fuse(seen)
        told += found.refused == (wrong,) and found.distances[wrong] > 22.5
        assert found.estimate is not None
    assert told >= 17  # 2 deg are 28 mm here, and each alone is some 6 mm off


def test_of_two_that_disagree_nobody_knows_which_is_wrong() -> None:
    seen = dict(zip("ab", _seen(torch.Generator().manual_seed(1), [_camera_covariance(0.0)] * 2)))
    assert fuse(seen).trusted == ("a", "b")
    far = se3.retract(TRUTH, torch.tensor([0.05, 0, 0, 0, 0, 0], dtype=torch.float64))
    found = fuse(seen | {"b": PoseEstimate.of(far, seen["b"].covariance)})
    assert found.estimate is None
    assert min(found.distances.values()) > 22.5


def test_one_is_taken_as_it_is_and_none_is_an_error() -> None:
    (alone,) = _seen(torch.Generator().manual_seed(1), [_camera_covariance(0.0)])
    found = fuse({"a": alone})
    assert torch.allclose(found.estimate.pose.matrix(), alone.pose.matrix())
    assert torch.allclose(found.estimate.covariance, alone.covariance, rtol=1e-6)
    with pytest.raises(ValueError, match="seen"):
        fuse({})


def test_cameras_that_take_turns_are_told_for_one_time() -> None:
    """One of them is 0.1 s behind: the object moved 3 cm meanwhile."""
    rig, told = Rig(["a", "b"]), None
    for k in range(60):
        stamp = k / 30.0
        for name, late in (("a", 0.0), ("b", 0.1)):
            seen = Pose(TRUTH.rotation, TRUTH.translation + torch.tensor([0.3 * (stamp - late), 0.0, 0.0]).double())
            told = rig.update(name, PoseEstimate.of(seen, _camera_covariance(0.0)), stamp - late)
    assert told.stamp == pytest.approx(59 / 30.0)
    assert set(told.fused.trusted) == {"a", "b"}
    expected = TRUTH.translation[0] + 0.3 * told.stamp
    assert float(told.fused.estimate.pose.translation[0]) == pytest.approx(float(expected), abs=0.002)
