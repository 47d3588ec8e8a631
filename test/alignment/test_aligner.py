"""A pose that is a little off is brought to where the image shows the object; others are refused."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pnp_ros.alignment import aligner as aligner_module
from pnp_ros.alignment.aligner import LINE, MATCH, Aligner, Alignment, start_at
from pnp_ros.alignment.config import FAR, FOLLOWED, FORESEEN, HOPED, LOOKS, AlignmentConfig, Round
from pnp_ros.alignment.evidence import Evidence
from pnp_ros.alignment.shading import Shading
from pnp_ros.geometry import covariance, se3
from pnp_ros.io.camera_info import read_camera_info
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mesh_files import load_mesh
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.rendering.domain_shift import strong_shift
from pnp_ros.types import Pose, SolveStatus
from synthetic.cad_parts import bent_sheet
from synthetic.scenes import CAMERA, EXACT, Errors, Scene, perturbed, scenes

CASTLE = Path(__file__).parents[3] / "shared" / "data" / "castle"
OFF = 5.0, 0.03  # degrees, share of the distance


def plain(mesh: TriangleMesh) -> TriangleMesh:
    return replace(mesh, uv=None, texture=None)


def mirrored(mesh: TriangleMesh) -> TriangleMesh:
    return replace(mesh, vertices=mesh.vertices * np.float32([1, -1, 1]), faces=mesh.faces[:, ::-1].copy())


def reprinted(mesh: TriangleMesh) -> TriangleMesh:
    """The same shape with another print."""
    assert mesh.texture is not None
    noise = np.random.default_rng(5).integers(0, 255, (48, 72, 3), np.uint8)
    print_ = cv2.resize(noise, mesh.texture.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return replace(mesh, texture=np.asarray(print_, np.uint8))


def add(mesh: TriangleMesh, pose: Pose, truth: Pose) -> float:
    points = torch.from_numpy(mesh.extreme_points)
    return float((pose.transform(points) - truth.transform(points)).norm(dim=-1).mean()) / mesh.diameter


def align(aligner: Aligner, scene: Scene, seed: int, off: tuple[float, float] = OFF) -> Alignment:
    degrees, share = off
    aligner.forget()
    sigma = share * float(scene.pose.translation[2])
    start = start_at(perturbed(scene.pose, degrees, share, seed), sigma, np.radians(degrees))
    return aligner.align(scene.image, scene.camera, start)


@pytest.fixture(scope="module")
def exact() -> list[Scene]:
    """Of the textured object, just as it is believed to be."""
    return list(scenes(demo_mesh(), 6, 1, EXACT))


def test_light_does_not_move_the_pose(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crease of which one side is darker in the image, but not in the mesh's own colours, would draw matches."""
    mesh = demo_mesh()
    bright = list(scenes(mesh, 16, 1, replace(EXACT, light=2.0)))

    def misses() -> np.ndarray:
        aligner = Aligner(mesh)
        return np.array(
            [add(mesh, align(aligner, scene, k).estimate.pose, scene.pose) for k, scene in enumerate(bright)]
        )

    lit = misses()
    monkeypatch.setattr(Shading, "lit", lambda self, view, shown, inside, eye: view.grey)
    assert np.log(lit / misses()).mean() < np.log(0.75)  # one image of little depth would rule a mean


def test_a_texture_alone_moves_a_pose(exact: list[Scene]) -> None:
    """Far off it is searched in small windows, which have few corners: that is no reason to give up."""
    mesh = demo_mesh()
    aligner = Aligner(mesh, AlignmentConfig(contours=False))
    for k, scene in enumerate(exact[:2]):
        found = align(aligner, scene, k, (3.0, 0.01))
        assert found.evidence.supported, found.evidence.reason
        assert add(mesh, found.estimate.pose, scene.pose) < 0.02


