"""Declared symmetries are what they say, fit the mesh, and reach the object package."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from pnp_ros.cli.main import main
from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.training.symmetries import declared_symmetry


def as_mesh(shape: trimesh.Trimesh) -> TriangleMesh:
    return TriangleMesh(np.asarray(shape.vertices, np.float32), np.asarray(shape.faces, np.int32))


CYLINDER = as_mesh(trimesh.creation.cylinder(radius=0.03, height=0.1, sections=64))
BOX = as_mesh(trimesh.creation.box((0.1, 0.1, 0.05)))
CUBE = as_mesh(trimesh.creation.box((0.1, 0.1, 0.1)))


@pytest.mark.parametrize(
    ("text", "mesh", "discrete", "continuous"),
    [
        ("z", CYLINDER, 0, 1),
        ("z,x2", CYLINDER, 1, 1),
        ("z4", BOX, 3, 0),
        ("z2", BOX, 1, 0),
        ("z4, x2", BOX, 7, 0),
        ("z4,x4", CUBE, 23, 0),
    ],
)
def test_turns(text: str, mesh: TriangleMesh, discrete: int, continuous: int) -> None:
    found = declared_symmetry(text, mesh)
    assert (len(found.discrete), len(found.continuous)) == (discrete, continuous)
    rotations = found.discrete[:, :3, :3]
    angles = so3.angle_between(rotations, torch.eye(3).double().expand_as(rotations))
    assert (angles > 0.1).all()  # the identity is not among them
    if text == "z4":
        expected = {round(math.degrees(k * math.pi / 2)) for k in (1, 2)}
        assert {round(float(a.rad2deg())) for a in angles} == expected
    assert all(symmetry.axis == (0.0, 0.0, 1.0) for symmetry in found.continuous)


def test_what_the_mesh_does_not_have_is_refused() -> None:
    for text, mesh in (("z4", as_mesh(trimesh.creation.box((0.1, 0.05, 0.05)))), ("x", CYLINDER), ("z", CUBE)):
        with pytest.raises(ValueError, match=r"moves the surface by .* % of the diameter"):
            declared_symmetry(text, mesh)
    aside = as_mesh(trimesh.creation.cylinder(radius=0.03, height=0.1, sections=64).apply_translation((0.02, 0, 0)))
    with pytest.raises(ValueError, match="through its origin"):
        declared_symmetry("z", aside)


@pytest.mark.parametrize("text", ["", "w", "z1", "z0", "4z", "zz", "z,,x"])
def test_what_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected FILE:ID or turns"):
        declared_symmetry(text, CUBE)


def test_turns_that_never_come_to_an_end_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 64 others"):
        declared_symmetry("z7,x5", CUBE)


def test_an_object_of_models_info(tmp_path: Path) -> None:
    file = tmp_path / "models_info.json"
    half = [-1.0, 0, 0, 40.0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]  # about an axis 20 mm aside
    file.write_text(json.dumps({"3": {"diameter": 150.0, "symmetries_discrete": [half]}, "4": {"diameter": 150.0}}))
    aside = as_mesh(trimesh.creation.box((0.1, 0.06, 0.05)).apply_translation((0.02, 0, 0)))
    found = declared_symmetry(f"{file}:3", aside)
    assert found.discrete[0, 0, 3] == pytest.approx(0.04)
    assert declared_symmetry(f"{file}:4", aside).is_trivial
    for text, message in ((f"{file}:5", "no object 5"), (f"{tmp_path / 'absent.json'}:3", "cannot be read")):
        with pytest.raises(ValueError, match=message):
            declared_symmetry(text, aside)


@pytest.mark.slow
def test_the_command_writes_them_into_the_package(tmp_path: Path) -> None:
    trimesh.creation.cylinder(radius=0.03, height=0.1, sections=32).export(tmp_path / "can.ply")
    words = ["train", str(tmp_path / "can.ply"), "--out", str(tmp_path / "can"), "--units", "m", "--minutes", "0.3"]
    assert main([*words, "--symmetries", "z,x2", "--width", "8", "--keypoints", "8", "--workers", "1"]) == 0
    symmetry = load_object_package(tmp_path / "can").symmetry
    assert (len(symmetry.discrete), len(symmetry.continuous)) == (1, 1)


def test_the_command_refuses_before_it_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trimesh.creation.box((0.1, 0.05, 0.02)).export(tmp_path / "box.ply")
    words = ["train", str(tmp_path / "box.ply"), "--out", str(tmp_path / "box"), "--units", "m"]
    assert main([*words, "--symmetries", "z4"]) == 1
    assert "moves the surface" in capsys.readouterr().err
    assert not (tmp_path / "box").exists()
