"""Held-out images with exact poses: whole scenes rendered in true perspective, then a camera's effects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.backgrounds import BackgroundSource, Rng
from pnp_ros.rendering.camera_effects import apply_camera_effects
from pnp_ros.rendering.distractors import painted_sprite, random_solid
from pnp_ros.rendering.domain_randomisation import (
    RandomisationConfig,
    log_uniform,
    random_camera,
    random_lighting,
    random_pose,
)
from pnp_ros.rendering.lighting import Lighting
from pnp_ros.rendering.materials import Wardrobe
from pnp_ros.rendering.renderer import Item, Renderer, composite
from pnp_ros.rendering.unseen import dead_leaves, unseen_lighting, unseen_material

_EFFECTS = 0.6  # of the strength in training: images of a common camera, not of the worst
_SOLIDS = 10


@dataclass(frozen=True, eq=False)
class ValidationFrame:
    """One image and its truth.

    Args:
        rgb: (H, W, 3) uint8.
        camera: that took it, a pinhole.
        T_camera_object: (4, 4) float64, metres; None where the object is absent.
        visible: share of the object's pixels that nothing hides, 0 to 1; 0 where it is absent.
    """

    rgb: NDArray[np.uint8]
    camera: Camera
    T_camera_object: NDArray[np.float64] | None
    visible: float


def validation_frames(
    mesh: TriangleMesh, config: RandomisationConfig, count: int, seed: int = 1_000_003, unseen: bool = False
) -> Iterator[ValidationFrame]:
    """``count`` images of ``config.image_size``, the same for the same seed.

    Other solids stand around and, in ``config.occlusion`` of the images, before the object; all share one light.
    The object keeps ``config.min_visible`` of its pixels visible; ``config.negatives`` of the images lack it.

    Args:
        mesh: of the object, metres.
        config: the ranges.
        count: of the images.
        seed: of everything.
        unseen: with materials, light and backgrounds that no training draws, see :mod:`pnp_ros.rendering.unseen`;
            a folder's photographs are those of the training.

    Raises:
        RendererError: if there is no OpenGL.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    backgrounds = BackgroundSource(config.backgrounds, dead_leaves if unseen else None)
    lit = unseen_lighting if unseen else random_lighting
    with Renderer() as renderer:
        looks = Wardrobe(mesh, config.colour, renderer, backgrounds, rng, unseen_material if unseen else None)
        solids = [renderer.add(random_solid(mesh.diameter, backgrounds, rng)) for _ in range(_SOLIDS)]
        for _ in range(count):
            frame = _scene(renderer, looks, solids, mesh, config, backgrounds, lit, rng)
            image = torch.from_numpy(frame.rgb.copy()).permute(2, 0, 1)[None].float() / 255.0
            image = apply_camera_effects(image, generator, _EFFECTS * config.effects)
            rgb = (image[0].permute(1, 2, 0) * 255.0).round().byte().numpy()
            yield ValidationFrame(rgb, frame.camera, frame.T_camera_object, frame.visible)


def _scene(
    renderer: Renderer,
    looks: Wardrobe,
    solids: list[int],
    mesh: TriangleMesh,
    config: RandomisationConfig,
    backgrounds: BackgroundSource,
    lit: Callable[[Rng], Lighting],
    rng: Rng,
) -> ValidationFrame:
    camera, lighting = random_camera(config, rng), lit(rng)
    target, material = looks.draw()
    lighting = material.under(lighting)
    background = backgrounds.image(camera.width, camera.height, rng)
    center = mesh.bounds.mean(axis=0).astype(np.float64)
    pose = random_pose(config, camera, center, mesh.diameter, rng)
    around = [_random_item(solids, camera, config, mesh.diameter, rng) for _ in range(rng.integers(0, 6))]
    if rng.random() < config.negatives:
        rgb = renderer.render(around, camera, lighting, background).rgb
        return ValidationFrame(rgb, camera, None, 0.0)
    alone = renderer.render([(target, pose)], camera, lighting)
    whole = max(int(alone.mask.astype(bool).sum()), 1)
    hand = _hand(camera, alone.mask > 0, rng) if rng.random() < 0.5 * config.occlusion else None
    before = [_item_before(solids, pose, center, rng)] if rng.random() < 0.5 * config.occlusion else []
    for items, cover in (([*before, *around], hand), (around, None), ([], None)):
        seen = renderer.render([(target, pose), *items], camera, lighting, background)
        mine = seen.mask == 1
        rgb = seen.rgb
        if cover is not None:
            rgb = composite(cover, rgb)
            mine &= cover[..., 3] < 128
        visible = float(mine.sum()) / whole
        if visible >= config.min_visible:  # else again with less in front
            break
    return ValidationFrame(rgb, camera, pose, visible)


def _random_item(solids: list[int], camera: Camera, config: RandomisationConfig, diameter: float, rng: Rng) -> Item:
    """Some solid somewhere in the image."""
    return solids[rng.integers(len(solids))], random_pose(config, camera, np.zeros(3), diameter, rng)


def _item_before(solids: list[int], pose: NDArray[np.float64], center: NDArray[np.float64], rng: Rng) -> Item:
    """Some solid between the camera and a point near the object."""
    at = pose.copy()
    at[:3, :3] = pose[:3, :3] @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    middle = pose[:3, :3] @ center + pose[:3, 3]
    at[:3, 3] = middle * rng.uniform(0.55, 0.8) + np.append(rng.normal(0, 0.06, 2) * middle[2] * 0.5, 0.0)
    return solids[rng.integers(len(solids))], at


def _hand(camera: Camera, mask: NDArray[np.bool_], rng: Rng) -> NDArray[np.uint8] | None:
    """(H, W, 4) a hand at the object's edge, colour times coverage and coverage; None if the object is not seen."""
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        return None
    extent = max(int(np.ptp(rows)), int(np.ptp(columns)), 20)
    size = int(extent * log_uniform((1.2, 2.4), rng))
    sprite = painted_sprite(size, BackgroundSource(), rng)
    edge = rng.integers(len(rows))
    x, y = (int(v - size * rng.uniform(0.2, 0.8)) for v in (columns[edge], rows[edge]))
    layer = np.zeros((camera.height + 2 * size, camera.width + 2 * size, 4), np.uint8)
    x, y = np.clip([x, y], -size, [camera.width, camera.height]) + size
    layer[y : y + size, x : x + size] = sprite
    return layer[size : size + camera.height, size : size + camera.width]
