"""The stock that training samples are put together from: renders of the object, of other things, and backgrounds.

Each is a ring: what is new replaces the oldest.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.rendering.backgrounds import BackgroundSource, Rng
from pnp_ros.rendering.distractors import painted_sprite, random_solid, recolored
from pnp_ros.rendering.domain_randomisation import RandomisationConfig, random_camera, random_lighting, random_pose
from pnp_ros.rendering.materials import MESH, Wardrobe
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose

OUTLINE_POINTS = 32
_SPRITE_SIZE = 112
_SPRITES, _BACKGROUNDS, _SOLIDS = 192, 128, 12  # kept at a time
_BACKGROUND_SIZE = (400, 304)  # width, height; at least a frame


class Ring:
    """A bounded stack of tensors that belong together, on a device; once full, new rows replace the oldest."""

    def __init__(self, capacity: int, device: torch.device, **rows: tuple[tuple[int, ...], torch.dtype]) -> None:
        self._rows = {
            name: torch.zeros(capacity, *shape, dtype=dtype, device=device) for name, (shape, dtype) in rows.items()
        }
        self._capacity = capacity
        self._written = 0

    def __len__(self) -> int:
        return min(self._written, self._capacity)

    def add(self, **row: NDArray) -> None:
        """Store one row."""
        at = self._written % self._capacity
        for name, value in row.items():
            self._rows[name][at] = torch.from_numpy(np.ascontiguousarray(value))
        self._written += 1

    def draw(self, count: int, generator: Generator) -> dict[str, Tensor]:
        """``count`` random rows of each tensor."""
        device = next(iter(self._rows.values())).device
        index = torch.randint(0, len(self), (count,), generator=generator, device=device)
        return {name: values.index_select(0, index) for name, values in self._rows.items()}


class SamplePool:
    """Renders of one object and what surrounds it. To be used by one thread, which owns the renderer's context.

    Args:
        mesh: of the object, metres.
        keypoints: (K, 3) metres, object frame.
        symmetry: of the object; keypoints are those of the canonical pose.
        config: the ranges.
        seed: of everything rendered and painted.
        device: where the images are kept.
    """

    def __init__(
        self,
        mesh: TriangleMesh,
        keypoints: NDArray[np.float32],
        symmetry: Symmetry,
        config: RandomisationConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        self._mesh, self._symmetry, self._config = mesh, symmetry, config
        self._keypoints = torch.as_tensor(keypoints, dtype=torch.float64)
        self._outline = torch.as_tensor(mesh.extreme_points, dtype=torch.float64)
        self._center = mesh.bounds.mean(axis=0).astype(np.float64)
        self._rng: Rng = np.random.default_rng(seed)
        self._sources = BackgroundSource(config.backgrounds)
        self._renderer = Renderer(supersampling=1)
        self._looks = Wardrobe(mesh, config.colour, self._renderer, self._sources, self._rng)
        self._solids: list[int] = []
        side, pixels = config.cache_size, torch.uint8
        self.objects = Ring(
            config.pool,
            device,
            rgba=((4, side, side), pixels),
            keypoints=((len(keypoints), 2), torch.float32),
            outline=((OUTLINE_POINTS, 2), torch.float32),
            intrinsics=((4,), torch.float32),
            pose=((3, 4), torch.float32),
        )
        self.sprites = Ring(_SPRITES, device, rgba=((4, _SPRITE_SIZE, _SPRITE_SIZE), pixels))
        width, height = (max(size) for size in zip(_BACKGROUND_SIZE, config.frame_size, [config.crop_size] * 2))
        self._background_size = width, height
        self.backgrounds = Ring(_BACKGROUNDS, device, rgb=((3, height, width), pixels))
        for _ in range(24):
            self._add_sprite()
            self._add_background()

    def refresh(self, count: int) -> None:
        """Render ``count`` more images of the object, and proportionally of the rest."""
        for _ in range(count):
            self._add_object()
            if self._rng.random() < 0.15:
                self._add_sprite()
            if self._rng.random() < 0.1:
                self._add_background()

    def _add_object(self) -> None:
        rng, side = self._rng, self._config.cache_size
        camera = random_camera(self._config, rng)
        matrix = torch.from_numpy(random_pose(self._config, camera, self._center, self._mesh.diameter, rng))
        pose = Pose.from_matrix(matrix)
        camera = camera.to(dtype=torch.float64)
        corners = camera.project(pose.transform(self._outline))
        low, high = corners.amin(0), corners.amax(0)
        window = float((high - low).max()) * 1.03 + 1.0
        x, y = ((low + high) / 2 + 0.5 - window / 2).tolist()
        camera = camera.crop(x, y, window, window, side, side)
        handle, material = self._looks.draw()
        rgba = self._renderer.render_rgba([(handle, matrix)], camera, material.under(random_lighting(rng)))
        canonical = self._symmetry.canonicalise(pose)
        self.objects.add(
            rgba=rgba.transpose(2, 0, 1),
            keypoints=camera.project(canonical.transform(self._keypoints)).float().numpy(),
            outline=outline_of(camera.project(pose.transform(self._outline)).float().numpy()),
            intrinsics=camera.intrinsics.float().numpy(),
            pose=canonical.matrix()[:3].float().numpy(),
        )

    def _add_sprite(self) -> None:
        """Something painted, or a solid rendered at a random pose; the solids themselves change from time to time."""
        rng = self._rng
        if rng.random() < 0.35:
            self.sprites.add(rgba=painted_sprite(_SPRITE_SIZE, self._sources, rng).transpose(2, 0, 1))
            return
        if len(self._solids) < _SOLIDS or rng.random() < 0.2:
            if len(self._solids) == _SOLIDS:
                self._renderer.remove(self._solids.pop(0))
            self._solids.append(self._renderer.add(self._random_solid()))
        camera = random_camera(self._config, rng)
        pose = random_pose(self._config, camera, np.zeros(3), self._mesh.diameter, rng)
        center = camera.project(torch.from_numpy(pose[None, :3, 3]).float())[0]
        window = 1.05 * float(camera.intrinsics[0]) * self._mesh.diameter / pose[2, 3]
        x, y = (center + 0.5 - window / 2).tolist()
        camera = camera.crop(x, y, window, window, _SPRITE_SIZE, _SPRITE_SIZE)
        solid = self._solids[rng.integers(len(self._solids))]
        rgba = self._renderer.render_rgba([(solid, pose)], camera, random_lighting(rng))
        self.sprites.add(rgba=rgba.transpose(2, 0, 1))

    def _random_solid(self) -> TriangleMesh:
        if self._config.colour == (MESH,) and self._rng.random() < 0.25:  # else its colour is no sign
            return recolored(self._mesh, self._sources, self._rng)
        return random_solid(self._mesh.diameter, self._sources, self._rng)

    def _add_background(self) -> None:
        self.backgrounds.add(rgb=self._sources.image(*self._background_size, self._rng).transpose(2, 0, 1))


def outline_of(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(OUTLINE_POINTS, 2) corners of the convex hull of points (M, 2), thinned out or repeated to that number."""
    hull = np.asarray(cv2.convexHull(pixels)).reshape(-1, 2)
    return hull[np.linspace(0, len(hull), OUTLINE_POINTS, endpoint=False).astype(int)]