@pytest.mark.parametrize("painted", [True, False])
def test_a_start_beside_the_object_is_brought_onto_it(painted: bool, exact: list[Scene]) -> None:
    mesh = demo_mesh() if painted else plain(demo_mesh())
    aligner = Aligner(mesh)
    drawn = exact if painted else scenes(mesh, 6, 1, EXACT)
    found = [(align(aligner, scene, seed), scene.pose) for seed, scene in enumerate(drawn)]
    errors = np.array([add(mesh, alignment.estimate.pose, truth) for alignment, truth in found])
    assert (errors < 0.01).sum() >= 5
    assert all(alignment.evidence.supported for (alignment, _), error in zip(found, errors) if error < 0.01)
    assert not any(alignment.evidence.supported for (alignment, _), error in zip(found, errors) if error > 0.05)
    kinds = torch.cat([alignment.kinds for alignment, _ in found])
    assert LINE in kinds
    assert MATCH in kinds  # of a plain object where its shades meet


@pytest.mark.parametrize("seed", [19, 20, 26])
def test_a_thin_object_is_found_from_farther_off(seed: int) -> None:
    """Far off no line across it is free over its reach: that is no reason to give up."""
    mesh = bent_sheet()
    scene = next(scenes(mesh, 1, seed, EXACT))
    found = align(Aligner(mesh), scene, 0, (12.0, 0.05))
    assert found.evidence.supported, found.evidence.reason
    assert add(mesh, found.estimate.pose, scene.pose) < 0.03


def test_a_mesh_of_one_colour_says_no_more_of_the_object_than_one_of_none() -> None:
    mesh = plain(demo_mesh())
    yellow = replace(mesh, vertex_colors=np.full((len(mesh.vertices), 3), (200, 180, 20), np.uint8))
    scene = next(scenes(mesh, 1, 1, EXACT))
    poses = [align(Aligner(m), scene, 0).estimate.pose for m in (mesh, yellow)]
    assert torch.equal(poses[0].rotation, poses[1].rotation)


def test_the_region_holds_the_truth_although_camera_mesh_and_light_are_off() -> None:
    mesh = demo_mesh()
    aligner = Aligner(mesh)
    nees = []
    for seed, scene in enumerate(scenes(mesh, 10, 2, Errors())):
        estimate = align(aligner, scene, seed).estimate
        assert bool(covariance.is_valid(estimate.covariance))
        nees.append(float(covariance.nees(se3.local(scene.pose, estimate.pose), estimate.covariance)))
    assert np.mean(nees) < 12.0
    assert np.median(nees) > 0.5  # not so wide that it says nothing


def test_an_exact_camera_and_mesh_give_a_narrower_region(exact: list[Scene]) -> None:
    mesh = demo_mesh()
    sure = AlignmentConfig(focal_sigma=0.0, centre_sigma=0.0, size_sigma=0.0, shape_sigma=0.0)
    scene = exact[3]
    widths = [align(Aligner(mesh, config), scene, 0).estimate.covariance.diagonal() for config in (None, sure)]
    assert bool((widths[1] < widths[0]).all())


def test_a_camera_that_tells_how_exact_it_is_is_believed(exact: list[Scene]) -> None:
    mesh = demo_mesh()
    scene = exact[3]
    told = replace(scene, camera=replace(scene.camera, sigmas=(0.6, 0.6, 0.5, 0.5)))
    held = replace(scene, camera=replace(scene.camera, sigmas=(0.0, 0.0, 0.0, 0.0)))  # by a calibration that fixed all
    default, narrow, same = (align(Aligner(mesh), s, 0).estimate.covariance for s in (scene, told, held))
    assert float(narrow[0, 0]) < 0.5 * float(default[0, 0])
    assert float(narrow[2, 2]) < float(default[2, 2])
    assert torch.equal(same, default)


@pytest.mark.parametrize(("other", "most"), [(mirrored, 0.5), (reprinted, 0.25)])
def test_a_similar_object_does_not_look_like_it(other: Callable[[TriangleMesh], TriangleMesh], most: float) -> None:
    """The mirror image of a side seen head on is like it: the pipeline looks again (``test_second_look``)."""
    mesh = demo_mesh()
    aligner = Aligner(mesh)
    found = [align(aligner, scene, seed).evidence for seed, scene in enumerate(scenes(other(mesh), 12, 4, EXACT))]
    assert sum(evidence.supported for evidence in found) <= 4 * (other is mirrored)
    assert np.median([evidence.likeness for evidence in found]) < most


