"""What looks alike from several sides is told as several poses, until an image decides between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from pnp_ros.alignment.aligner import Aligner, start_at
from pnp_ros.alignment.rival import log_odds
from pnp_ros.geometry import so3
from pnp_ros.objects.keypoints import select_keypoints
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import ObjectPackage, write_object_package
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.objects.turns import alike_turns
from pnp_ros.pipeline.ambiguity import Ambiguity
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.pipeline.rival import ALIKE
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.pose_hypotheses import reversal
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.types import Correspondences, Pose
from synthetic.alike_box import alike_box
from synthetic.eyes import Eyes
from synthetic.printed_box import printed_box
from synthetic.scenes import CAMERA, Errors, Scene, scenes

ERRORS = Errors(size=0.002, shape=0.001, focal=0.002, centre=1.0, light=0.5)
ROUND = alike_turns(alike_box())[2]  # a quarter turn about z


def packaged(folder: Path, mesh: TriangleMesh, symmetry: Symmetry | None = None) -> ObjectPackage:
    return write_object_package(
        folder, name="box", mesh=mesh, keypoints=select_keypoints(mesh, 16), symmetry=symmetry or Symmetry()
    )


def seen_by(estimator: PoseEstimator, eyes: Eyes, scene: Scene) -> ObjectEstimate:
    eyes.truth = scene.pose
    return estimator.estimate(scene.image, scene.camera)


def is_true(pose: Pose, scene: Scene) -> bool:
    return float(so3.angle_between(pose.rotation, scene.pose.rotation)) < 0.1


def seen_from(azimuths: Sequence[float]) -> Iterator[Pose]:
    """A box that stands upright before the camera, and is turned about its axis."""
    upright = so3.exp(torch.tensor([np.pi / 2 + 0.3, 0.0, 0.0]).float())
    for azimuth in azimuths:
        turn = so3.exp(torch.tensor([0.0, 0.0, azimuth], dtype=torch.float32))
        yield Pose(upright @ turn, torch.tensor([0.02, 0.01, 0.6]))


def test_alike_sides_are_as_many_poses_and_none_is_valid(tmp_path: Path) -> None:
    mesh = alike_box()
    package = packaged(tmp_path / "box", mesh)
    eyes = Eyes(package.keypoints, ROUND)
    estimator = PoseEstimator(package, EstimatorConfig(track=False), sources=[eyes])
    for scene in scenes(mesh, 2, 5, ERRORS):
        found = seen_by(estimator, eyes, scene)
        assert found.state is ObjectState.UNCERTAIN
        assert "4 poses may be right, this one with 25 %" in found.reason
        assert found.estimate is not None
        assert found.hypotheses[0].pose is found.estimate.pose
        assert [h.probability for h in found.hypotheses] == pytest.approx([0.25] * 4, abs=0.01)
        assert sum(is_true(h.pose, scene) for h in found.hypotheses) == 1
        assert not is_true(found.hypotheses[0].pose, scene)


def test_a_symmetry_that_is_declared_is_no_rival(tmp_path: Path) -> None:
    mesh = alike_box()
    quarters = alike_turns(mesh)[torch.tensor([2, 3, 6])].double()
    package = packaged(tmp_path / "box", mesh, Symmetry(quarters))
    eyes = Eyes(package.keypoints, ROUND)
    estimator = PoseEstimator(package, EstimatorConfig(track=False), sources=[eyes])
    (scene,) = scenes(mesh, 1, 5, ERRORS)
    found = seen_by(estimator, eyes, scene)
    assert (found.state, found.hypotheses) == (ObjectState.VALID, ())


def test_a_mark_that_comes_into_view_decides(tmp_path: Path) -> None:
    mesh = alike_box(mark=0.5)
    package = packaged(tmp_path / "box", mesh)
    eyes = Eyes(package.keypoints, ROUND)
    estimator = PoseEstimator(package, sources=[eyes])
    poses = seen_from(np.linspace(0.1, -1.1, 7))  # the marked side is behind at first
    states, right = [], []
    for scene in scenes(mesh, 7, 5, ERRORS, lambda diameter: next(poses)):
        found = seen_by(estimator, eyes, scene)
        assert found.estimate is not None
        states.append(found.state)
        right.append(is_true(found.estimate.pose, scene))
    assert states[0] is ObjectState.UNCERTAIN
    assert not right[0]
    assert not any(state is ObjectState.VALID and not good for state, good in zip(states, right))
    assert states[-1] is ObjectState.VALID
    assert right[-1]


def test_a_pose_that_the_user_tells_is_not_doubted(tmp_path: Path) -> None:
    mesh = alike_box()
    estimator = PoseEstimator(packaged(tmp_path / "box", mesh), sources=[])
    (scene,) = scenes(mesh, 1, 5, ERRORS)
    estimator.follow(scene.pose)
    found = estimator.estimate(scene.image, scene.camera)
    assert (found.state, found.hypotheses) == (ObjectState.VALID, ())


def test_a_face_seen_nearly_head_on_is_not_taken_for_its_reversal(tmp_path: Path) -> None:
    """Either is borne out by the image alone: the same print in the same place. Both are compared."""
    mesh = printed_box()
    package = packaged(tmp_path / "box", mesh)
    tilted = so3.exp(torch.tensor([0.25, 0.1, 0.0])) @ so3.exp(torch.tensor([0.0, 0.0, 0.6]))
    pose = Pose(tilted, torch.tensor([0.05, -0.02, 1.0]))
    (scene,) = scenes(mesh, 1, 6, ERRORS, lambda _: pose)
    face = torch.from_numpy(mesh.vertices[mesh.vertices[:, 2] < 0.0])  # that the camera sees
    flipped = reversal(face, pose)
    assert float(so3.angle_between(flipped.rotation, pose.rotation)) > 0.4

    aligner = Aligner(mesh)
    wrong, right = (aligner.align(scene.image, scene.camera, start_at(at, 0.01, 0.1)) for at in (flipped, pose))
    assert wrong.evidence.supported
    assert right.evidence.supported
    assert log_odds(right, wrong, scene.camera) > 5.0
    eyes = Eyes(package.keypoints, pose.inverse().matrix() @ flipped.matrix())
    found = seen_by(PoseEstimator(package, EstimatorConfig(track=False), sources=[eyes]), eyes, scene)
    assert found.estimate is not None
    assert found.state is ObjectState.VALID
    assert is_true(found.estimate.pose, scene)


def test_a_reversal_that_is_settled_is_looked_for_when_there_is_time() -> None:
    mesh = printed_box()
    ambiguity, asked = Ambiguity(mesh, Symmetry()), []
    estimate = start_at(Pose(torch.eye(3), torch.tensor([0.0, 0.0, 0.5])), 1e-3, 1e-2)
    points = torch.from_numpy(select_keypoints(mesh, 16))
    exact = Correspondences.from_sigma(CAMERA.project(estimate.pose.transform(points)), points, 1.0)
    ambiguity.told()
    for _ in range(3):
        ambiguity.weigh(None, CAMERA, estimate, lambda: asked.append("") or exact, followed=True)
        ambiguity.finish()
    assert not asked
    (left,) = ambiguity.weigh(None, CAMERA, estimate, lambda: asked.append("") or exact, followed=True)
    assert (left.pose is estimate.pose, left.probability, asked) == (True, 1.0, [])
    ambiguity.finish()
    ambiguity.finish()
    assert len(asked) == 1


@pytest.mark.parametrize("head_on", [True, False])
def test_what_is_seen_head_on_may_turn_on_to_either_side(head_on: bool) -> None:
    """Which side it was before says nothing then; a tracker that went straight on followed the reversal."""
    ambiguity, asked = Ambiguity(printed_box(), Symmetry()), []
    face = torch.cartesian_prod(*2 * [torch.linspace(-0.05, 0.05, 4)])
    points = torch.cat([face, torch.zeros(16, 1)], 1)

    def weighed(tilt: float) -> int:
        """How often the image is asked for the reversal."""
        estimate = start_at(Pose(so3.exp(torch.tensor([tilt, 0.0, 0.0])), torch.tensor([0.0, 0.0, 0.5])), 1e-3, 1e-2)
        seen = Correspondences.from_sigma(CAMERA.project(estimate.pose.transform(points)), points, 0.3)
        asked.clear()
        ambiguity.weigh(None, CAMERA, estimate, lambda: seen, True, lambda: asked.append(""))
        ambiguity.finish()
        return len(asked)

    ambiguity.told()
    assert [weighed(0.4) for _ in range(8)] == 8 * [0]
    if head_on:
        weighed(0.01)
    assert (weighed(0.4) > 0) is head_on


def test_a_pose_that_is_one_with_its_reversal_stays_open() -> None:
    """Its matches were found where it is: they would settle what the image leaves open."""
    ambiguity, asked = Ambiguity(printed_box(), Symmetry()), []
    estimate = start_at(Pose(so3.exp(torch.tensor([0.1, 0.0, 0.0])), torch.tensor([0.0, 0.0, 0.5])), 1e-3, 1e-3)
    points = torch.cat([torch.cartesian_prod(*2 * [torch.linspace(-0.05, 0.05, 4)]), torch.zeros(16, 1)], 1)
    seen = Correspondences.from_sigma(CAMERA.project(estimate.pose.transform(points)), points, 0.3)
    for image in range(6):
        told = ambiguity.weigh(None, CAMERA, estimate, lambda: seen, image > 0, lambda: asked.append("") or ALIKE)
        ambiguity.finish()
        assert [h.probability for h in told] == [1.0]
        assert len(asked) == image + 1


def test_a_minimum_on_the_other_side_decides_nothing_where_either_side_fits_alike() -> None:
    """A card from afar: by noise, only one of the pose and its reversal is a minimum, though both fit as well."""
    reach, rng = torch.tensor([0.05, 0.035, 0.0]), np.random.default_rng(1)
    corners = reach.numpy() * np.float32([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    card = TriangleMesh(corners, np.int32([[0, 1, 2], [0, 2, 3]]))
    points = torch.from_numpy(rng.uniform(-1, 1, (12, 3))).float() * reach
    noise = torch.from_numpy(rng.normal(0.0, 1.0, (39, 12, 2))).float()[38]  # pixels
    truth = Pose(so3.exp(torch.tensor([0.35, 0.1, 0.0])), torch.tensor([0.05, 0.02, 1.4]))
    found = Correspondences.from_sigma(CAMERA.project(truth.transform(points)) + noise, points, 1.0)
    estimate = solve_pnp(found, CAMERA, init=truth, loss=Cauchy(2.0))
    both = Ambiguity(card, Symmetry()).weigh(None, CAMERA, estimate, lambda: found, followed=False)
    assert [h.probability for h in both] == pytest.approx([0.5, 0.5], abs=0.2)
    assert min(float(so3.angle_between(h.pose.rotation, truth.rotation)) for h in both) < 0.35
