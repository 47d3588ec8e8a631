"""The mirror image of a mesh: of all its reflections, which are turns of each other, the one that is most like it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.objects.mesh import TriangleMesh, once_a_mesh
from pnp_ros.objects.surface import sample_surface
from pnp_ros.objects.turns import AWAY, SHARE_AWAY, likely_axes, moments, spacing

_SAMPLES, _PROBES, _AT_ONCE = 8_000, 1_000, 250


@dataclass(frozen=True, eq=False)
class MirrorImage:
    """A mesh's mirror image, and where it is one of the mesh's other reflections.

    Args:
        mesh: that reflection which is most like the mesh.
        turns: (3, 4, 4) float32 motions of it, of which the first is none: to the mesh's reflections across two of its
            axes. From some sides these are more like it.
    """

    mesh: TriangleMesh
    turns: Tensor


@once_a_mesh  # each instance of an object asks for it
def mirror_image(mesh: TriangleMesh) -> MirrorImage | None:
    """The mesh reflected at that plane through its centroid, across one of its axes, that changes it least.

    So its mirror image at a pose looks like itself there, as far as that is possible. None where it is the same.
    """
    centre, spread = moments(mesh)
    points, probes = (
        torch.from_numpy((sample_surface(mesh, count, seed) - centre) / mesh.diameter)
        for count, seed in ((_SAMPLES, 0), (_PROBES, 1))
    )
    axes = likely_axes(spread)
    moved = [probes @ torch.from_numpy(_across(axis)) for axis in axes]
    distances = [torch.cat([torch.cdist(some, points).amin(1) for some in each.split(_AT_ONCE)]) for each in moved]
    best = min(range(len(moved)), key=lambda index: float(distances[index].mean()))
    if float((distances[best] > AWAY + 3.0 * spacing(points)).double().mean()) <= SHARE_AWAY:
        return None
    reflection = _across(axes[best])
    vertices = (mesh.vertices - centre) @ reflection + centre
    others = sorted(np.eye(3), key=lambda axis: abs(float(axis @ axes[best])))[:2]
    turns = torch.eye(4).repeat(3, 1, 1)
    for turn, other in zip(turns[1:], others):
        rotation = _across(other) @ reflection
        turn[:3, :3] = torch.from_numpy(rotation)
        turn[:3, 3] = torch.from_numpy(centre - rotation @ centre)
    return MirrorImage(replace(mesh, vertices=vertices.astype(np.float32), faces=mesh.faces[:, ::-1].copy()), turns)


def _across(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) reflection at the plane through the origin that a unit vector (3,) stands on."""
    return np.asarray(np.eye(3) - 2.0 * np.outer(axis, axis))