def test_a_blurred_worn_and_badly_lit_object_is_itself_and_its_mirror_image_is_not() -> None:
    mesh, shift = demo_mesh(), replace(strong_shift(1), blur=3.0)  # dark, noisy, worn
    supported = {"itself": 0, "mirrored": 0}
    for name, shown in (("itself", mesh), ("mirrored", mirrored(mesh))):
        aligner = Aligner(mesh)
        for seed, scene in enumerate(scenes(shift.worn(shown, 0), 2, 8, EXACT)):
            blurred = replace(scene, image=shift.image(scene.image, seed))
            supported[name] += align(aligner, blurred, seed).evidence.supported
    assert supported == {"itself": 2, "mirrored": 0}


def test_a_plain_object_may_be_printed_unless_it_is_said_to_be_plain() -> None:
    mesh = plain(demo_mesh())
    (scene,) = scenes(mesh, 1, 1, EXACT)
    (printed,) = scenes(reprinted(demo_mesh()), 1, 1, EXACT)  # the same pose
    for config, expected in ((AlignmentConfig(), (True, True)), (AlignmentConfig(plain=True), (True, False))):
        found = [Aligner(mesh, config).judge(s.image, s.camera, s.pose) for s in (scene, printed)]
        assert tuple(evidence.supported for evidence in found) == expected
    assert "with the shading, expected 0.70" in found[1].reason


