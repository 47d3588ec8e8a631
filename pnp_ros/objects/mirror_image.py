"""The mirror image of a mesh: of all its reflections, which are turns of each other, the one that is most like it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.surface import sample_surface
from pnp_ros.objects.turns import AWAY, SHARE_AWAY, likely_axes, moments, spacing

_SAMPLES, _PROBES, _AT_ONCE = 8_000, 1_000, 250


def mirror_image(mesh: TriangleMesh) -> TriangleMesh | None:
    """The mesh reflected at that plane through its centroid, across one of its axes, that changes it least.

    So its mirror image at a pose looks like itself there, as far as that is possible. None where it is the same.
    """
    centre, spread = moments(mesh)
    points, probes = (
        torch.from_numpy((sample_surface(mesh, count, seed) - centre) / mesh.diameter)
        for count, seed in ((_SAMPLES, 0), (_PROBES, 1))
    )
    reflections = [np.eye(3) - 2.0 * np.outer(axis, axis) for axis in likely_axes(spread)]
    moved = [probes @ torch.from_numpy(reflection) for reflection in reflections]
    distances = [torch.cat([torch.cdist(some, points).amin(1) for some in each.split(_AT_ONCE)]) for each in moved]
    best = min(range(len(moved)), key=lambda index: float(distances[index].mean()))
    if float((distances[best] > AWAY + 3.0 * spacing(points)).double().mean()) <= SHARE_AWAY:
        return None
    vertices = (mesh.vertices - centre) @ reflections[best] + centre
    return replace(mesh, vertices=vertices.astype(np.float32), faces=mesh.faces[:, ::-1].copy())
