"""The turns that leave a shape in place, and no others."""

import dataclasses

import numpy as np
import pytest
import torch
import trimesh

from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.turns import alike_turns, half_turns
from pnp_ros.rendering.demo_object import demo_mesh
from synthetic.printed_box import printed_box


@pytest.mark.parametrize(
    ("size", "turns"),
    [((0.12, 0.09, 0.06), 3), ((0.1, 0.1, 0.14), 7), ((0.1, 0.1, 0.1), 23), ((0.1, 0.07, 0.0006), 3)],
)
def test_a_box_has_the_turns_of_its_sides(size: tuple[float, float, float], turns: int) -> None:
    assert len(alike_turns(printed_box(size=size))) == turns


def test_a_cylinder_that_stands_askew_beside_its_origin_is_turned_about_its_own_axis() -> None:
    rod = trimesh.creation.cylinder(0.02, 0.1, sections=48)
    turn, shift = so3.exp(torch.tensor([0.4, -0.7, 0.2])).numpy(), np.float32([0.3, 0.0, 0.1])
    mesh = TriangleMesh(np.float32(rod.vertices @ turn.T + shift), np.int32(rod.faces))
    turns = alike_turns(mesh)
    assert len(turns) == 2 * 12 - 1  # any angle in twelve steps, and upside down
    centre = torch.from_numpy(shift)
    for motion in turns:
        torch.testing.assert_close(motion[:3, :3] @ centre + motion[:3, 3], centre, atol=1e-4, rtol=0.0)


def test_what_has_no_symmetry_has_no_turns() -> None:
    assert len(alike_turns(demo_mesh())) == 0


def test_half_turns_keep_the_centroid_and_show_the_other_side() -> None:
    mesh = printed_box(size=(0.12, 0.09, 0.06))
    moved = dataclasses.replace(mesh, vertices=mesh.vertices + np.float32([0.3, 0.0, 0.1]))
    centre = torch.tensor([0.3, 0.0, 0.1]) + torch.from_numpy(mesh.bounds.mean(0)).float()
    turns = half_turns(moved)
    assert len(turns) == 3
    for turn in turns:
        torch.testing.assert_close(turn[:3, :3] @ centre + turn[:3, 3], centre, atol=1e-5, rtol=0.0)
        torch.testing.assert_close(turn @ turn, torch.eye(4), atol=1e-5, rtol=0.0)
        assert float(turn[:3, :3].trace()) == pytest.approx(-1.0, abs=1e-5)
