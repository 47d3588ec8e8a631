"""Symmetries: BOP's format, the listed transforms, and a canonical pose that is the same for equivalent poses."""

import math

import pytest
import torch

from pnp_ros.objects.symmetry import ContinuousSymmetry, Symmetry, symmetry_from_bop, symmetry_to_bop
from pnp_ros.types import Pose

HALF_TURN_X = [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.0, 0, 0, 0, 1]
QUARTER_TURNS = [
    [math.cos(a), -math.sin(a), 0, 0, math.sin(a), math.cos(a), 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    for a in (math.pi / 2, math.pi, 3 * math.pi / 2)
]
OFF_AXIS = {"symmetries_continuous": [{"axis": [0, 0, 2], "offset": [10.0, 20.0, 0]}]}
DRUM = {**OFF_AXIS, "symmetries_discrete": [[1, 0, 0, 0, 0, -1, 0, 40.0, 0, 0, -1, 0, 0, 0, 0, 1]]}
CASES = {"square": {"symmetries_discrete": QUARTER_TURNS}, "off axis": OFF_AXIS, "drum": DRUM}


def random_poses(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator, dtype=torch.float64))[0]
    rotation = rotation * torch.linalg.det(rotation)[:, None, None]
    translation = torch.randn(count, 3, generator=generator, dtype=torch.float64) * 0.1 + torch.tensor([0, 0, 0.6])
    return Pose(rotation, translation)


def test_millimetres_become_metres_and_come_back():
    symmetry = symmetry_from_bop({"symmetries_discrete": [HALF_TURN_X]}, metres_per_unit=0.001)
    assert symmetry.discrete[0, 2, 3] == pytest.approx(0.002)
    again = symmetry_from_bop(symmetry_to_bop(symmetry))
    torch.testing.assert_close(again.discrete, symmetry.discrete)
    continuous = symmetry_from_bop(OFF_AXIS, 0.001)
    assert continuous.continuous == (ContinuousSymmetry((0.0, 0.0, 1.0), (0.01, 0.02, 0.0)),)
    assert symmetry_from_bop(symmetry_to_bop(continuous)).continuous == continuous.continuous


def test_transforms_list_the_identity_first_and_keep_the_axis():
    assert torch.equal(Symmetry().transforms(), torch.eye(4, dtype=torch.float64)[None])
    transforms = symmetry_from_bop(DRUM, 0.001).transforms(steps=36)
    assert transforms.shape == (72, 4, 4)
    torch.testing.assert_close(transforms[0], torch.eye(4, dtype=torch.float64))
    on_axis = torch.tensor([0.01, 0.02, 0.005, 1.0], dtype=torch.float64)
    moved = transforms @ on_axis
    torch.testing.assert_close(moved[:36], on_axis.expand(36, 4))
    torch.testing.assert_close(moved[36:, :2], on_axis[:2].expand(36, 2))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("with_reference", [False, True])
def test_equivalent_poses_have_one_canonical_pose(case, with_reference):
    symmetry = symmetry_from_bop(CASES[case], 0.001)
    pose = random_poses(50)
    reference = random_poses(1, seed=7) if with_reference else None
    if reference is not None:
        reference = Pose(reference.rotation[0], reference.translation[0])
    transforms = symmetry.transforms(steps=12)
    canonical = symmetry.canonicalise(pose, reference)
    for transform in transforms[1:]:
        other = symmetry.canonicalise(Pose.from_matrix(pose.matrix() @ transform), reference)
        torch.testing.assert_close(other.matrix(), canonical.matrix(), atol=1e-9, rtol=0)
    again = symmetry.canonicalise(canonical, reference)
    torch.testing.assert_close(again.matrix(), canonical.matrix(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_the_canonical_pose_is_equivalent_and_nearest_to_the_reference(case):
    symmetry = symmetry_from_bop(CASES[case], 0.001)
    pose, reference = random_poses(20), random_poses(20, seed=5)
    canonical = symmetry.canonicalise(pose, reference)
    transforms = symmetry.transforms(steps=3600)
    relative = torch.linalg.inv(pose.matrix()) @ canonical.matrix()
    nearest = (transforms[None] - relative[:, None]).abs().amax(dim=(-2, -1)).amin(dim=1)
    assert nearest.max() < 2e-3  # the relative motion is one of the symmetries
    closeness = (reference.rotation[:, None] * (pose.matrix()[:, None] @ transforms)[..., :3, :3]).sum((-2, -1))
    chosen = (reference.rotation * canonical.rotation).sum((-2, -1))
    assert torch.all(chosen >= closeness.amax(dim=1) - 1e-9)


def test_a_sphere_turns_onto_the_reference():
    axes = tuple(ContinuousSymmetry(axis) for axis in [(1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)])
    pose, reference = random_poses(30), random_poses(30, seed=2)
    canonical = Symmetry(continuous=axes).canonicalise(pose, reference)
    torch.testing.assert_close(canonical.rotation, reference.rotation, atol=2e-2, rtol=0)


def test_no_symmetry_changes_nothing_and_gradients_of_dtype_stay():
    pose = random_poses(3)
    assert Symmetry().canonicalise(pose) is pose
    single = Pose(pose.rotation[0].float(), pose.translation[0].float())
    canonical = symmetry_from_bop(DRUM, 0.001).canonicalise(single)
    assert canonical.rotation.dtype == torch.float32
    assert canonical.rotation.shape == (3, 3)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"symmetries_discrete": [[1.0] * 16]}, "rigid"),
        ({"symmetries_discrete": [[1.0] * 9]}, "16 numbers"),
        ({"symmetries_discrete": "x"}, "expected a list"),
        ({"symmetries_continuous": [{"axis": [0, 0, 0]}]}, "axis"),
        ({"symmetries_continuous": [{"axis": [0, 0, 1, 1]}]}, "3 numbers"),
        ({"symmetries_continuous": [[0, 0, 1]]}, "mappings"),
        ({"symmetries_continuous": [{"axis": [0, 0, 1], "offset": ["a", 0, 0]}]}, "3 numbers"),
    ],
)
def test_malformed_symmetries_are_refused(info, message):
    with pytest.raises(ValueError, match=message):
        symmetry_from_bop(info)
