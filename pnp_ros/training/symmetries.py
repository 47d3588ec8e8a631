"""The symmetries of an object as its user declares them in a few letters, checked against the mesh."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.surface import sample_surface
from pnp_ros.objects.symmetry import ContinuousSymmetry, Symmetry, symmetry_from_bop
from pnp_ros.objects.turns import group_of_turns

_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
_MAX_ORDER = 64  # of the group that the declared turns generate: a soccer ball has 60
_TOLERANCE = 0.03  # of the diameter: what a symmetry may move the surface by on average
_SAMPLES = 4000


def declared_symmetry(text: str, mesh: TriangleMesh) -> Symmetry:
    """The symmetry that a text declares, checked against the mesh's shape (colours are not looked at).

    Args:
        text: ``FILE:ID``, an object of BOP's ``models_info.json`` (millimetres); or turns about axes of the mesh
            through its origin, separated by commas: ``z`` any turn about z, ``z4`` quarter turns, ``z,x2`` a cylinder.
        mesh: of the object, metres.

    Raises:
        ValueError: if the text declares nothing known, or the surface does not stay where it is.
    """
    symmetry = _from_models_info(*text.rsplit(":", 1)) if ":" in text else _from_turns(text)
    moved = _moved(symmetry, mesh)
    if moved > _TOLERANCE:
        raise ValueError(
            f"symmetries: {text} moves the surface by {100 * moved:.1f} % of the diameter on average, expected at most "
            f"{100 * _TOLERANCE:.0f} %; turns are about the axes of the mesh through its origin"
        )
    return symmetry


def _from_models_info(file: str, number: str) -> Symmetry:
    try:
        info = json.loads(Path(file).read_text())[number]
    except (OSError, ValueError) as error:
        raise ValueError(f"symmetries: {file}: cannot be read ({error})") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"symmetries: {file}: no object {number}") from error
    return symmetry_from_bop(info, metres_per_unit=0.001)


def _from_turns(text: str) -> Symmetry:
    continuous: list[ContinuousSymmetry] = []
    generators: list[NDArray[np.float64]] = []
    for turn in text.split(","):
        found = re.fullmatch(r"([xyz])(\d*)", turn.strip())
        if not found or found[2] in ("0", "1"):
            raise ValueError(f"symmetries: expected FILE:ID or turns such as z, z4 or z,x2; got {text!r}")
        axis = _AXES[found[1]]
        if found[2]:
            generators.append(2.0 * math.pi / int(found[2]) * np.array(axis))
        else:
            continuous.append(ContinuousSymmetry(axis))
    rotations = group_of_turns(generators, _MAX_ORDER + 1)[1:]  # without the identity
    if len(rotations) >= _MAX_ORDER:
        raise ValueError(f"symmetries: the turns generate more than {_MAX_ORDER} others; is one of them wrong?")
    discrete = torch.eye(4, dtype=torch.float64).repeat(len(rotations), 1, 1)
    discrete[:, :3, :3] = torch.from_numpy(rotations)
    return Symmetry(discrete, tuple(continuous))


def _moved(symmetry: Symmetry, mesh: TriangleMesh) -> float:
    """Mean distance from the moved surface to where it was, of the worst motion; as a share of the diameter."""
    surface = sample_surface(mesh, _SAMPLES).astype(np.float64)
    tree = cKDTree(surface)
    spacing = float(tree.query(surface, k=2)[0][:, 1].mean())  # what the sampling alone amounts to
    worst = 0.0
    for motion in symmetry.transforms(steps=8)[1:].numpy():
        distances, _ = tree.query(surface[::4] @ motion[:3, :3].T + motion[:3, 3])
        worst = max(worst, float(distances.mean()) - spacing)
    return worst / mesh.diameter