def test_the_same_print_in_other_colours_is_refused(exact: list[Scene]) -> None:
    aligner, scene = Aligner(demo_mesh()), exact[5]
    own = align(aligner, scene, 0).evidence
    assert own.supported
    assert own.colours > 0.7
    other = align(aligner, replace(scene, image=np.ascontiguousarray(scene.image[..., [2, 0, 1]])), 0).evidence
    assert not other.supported
    assert "its colours correlate" in other.reason
    lamp = np.clip(scene.image * np.array([0.6, 0.8, 1.0]), 0, 255).astype(np.uint8)  # another white
    assert align(aligner, replace(scene, image=lamp), 0).evidence.supported
    grey = np.repeat(cv2.cvtColor(scene.image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    told = align(aligner, replace(scene, image=grey), 0).evidence
    assert told.supported
    assert np.isnan(told.colours)  # a camera without colours says nothing of them


def test_clutter_is_refused_with_a_reason() -> None:
    mesh, rng = demo_mesh(), np.random.default_rng(0)
    aligner = Aligner(mesh)
    image = cv2.resize(rng.integers(0, 255, (60, 80, 3), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    pose = Pose(torch.eye(3), torch.tensor([0.0, 0.0, 0.5]))
    evidence = aligner.align(np.asarray(image, np.uint8), CAMERA, start_at(pose, 0.01, 0.05)).evidence
    assert not evidence.supported
    assert evidence.reason


def test_a_followed_texture_is_looked_at_once_or_twice(monkeypatch: pytest.MonkeyPatch, exact: list[Scene]) -> None:
    mesh, looks = demo_mesh(), []
    aligner = Aligner(mesh)
    scene = exact[5]
    align(aligner, scene, 0)
    monkeypatch.setattr(Aligner, "_look", lambda self, *given: looks.append(_LOOK(self, *given)) or looks[-1])
    for degrees in (0.1, 3.0):
        start = start_at(perturbed(scene.pose, degrees, 0.002, 0), 0.02, 0.1)  # less sure than it could be
        assert add(mesh, aligner.align(scene.image, scene.camera, start).estimate.pose, scene.pose) < 0.01
    assert len(looks) <= 3
    assert looks[-1].window is looks[-2].window  # the second look is at the same part of the image
    looks.clear()
    other = start_at(perturbed(scene.pose, 40.0, 0.0, 0), 0.005, 0.1)
    assert not aligner.compare(scene.image, scene.camera, other).evidence.supported
    assert len(looks) <= 2  # nor is another pose looked for farther off


def test_a_texture_that_is_not_known_well_is_looked_at_closely_first(
    monkeypatch: pytest.MonkeyPatch, exact: list[Scene]
) -> None:
    aligner, scene, steps = Aligner(demo_mesh()), exact[5], []
    monkeypatch.setattr(Aligner, "_look", lambda self, *given: steps.append(given[1].step) or _LOOK(self, *given))
    start = start_at(perturbed(scene.pose, 4.0, 0.01, 0), 0.01, 0.2)
    assert add(demo_mesh(), aligner.align(scene.image, scene.camera, start).estimate.pose, scene.pose) < 0.01
    assert set(steps) <= set(HOPED)
    steps.clear()
    aligner.forget()
    monkeypatch.setattr(aligner_module, "_MANY", 1000)  # it is not shown beyond doubt there
    assert add(demo_mesh(), aligner.align(scene.image, scene.camera, start).estimate.pose, scene.pose) < 0.01
    assert FAR[0] in steps


def test_a_followed_outline_is_looked_at_closely_first(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, sides = plain(demo_mesh()), []
    aligner, scene = Aligner(mesh), next(scenes(mesh, 1, 1, EXACT))
    align(aligner, scene, 0)
    monkeypatch.setattr(Aligner, "_look", lambda self, *given: sides.append(given[1].step) or _LOOK(self, *given))
    for turn in (0.1, 0.2):  # rad: a start that is sure, and one of an object that is half hidden
        start = start_at(perturbed(scene.pose, 0.3, 0.002, 0), 0.02 * mesh.diameter, turn)
        found = aligner.align(scene.image, scene.camera, start)
        assert found.evidence.supported
        assert add(mesh, found.estimate.pose, scene.pose) < 0.01
    assert sides == 2 * [FORESEEN[0]]
    sides.clear()
    start = start_at(perturbed(scene.pose, 4.0, 0.01, 0), 0.02 * mesh.diameter, 0.07)
    assert add(mesh, aligner.align(scene.image, scene.camera, start).estimate.pose, scene.pose) < 0.01
    assert len(sides) > 1  # it is not where it was expected


def test_a_look_that_does_not_bear_a_followed_pose_out_is_followed_by_a_closer_one(
    monkeypatch: pytest.MonkeyPatch, exact: list[Scene]
) -> None:
    aligner, scene, sides = Aligner(demo_mesh()), exact[5], []
    align(aligner, scene, 0)
    weighed, judged = aligner_module.weigh, []

    def doubtful(*given) -> Evidence:
        judged.append(weighed(*given))
        return replace(judged[-1], supported=len(judged) > 1)

    monkeypatch.setattr(aligner_module, "weigh", doubtful)
    monkeypatch.setattr(Aligner, "_look", lambda self, *given: sides.append(given[1].step) or _LOOK(self, *given))
    start = start_at(perturbed(scene.pose, 0.1, 0.0, 0), 0.02, 0.1)
    assert aligner.align(scene.image, scene.camera, start).evidence.supported
    assert sides == list(FOLLOWED)


_LOOK = Aligner._look


def test_what_is_nowhere_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, looks = demo_mesh(), []
    pose = Pose(torch.eye(3), torch.tensor([0.0, 0.0, 0.5]))
    image = cv2.resize(np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8), (640, 480))
    monkeypatch.setattr(Aligner, "_look", lambda self, *given: looks.append(0) or _LOOK(self, *given))
    start = start_at(pose, 0.2, 1.0)
    assert not Aligner(mesh).align(np.asarray(image, np.uint8), CAMERA, start).evidence.supported
    assert len(looks) <= 32 + 14
    looks.clear()
    given_up = Aligner(mesh).align(np.asarray(image, np.uint8), CAMERA, start, widely=False)
    assert not looks
    assert "may be anywhere" in given_up.evidence.reason


def test_a_look_at_nothing_teaches_no_colours() -> None:
    """The object would not be found at the next place, however near the start is."""
    mesh, (scene, *_) = bent_sheet(), scenes(bent_sheet(), 1, 1, EXACT)
    aligner, away = Aligner(mesh), Pose(scene.pose.rotation, torch.tensor([0.9, 0.0, 3.4]))
    assert "hardly anything" in aligner.align(scene.image, scene.camera, start_at(away, 0.17, 0.1)).evidence.reason
    found = aligner.align(scene.image, scene.camera, start_at(scene.pose, 0.005, 0.03))
    assert found.evidence.supported
    assert found.evidence.explained > 0.9


@pytest.mark.parametrize("how", ["compare", "judge"])
def test_a_pose_that_is_compared_or_judged_teaches_nothing(how: str) -> None:
    mesh, (scene, *_) = bent_sheet(), scenes(bent_sheet(), 1, 1, EXACT)
    aligner, aside = Aligner(mesh), Pose(scene.pose.rotation, scene.pose.translation * torch.tensor([-1.0, -1.0, 1.0]))
    if how == "judge":
        aligner.judge(scene.image, scene.camera, aside)
    else:
        aligner.compare(scene.image, scene.camera, start_at(aside, 0.005, 0.03))
    assert aligner.align(scene.image, scene.camera, start_at(scene.pose, 0.005, 0.03)).evidence.explained > 0.9


def test_looks_that_find_too_little_leave_time_for_other_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, steps = list[Pose](), list[Round]()
    monkeypatch.setattr(Aligner, "_look", lambda self, *given: steps.append(given[1].step) or _LOOK(self, *given))
    descend = Aligner._descend
    monkeypatch.setattr(Aligner, "_descend", lambda self, *given: begun.append(given[2]) or descend(self, *given))
    start = start_at(Pose(torch.eye(3), torch.tensor([0.0, 0.0, 0.5])), 0.2, 1.0)
    found = Aligner(demo_mesh()).align(np.full((480, 640, 3), 128, np.uint8), CAMERA, start)
    assert "hardly anything" in found.evidence.reason
    assert steps == [*dict.fromkeys(FAR)] * len(begun)  # none of the closer ones
    assert len(begun) == LOOKS // 4


def test_starts_beside_a_followed_one_are_tried_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, descend = list[Pose](), Aligner._descend
    monkeypatch.setattr(Aligner, "_descend", lambda self, *given: begun.append(given[2]) or descend(self, *given))
    start = start_at(Pose(torch.eye(3), torch.tensor([0.0, 0.0, 0.5])), 0.2, 1.0)
    image, aligner, beside = np.full((480, 640, 3), 128, np.uint8), Aligner(demo_mesh()), list[Pose]()
    aligner.align(image, CAMERA, start)
    every = begun[1:]
    for turn in range(len(every)):
        begun.clear()
        aligner.align(image, CAMERA, start, turn=turn)
        assert torch.equal(begun[0].matrix(), start.pose.matrix())
        beside += begun[1:]
    assert len(every) > 5
    assert all(torch.equal(one.matrix(), other.matrix()) for one, other in zip(beside, every, strict=True))


@pytest.mark.parametrize(("shown", "supported"), [(0.4, False), (0.7, True)])
def test_what_is_hidden_where_it_was_expected_is_not_looked_for_elsewhere(
    exact: list[Scene], monkeypatch: pytest.MonkeyPatch, shown: float, supported: bool
) -> None:
    scene, mesh, steps = min(exact, key=lambda each: float(each.pose.translation[2])), demo_mesh(), list[Round]()
    monkeypatch.setattr(Aligner, "_look", lambda self, *given: steps.append(given[1].step) or _LOOK(self, *given))
    x = scene.camera.project(scene.pose.transform(torch.from_numpy(mesh.extreme_points)))[:, 0]
    image = scene.image.copy()
    image[:, int(x.min() + shown * (x.max() - x.min())) :] = 90  # a wall before the rest
    start = start_at(perturbed(scene.pose, 0.3, 0.001, 0), 0.03 * mesh.diameter, 0.05)
    aligner = Aligner(mesh, AlignmentConfig(valid_texture=0.5))
    aligner.align(scene.image, scene.camera, start)
    steps.clear()
    assert aligner.align(image, scene.camera, start).evidence.supported == supported
    assert set(steps) <= set(FOLLOWED)


@pytest.mark.parametrize("z", [-0.5, 0.0, 1e-3, 50.0])
def test_a_start_that_cannot_be_seen_comes_back_degenerate(z: float) -> None:
    aligner = Aligner(demo_mesh())
    start = start_at(Pose(torch.eye(3), torch.tensor([0.0, 0.0, z])), 0.01, 0.05)
    found = aligner.align(np.full((480, 640, 3), 90, np.uint8), CAMERA, start)
    assert int(found.estimate.status) == int(SolveStatus.DEGENERATE)
    assert torch.equal(found.estimate.pose.translation, start.pose.translation)
    assert not found.evidence.supported
    assert found.evidence.reason


@pytest.mark.parametrize("variance", [0.0, torch.nan, torch.inf, 1e6])
def test_any_covariance_of_a_start_will_do(variance: float, exact: list[Scene]) -> None:
    mesh = demo_mesh()
    scene = exact[1]
    start = replace(start_at(scene.pose, 0.0, 0.0), covariance=variance * torch.eye(6))
    found = Aligner(mesh).align(scene.image, scene.camera, start)
    assert add(mesh, found.estimate.pose, scene.pose) < 0.01
    assert bool(covariance.is_valid(found.estimate.covariance))


def test_what_is_hidden_is_told_in_words(exact: list[Scene]) -> None:
    mesh = demo_mesh()
    scene = exact[0]
    aligner, image = Aligner(mesh), scene.image.copy()
    assert aligner.judge(image, scene.camera, scene.pose).remark == ""
    left = int(scene.camera.project(scene.pose.translation[None])[0, 0])
    image[:, left:] = 90  # a wall before one half
    evidence = aligner.judge(image, scene.camera, scene.pose)
    assert evidence.supported
    assert re.fullmatch(r"\d\d% of the object in view is hidden, or does not look like its mesh", evidence.remark)


def test_an_image_that_is_not_the_cameras_is_named() -> None:
    aligner, start = Aligner(demo_mesh()), start_at(Pose(torch.eye(3), torch.tensor([0.0, 0.0, 0.5])), 0.01, 0.05)
    for image in (np.zeros((480, 640), np.uint8), np.zeros((480, 640, 3)), np.zeros((240, 320, 3), np.uint8)):
        with pytest.raises(ValueError, match="image: expected"):
            aligner.align(image, CAMERA, start)
        with pytest.raises(ValueError, match="image: expected"):
            aligner.judge(image, CAMERA, start.pose)


def test_a_judged_pose_stays_and_a_wrong_one_is_refused(exact: list[Scene]) -> None:
    mesh = demo_mesh()
    aligner = Aligner(mesh)
    scene = exact[0]
    assert aligner.judge(scene.image, scene.camera, scene.pose).supported
    assert not aligner.judge(scene.image, scene.camera, perturbed(scene.pose, 25.0, 0.08, 0)).supported


@pytest.mark.skipif(not CASTLE.is_dir(), reason=f"no {CASTLE}")
def test_the_castle_is_followed_by_its_outline() -> None:
    mesh, camera = load_mesh(CASTLE / "castle.obj"), read_camera_info(CASTLE / "camera_info.yaml").camera()
    frames = json.loads((CASTLE / "poses.json").read_text())["frames"][::4]
    truths = [Pose.from_matrix(torch.tensor(frame["T_camera_object"])) for frame in frames]
    aligner, start = Aligner(mesh), start_at(perturbed(truths[0], 5.0, 0.03, 0), 0.02, 0.06)
    errors = []
    for frame, truth in zip(frames, truths):
        image = cv2.imread(str(CASTLE / "color" / frame["file"]))
        found = aligner.align(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8), camera, start)
        start = start_at(found.estimate.pose, 0.02, 0.06)
        errors.append(add(mesh, found.estimate.pose, truth))
    assert max(errors) < 0.01


def test_numbers_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="focal_sigma"):
        AlignmentConfig(focal_sigma=-1.0)
    with pytest.raises(ValueError, match="valid_explained"):
        AlignmentConfig(valid_explained=2.0)
    with pytest.raises(ValueError, match="texture, contours"):
        AlignmentConfig(texture=False, contours=False)
