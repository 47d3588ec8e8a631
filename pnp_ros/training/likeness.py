"""Turns under which a mesh looks alike although its user declared none: what to ask before training."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from scipy.spatial import cKDTree

from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.surface import sample_colours, sample_surface
from pnp_ros.objects.turns import order_of_turns
from pnp_ros.training.symmetries import declared_symmetry

_SAMPLES, _PROBES = 20_000, 4_000
_AWAY = 0.02  # of the diameter: a point that lies farther from the surface tells the views apart
_SHARE_AWAY = 0.005  # of the points: a handle is more
_COLOR = 12.0  # of 255: a difference beyond what neighbours differ by


def symmetries_to_declare(mesh: TriangleMesh) -> str | None:
    """Turns about the axes of a mesh that keep shape and colours, as they are declared; None: none do."""
    points, colors = sample_surface(mesh, _SAMPLES), sample_colours(mesh, _SAMPLES)
    tree = cKDTree(points)
    near, neighbour = tree.query(points[:_PROBES], k=2)
    away = _AWAY * mesh.diameter + 3.0 * float(near[:, 1].mean())
    usual = float(np.abs(colors[:_PROBES] - colors[neighbour[:, 1]]).mean())

    def alike(axis: int, angle: float) -> bool:
        turn = so3.exp(angle * torch.eye(3, dtype=torch.float64)[axis]).numpy()
        distance, index = tree.query(points[:_PROBES] @ turn.T)
        if (distance > away).mean() > _SHARE_AWAY:
            return False
        return float(np.abs(colors[:_PROBES] - colors[index]).mean()) < usual + _COLOR

    turns = []
    for axis, name in enumerate("xyz"):
        order = order_of_turns(partial(alike, axis))
        if order is not None:
            turns.append(f"{name}{order or ''}")
    turns.sort(key=len)  # any turn first
    for text in (",".join(turns), *turns):
        try:
            if text:
                declared_symmetry(text, mesh)
                return text
        except ValueError:  # together they generate too many, or they only nearly hold
            continue
    return None
