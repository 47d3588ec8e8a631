"""Meshes of no use, grey, in metres: solids stuck to each other, so that no two are alike."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh

Triangles = NDArray[np.float64]  # (F, 3, 3) corners
_ROUND = 24  # corners of a circle
_SIZE = 0.12  # of the diagonal of a mesh's box, metres


def random_assembly(seed: int) -> TriangleMesh:
    """Two to seven boxes, prisms, cones or turned solids, each stuck to a face of one before it."""
    rng = np.random.default_rng(seed)
    parts: list[Triangles] = []
    for k in range(rng.integers(2, 8)):
        part = _solid(rng) @ _turn(rng).T * rng.uniform(0.4, 0.8 if k else 1.0)
        if parts:
            base = parts[rng.integers(len(parts))]
            face = base[rng.integers(len(base))]
            normal = np.cross(face[1] - face[0], face[2] - face[0])
            normal /= np.linalg.norm(normal)
            part += rng.dirichlet(np.ones(3)) @ face + normal * (part @ normal).max() * rng.uniform(0.2, 0.95)
        parts.append(part)
    corners = np.concatenate(parts) * np.exp(rng.normal(0.0, 0.25, 3))
    low, high = corners.min((0, 1)), corners.max((0, 1))
    corners = (corners - (low + high) / 2) * (_SIZE / np.linalg.norm(high - low))
    return TriangleMesh(corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3))


def _turn(rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, 3) a turn that keeps the axes, or now and then any small one after it."""
    turn = np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)[:, None]
    turn[0] *= np.linalg.det(turn)
    if rng.random() < 0.2:
        turn = so3.exp(torch.from_numpy(rng.normal(0.0, 0.6, 3))).numpy() @ turn
    return turn


def _solid(rng: np.random.Generator) -> Triangles:
    """A box, a prism, a cylinder, each straight, tapered or slanted; or a turned solid or a ball."""
    kind, size = rng.integers(5), rng.uniform(0.15, 1.0, 3)
    if kind <= 1:
        ring = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]) / 2.0
    else:
        count = int(rng.integers(3, 8)) if kind == 2 else _ROUND
        angle = 2.0 * np.pi * np.arange(count) / count
        ring = 0.5 * np.stack([np.cos(angle), np.sin(angle)], 1)
        if rng.random() < 0.7:
            size[1] = size[0]
    if kind < 4:
        height = np.array([-0.5, 0.5])
        scale = np.array([1.0, 1.0 if rng.random() < 0.6 else rng.uniform(0.05, 1.0)])
    else:
        height = np.linspace(-0.5, 0.5, 9)
        ball = np.sqrt(np.clip(1.0 - 4.0 * height**2, 0.0, None)) + 0.02
        scale = ball if rng.random() < 0.4 else np.clip(0.6 + np.cumsum(rng.normal(0.0, 0.12, 9)), 0.15, 1.0)
    shift = rng.uniform(-0.3, 0.3, 2) * (rng.random() < 0.25)
    rings = [np.column_stack([ring * s + shift * (z + 0.5), np.full(len(ring), z)]) for z, s in zip(height, scale)]
    return _loft(np.stack(rings)) * size


def _loft(rings: NDArray[np.float64]) -> Triangles:
    """A closed solid through rings (R, N, 3) of corners."""
    a, b = rings[:-1], rings[1:]
    a1, b1 = np.roll(a, -1, 1), np.roll(b, -1, 1)
    sides = [np.stack(corners, -2).reshape(-1, 3, 3) for corners in ((a, a1, b1), (a, b1, b))]
    caps = [np.stack([np.full_like(r, r.mean(0)), r, np.roll(r, -1, 0)], -2) for r in (rings[0, ::-1], rings[-1])]
    return np.concatenate([*sides, *caps])
