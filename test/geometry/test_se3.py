"""se3: group laws, retraction, and look_at."""

import torch

from pnp_ros.geometry import se3, so3
from pnp_ros.types import Pose


def poses(count: int, seed: int) -> Pose:
    generator = torch.Generator().manual_seed(seed)
    rotation = so3.random_rotation(count, generator=generator, dtype=torch.float64)
    return Pose(rotation, torch.randn(count, 3, generator=generator, dtype=torch.float64))


def assert_same(a: Pose, b: Pose) -> None:
    torch.testing.assert_close(a.matrix(), b.matrix(), atol=1e-12, rtol=0)


def test_retract_and_local_are_inverse() -> None:
    a, b = poses(50, 0), poses(50, 1)
    assert_same(se3.retract(a, se3.local(a, b)), b)
    delta = torch.rand(50, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(se3.local(a, se3.retract(a, delta)), delta)


def test_compose_and_inverse_are_those_of_matrices() -> None:
    a, b = poses(20, 3), poses(20, 4)
    torch.testing.assert_close(se3.compose(a, b).matrix(), a.matrix() @ b.matrix())
    torch.testing.assert_close(se3.inverse(a).matrix(), torch.linalg.inv(a.matrix()))


def test_adjoint_carries_a_twist_through_the_pose() -> None:
    pose = poses(20, 5)
    twist = torch.randn(20, 6, generator=torch.Generator().manual_seed(6), dtype=torch.float64)

    def exponential(x: torch.Tensor) -> torch.Tensor:
        generator = torch.zeros(20, 4, 4, dtype=torch.float64)
        generator[:, :3, :3], generator[:, :3, 3] = so3.hat(x[:, 3:]), x[:, :3]
        return torch.linalg.matrix_exp(generator)

    carried = (se3.adjoint(pose) @ twist[..., None]).squeeze(-1)
    moved = pose.matrix() @ exponential(twist) @ se3.inverse(pose).matrix()
    torch.testing.assert_close(moved, exponential(carried), atol=1e-10, rtol=0)


def test_look_at_centres_the_target_and_keeps_up_up() -> None:
    eye = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]])
    pose = se3.look_at(eye, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(pose.translation, torch.stack([torch.zeros(2), torch.zeros(2), eye.norm(dim=-1)], -1))
    torch.testing.assert_close(pose.rotation.det(), torch.ones(2))
    above = pose.transform(torch.tensor([[0.0, 0.0, 0.1]]))[0, 0]
    assert above[1] < 0  # y points down
    assert abs(above[0]) < 1e-6
