"""Turns under which a mesh looks alike although its user declared none: what to ask before training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.training.symmetries import declared_symmetry

_ORDERS = (6, 5, 4, 3, 2)  # of discrete turns, the highest that holds counts
_ANY_TURNS = (0.7, 1.9, 2.5)  # rad: no turn of low order is near all of them
_SAMPLES, _PROBES = 20_000, 4_000
_AWAY = 0.02  # of the diameter: a point that lies farther from the surface tells the views apart
_SHARE_AWAY = 0.005  # of the points: a handle is more
_COLOR = 12.0  # of 255: a difference beyond what neighbours differ by


def alike_turns(mesh: TriangleMesh) -> str | None:
    """The symmetries to declare of a mesh: turns about its axes that keep shape and colours; None: none do."""
    points, colors = _surface(mesh)
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
        if all(alike(axis, angle) for angle in _ANY_TURNS):
            turns.append(name)
        else:
            order = next((n for n in _ORDERS if alike(axis, 2.0 * np.pi / n)), None)
            turns += [] if order is None else [f"{name}{order}"]
    turns.sort(key=len)  # any turn first
    for text in (",".join(turns), *turns):
        try:
            if text:
                declared_symmetry(text, mesh)
                return text
        except ValueError:  # together they generate too many, or they only nearly hold
            continue
    return None


def _surface(mesh: TriangleMesh) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 3) points spread evenly over the surface, in any order, and their colours (N, 3) of 255."""
    random = np.random.default_rng(0)
    face = mesh.faces[random.choice(len(mesh.faces), _SAMPLES, p=mesh.face_areas / mesh.face_areas.sum())]
    weights = random.dirichlet((1.0, 1.0, 1.0), _SAMPLES)
    points = np.einsum("nk,nkc->nc", weights, mesh.vertices[face].astype(np.float64))
    if mesh.texture is not None and mesh.uv is not None:
        height, width = mesh.texture.shape[:2]
        u, v = (np.einsum("nk,nkc->nc", weights, mesh.uv[face]) % 1.0).T
        row, column = ((1.0 - v) * height).astype(int).clip(0, height - 1), (u * width).astype(int).clip(0, width - 1)
        return points, mesh.texture[row, column].astype(np.float64)
    if mesh.vertex_colors is not None:
        return points, np.einsum("nk,nkc->nc", weights, mesh.vertex_colors[face].astype(np.float64))
    return points, np.zeros_like(points)
