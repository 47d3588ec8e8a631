"""What an object may be where it is found anew: its mirror image, or nearer if it has no texture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pnp_ros.alignment.aligner import Aligner, Alignment, start_at
from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.geometry import so3
from pnp_ros.objects.keypoints import select_keypoints
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import write_object_package
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.mirror import Mirror, MirroredPrint, mirror_of
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.pipeline.second_look import SecondLook, second_look_of
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.sources.edge_likeness import EdgeLikeness
from pnp_ros.types import Pose, PoseEstimate
from synthetic.cad_parts import bent_sheet, bracket, flange
from synthetic.printed_box import printed_box
from synthetic.scenes import EXACT, Scene, perturbed, scenes

CONFIG = AlignmentConfig()


def boat() -> TriangleMesh:
    return replace(demo_mesh(), uv=None, texture=None)


def reflected(mesh: TriangleMesh) -> TriangleMesh:
    return replace(mesh, vertices=mesh.vertices * np.float32([1, -1, 1]), faces=mesh.faces[:, ::-1].copy())


def aligned(mesh: TriangleMesh, scene: Scene, aligner: Aligner | None = None) -> Alignment:
    start = start_at(perturbed(scene.pose, 3.0, 0.01, 0), 0.01 * float(scene.pose.translation[2]), 0.05)
    return (aligner or Aligner(mesh, CONFIG)).align(scene.image, scene.camera, start)


@pytest.mark.parametrize("made", [boat, bracket, bent_sheet])
def test_the_object_is_told_from_its_mirror_image(made: Callable[[], TriangleMesh]) -> None:
    mesh = made()
    look, aligner = SecondLook(mesh, CONFIG), Aligner(mesh, CONFIG)
    for shown, supported in ((mesh, True), (reflected(mesh), False)):
        (scene,) = scenes(shown, 1, 1, EXACT)
        found = aligned(mesh, scene, aligner)
        evidence = look.judge(aligner, scene.image, scene.camera, found).evidence
        assert evidence.supported is (supported and found.evidence.supported)
        assert found.evidence.supported or not supported


@pytest.mark.parametrize("made", [boat, bracket])
def test_a_pose_that_is_too_far_away_gives_way_to_the_nearer_one(made: Callable[[], TriangleMesh]) -> None:
    mesh = made()
    look, aligner = SecondLook(mesh, CONFIG), Aligner(mesh, CONFIG)
    (scene,) = scenes(mesh, 1, 1, EXACT)
    right = aligned(mesh, scene, aligner)
    assert look.nearer(aligner, scene.image, scene.camera, right) is None
    pose = right.estimate.pose
    farther = Pose(pose.rotation, pose.translation / 0.92)
    wrong = replace(right, estimate=replace(right.estimate, pose=farther))
    found = look.judge(aligner, scene.image, scene.camera, wrong)
    assert found.evidence.supported
    assert float((found.estimate.pose.translation - scene.pose.translation).norm()) < 0.05 * mesh.diameter


def test_it_is_asked_until_an_image_has_spoken_for_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = bracket()
    look, aligner = SecondLook(mesh, CONFIG), Aligner(mesh, CONFIG)
    (scene,) = scenes(mesh, 1, 1, EXACT)
    found, asked, lead = aligned(mesh, scene, aligner), list[bool](), 5.0

    def led(*_: object) -> float:
        asked.append(True)
        return lead

    monkeypatch.setattr(Mirror, "lead", led)

    def heard(anew: bool = False) -> bool:
        return look.judge(aligner, scene.image, scene.camera, found, anew).evidence.supported

    assert [heard(), heard(), len(asked)] == [False, False, 2]
    lead = -5.0
    assert [heard(), heard(), len(asked)] == [True, True, 3]
    assert [heard(anew=True), len(asked)] == [True, 4]
    look.forget()
    assert [heard(), len(asked)] == [True, 5]


def test_where_little_is_shown_other_reflections_are_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = bracket()
    mirror = mirror_of(mesh, CONFIG)
    assert mirror is not None
    (scene,) = scenes(mesh, 1, 1, EXACT)
    found, turned, compare = aligned(mesh, scene), list[float](), Aligner.compare
    assert found.evidence.explained > 0.8

    def noted(self: Aligner, image: np.ndarray, camera: Camera, start: PoseEstimate) -> Alignment:
        turned.append(float(so3.angle_between(start.pose.rotation, found.estimate.pose.rotation)))
        return compare(self, image, camera, start)

    monkeypatch.setattr(Aligner, "compare", noted)
    for explained, turns in ((0.8, [0.0]), (0.6, [0.0, np.pi, np.pi])):
        turned.clear()
        seen = replace(found, evidence=replace(found.evidence, explained=explained))
        assert mirror.lead(scene.image, scene.camera, seen) < 0.0
        assert turned == pytest.approx(turns, abs=2e-3)


def test_both_are_told_from_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = bent_sheet()
    mirror = mirror_of(mesh, CONFIG)
    assert mirror is not None
    (scene,) = scenes(mesh, 1, 1, EXACT)
    found, windows, likelihoods = aligned(mesh, scene), list[Box](), EdgeLikeness.log_likelihoods

    def noted(
        self: EdgeLikeness, image: np.ndarray, camera: Camera, poses: Sequence[Pose], where: Box | None = None
    ) -> torch.Tensor:
        assert where is not None
        windows.append(where)
        return likelihoods(self, image, camera, poses, where)

    monkeypatch.setattr(EdgeLikeness, "log_likelihoods", noted)
    mirror.lead(scene.image, scene.camera, found)
    assert len(windows) == 2
    assert windows[0] == windows[1]


def test_a_print_of_which_the_image_shows_half_is_told_from_its_mirror_image() -> None:
    mesh = demo_mesh()
    aligner, look = Aligner(mesh, CONFIG), second_look_of(mesh, CONFIG)
    assert isinstance(look, MirroredPrint)
    pictures = {"mirrored": scenes(reflected(mesh), 30, 1, EXACT), "itself": scenes(mesh, 1, 1, EXACT)}
    for shown, some in pictures.items():
        scene, found = next(pair for pair in _believed(mesh, aligner, some))
        half = _explained(found, min(0.6, found.evidence.explained))
        assert look.judge(aligner, scene.image, scene.camera, half).evidence.supported is (shown == "itself")
        assert look.judge(aligner, scene.image, scene.camera, half, anew=False) is half
        assert look.judge(aligner, scene.image, scene.camera, _explained(found, 0.9)).evidence.supported


def _believed(mesh: TriangleMesh, aligner: Aligner, some: Iterable[Scene]) -> Iterator[tuple[Scene, Alignment]]:
    """Those scenes of which a first look believes the pose; of the mirror image these are few."""
    for scene in some:
        aligner.forget()
        found = aligned(mesh, scene, aligner)
        if found.evidence.supported:
            yield scene, found


def _explained(found: Alignment, share: float) -> Alignment:
    return replace(found, evidence=replace(found.evidence, explained=share))


def test_what_has_the_shape_of_its_mirror_image_has_no_such_rival() -> None:
    assert second_look_of(printed_box(0), CONFIG) is None
    assert mirror_of(flange(), CONFIG) is None


def test_a_pose_that_is_told_is_not_valid_on_the_mirror_image(tmp_path: Path) -> None:
    mesh = bracket()
    package = write_object_package(tmp_path / "bracket", name="bracket", mesh=mesh, keypoints=select_keypoints(mesh, 8))
    estimator = PoseEstimator(package, EstimatorConfig(sources=()))
    for shown, state in ((mesh, ObjectState.VALID), (reflected(mesh), ObjectState.LOST)):
        (scene,) = scenes(shown, 1, 1, EXACT)
        estimator.reset()
        estimator.follow(scene.pose)
        found = estimator.estimate(scene.image, scene.camera)
        assert found.state is state
