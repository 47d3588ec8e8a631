"""Poses of guessed matches between two point sets, by the kernel of :mod:`pnp_ros.kernels.blind_warp`."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import warp as wp
from torch import Tensor

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import so3
from pnp_ros.kernels import blind_warp
from pnp_ros.kernels.lm_launch import initialise, supports
from pnp_ros.types import Pose

_MAX_CELLS = 512  # a side of the grid
_CELLS_A_RADIUS = 4.0
_THREADS_CPU, _GUESSES_CPU = 16, 4096
_THREADS_CUDA, _GUESSES_CUDA = 1 << 17, 64
SEPARATION = 4.0  # radii between the bearings of a guess
FLATNESS = 0.01  # area over squared perimeter of a guess's triangle; 0.048 is the regular one
_REJECT = -3.0  # log of the probability that a right pose is given up


class Guesser:
    """Makes guesses for one scene, in rounds.

    Args:
        pixels: (M, 2) px, float32.
        points: (N, 3) m, float32.
        camera: unbatched, float32.
        radius: px; how near an object point must come to an image point to land on it.
        allowed: (M, N) bool: which pairs may match; at least three object points have a partner.
        share: of the object points, that a right pose is expected to bring onto image points.
    """

    def __init__(
        self, pixels: Tensor, points: Tensor, camera: Camera, radius: float, allowed: Tensor, share: float
    ) -> None:
        initialise()
        self._device = pixels.device if supports(pixels.device) else torch.device("cpu")
        pixels, points, allowed = (x.to(self._device) for x in (pixels, points, allowed))
        camera = camera.to(self._device)
        bearings = camera.unproject(pixels)
        reached = bearings.isfinite().all(-1)  # the lens maps no ray to the others
        bearings, allowed = bearings.nan_to_num(0.0), allowed & reached[:, None]
        flat = replace(camera, distortion=torch.zeros_like(camera.distortion), intrinsics=_UNIT.to(self._device))
        radius = radius / float(camera.intrinsics[:2].mean())
        grid, origin, cells = _occupancy(flat.project(bearings)[allowed.any(1)], radius)
        #: share of the grid that is near an image point: the probability that a wrong pose's point lands on one
        self.coverage = float(grid.float().mean())
        coverage = min(max(self.coverage, 1e-3), 0.9 * share)

        # Points that have no possible partner are never drawn, nor looked at; the order is random, as draws start
        # anywhere and go on from there.
        used = torch.nonzero(allowed.any(0)).squeeze(-1)
        used = used[torch.randperm(len(used), generator=torch.Generator().manual_seed(0)).to(used.device)]
        self.points = len(used)
        choices = allowed[:, used].mT.int().argsort(dim=1, descending=True, stable=True).int().contiguous()
        scene = blind_warp.Scene()
        scene.bearings = wp.from_torch(bearings.contiguous(), dtype=wp.vec3)
        scene.points = wp.from_torch(points[used].contiguous(), dtype=wp.vec3)
        scene.choices = wp.from_torch(choices)
        scene.choice_count = wp.from_torch(allowed[:, used].sum(0).int().contiguous())
        scene.grid = wp.from_torch(grid)
        scene.origin, scene.cells = wp.vec2(*origin.tolist()), cells
        scene.fisheye = camera.model is CameraModel.KANNALA_BRANDT
        scene.gain, scene.loss = math.log(share / coverage), math.log((1.0 - coverage) / (1.0 - share))
        scene.reject, scene.separation, scene.flatness = _REJECT, SEPARATION * radius, FLATNESS
        self._scene = scene
        cuda = self._device.type == "cuda"
        self._threads, self._guesses = (_THREADS_CUDA, _GUESSES_CUDA) if cuda else (_THREADS_CPU, _GUESSES_CPU)
        self._poses = torch.zeros(self._threads, 7, device=self._device)
        self._hits = torch.zeros(self._threads, dtype=torch.int32, device=self._device)

    def round(self, seed: int, keep: int) -> tuple[Pose, Tensor, int]:
        """The best poses (K) of one round, their hits (K), best first, and the guesses made."""
        outputs = [wp.from_torch(self._poses, dtype=blind_warp.vec7), wp.from_torch(self._hits)]
        stream = wp.stream_from_torch() if self._device.type == "cuda" else None
        wp.launch(
            blind_warp.search,
            dim=self._threads,
            inputs=[self._scene, self._guesses, seed],
            outputs=outputs,
            device=wp.device_from_torch(self._device),
            stream=stream,
        )
        hits, best = self._hits.topk(min(keep, self._threads))
        best = best[hits > 0]
        quat = self._poses[best][:, [3, 0, 1, 2]]
        pose = Pose(so3.matrix_from_quat_wxyz(quat), self._poses[best][:, 4:])
        return pose, hits[hits > 0], self._threads * self._guesses


_UNIT = torch.tensor([1.0, 1.0, 0.0, 0.0])


def _occupancy(plane: Tensor, radius: float) -> tuple[Tensor, Tensor, float]:
    """Grid (rows, columns) over points (M, 2) of the plane: 1 within ``radius`` of one; its origin; cells a unit."""
    origin = plane.amin(0) - radius
    extent = plane.amax(0) + radius - origin
    cells = min(_CELLS_A_RADIUS / radius, _MAX_CELLS / float(extent.max()))
    columns, rows = (extent * cells).ceil().long().clamp(min=1).tolist()
    reach = math.ceil(radius * cells) + 1
    steps = torch.arange(-reach, reach + 1, device=plane.device)
    offsets = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).reshape(-1, 2)
    near = ((plane - origin) * cells).floor().long()[:, None] + offsets
    distance = ((near + 0.5) / cells + origin - plane[:, None]).norm(dim=-1)
    size = torch.tensor([columns, rows], device=plane.device)
    inside = ((near >= 0) & (near < size)).all(-1) & (distance <= max(radius, 0.71 / cells))
    grid = torch.zeros(rows, columns, dtype=torch.uint8, device=plane.device)
    column, row = near[inside].unbind(-1)
    grid[row, column] = 1
    return grid, origin, cells
