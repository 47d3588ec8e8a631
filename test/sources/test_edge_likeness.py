"""Edges tell turns of an untextured body apart that leave its outline as it is, and nothing of what is alike."""

import numpy as np
import pytest
import torch
import trimesh

from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.objects.turns import alike_turns
from pnp_ros.pipeline.ambiguity import Ambiguity
from pnp_ros.sources.edge_likeness import EdgeLikeness
from pnp_ros.types import Pose
from synthetic.cad_parts import flange
from synthetic.scenes import EXACT, Scene, scenes


@pytest.fixture(scope="module")
def mesh() -> TriangleMesh:
    return flange()


@pytest.fixture(scope="module", params=[3, 4])
def scene(mesh: TriangleMesh, request: pytest.FixtureRequest) -> Scene:
    return next(scenes(mesh, 1, request.param, EXACT))


def turned(pose: Pose, degrees: float) -> Pose:
    turn = torch.eye(4)
    turn[:3, :3] = so3.exp(torch.tensor([0.0, 0.0, np.radians(degrees)])).float()
    return Pose.from_matrix(pose.matrix() @ turn)


def test_the_holes_of_a_flange_tell_how_far_it_is_turned(mesh: TriangleMesh, scene: Scene) -> None:
    poses = [turned(scene.pose, degrees) for degrees in (0.0, 90.0, 180.0, 30.0, 45.0, 60.0)]
    likely = EdgeLikeness(mesh).log_likelihoods(scene.image, scene.camera, poses)
    assert float(likely[:3].min()) > float(likely[3:].max()) + 5.0


def test_a_pose_between_the_turns_is_found(mesh: TriangleMesh, scene: Scene) -> None:
    ambiguity = Ambiguity(mesh, Symmetry())
    assert ambiguity.nearer(scene.image, scene.camera, scene.pose) is None
    found = ambiguity.nearer(scene.image, scene.camera, turned(scene.pose, 12.0))
    assert found is not None
    assert float(so3.angle_between(found.rotation, scene.pose.rotation)) < np.radians(4.0)
    assert float((found.translation - scene.pose.translation).norm()) < 0.01 * mesh.diameter


def test_nothing_tells_how_far_a_rod_is_turned() -> None:
    rod = trimesh.creation.cylinder(0.03, 0.05, sections=48)
    mesh = TriangleMesh(np.float32(rod.vertices), np.int32(rod.faces))
    scene = next(scenes(mesh, 1, 3, EXACT))
    turns = [Pose.from_matrix(scene.pose.matrix() @ turn) for turn in alike_turns(mesh)]
    likely = EdgeLikeness(mesh).log_likelihoods(scene.image, scene.camera, [scene.pose, *turns])
    assert float((likely - likely[0]).abs().max()) < 1.0
    assert Ambiguity(mesh, Symmetry()).nearer(scene.image, scene.camera, scene.pose) is None


def test_a_place_out_of_the_image_tells_nothing(mesh: TriangleMesh, scene: Scene) -> None:
    away = Pose(scene.pose.rotation, scene.pose.translation + torch.tensor([9.0, 0.0, 0.0]))
    assert EdgeLikeness(mesh).log_likelihoods(scene.image, scene.camera, [away, scene.pose]).tolist() == [0.0, 0.0]


def test_poses_that_are_asked_one_by_one_are_told_from_the_same_pixels(mesh: TriangleMesh, scene: Scene) -> None:
    likeness, nearer = EdgeLikeness(mesh), Pose(scene.pose.rotation, 0.8 * scene.pose.translation)
    both = likeness.log_likelihoods(scene.image, scene.camera, [scene.pose, nearer])
    where = likeness.box(scene.camera, scene.pose)
    alone = [likeness.log_likelihoods(scene.image, scene.camera, [pose], where) for pose in (scene.pose, nearer)]
    assert torch.cat(alone).tolist() == both.tolist()
    assert float(likeness.log_likelihoods(scene.image, scene.camera, [nearer])[0]) != float(both[1])
