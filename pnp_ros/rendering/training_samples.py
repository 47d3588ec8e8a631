"""Endless training samples of one object: crops with keypoints, whole images with boxes.

Few renders make many samples: each is turned, scaled and shifted, laid on another background, partly hidden by other
things and taken by another bad camera (after "cut, paste and learn", Dwibedi et al. 2017, and domain randomisation,
Tobin et al. 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.rendering.camera_effects import apply_camera_effects, uniform
from pnp_ros.rendering.compositing import cast_shadow, over, placement, transform_points, warp
from pnp_ros.rendering.domain_randomisation import RandomisationConfig
from pnp_ros.rendering.sample_pool import SamplePool


@dataclass(frozen=True, eq=False)
class CropBatch:
    """Crops around the object, as a detector would cut them.

    Args:
        images: (B, 3, S, S) float32 RGB in [0, 1].
        keypoints: (B, K, 2) crop pixels, of the canonical pose; may lie outside the crop or be hidden.
        visible: (B,) share of the object that nothing hides, 0 to 1; 0 without the object.
        present: (B,) bool, whether the object is there at all.
        mask: (B, S, S) bool, the object's visible pixels.
        intrinsics: (B, 4) fx, fy, cx, cy of the pinhole camera that sees each crop, crop pixels.
        pose: (B, 3, 4) the canonical pose ``T_camera_object`` in that camera, [rotation | translation in metres].
    """

    images: Tensor
    keypoints: Tensor
    visible: Tensor
    present: Tensor
    mask: Tensor
    intrinsics: Tensor
    pose: Tensor


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Whole images for a detector.

    Args:
        images: (B, 3, H, W) float32 RGB in [0, 1].
        boxes: (B, 4) x, y, width, height in pixels around the whole object, hidden parts and parts outside the image
            included; (x, y) is the outer corner, so a box that fills the image starts at (-0.5, -0.5). Its centre is
            inside the image. Zero without the object.
        present: (B,) bool, whether the object is there at all.
    """

    images: Tensor
    boxes: Tensor
    present: Tensor


class TrainingSampler:
    """Samples of one object; the same seed and calls give the same samples. For one thread: it owns a renderer.

    Args:
        mesh: of the object, metres.
        keypoints: (K, 3) metres, object frame.
        symmetry: of the object.
        config: ranges of all that is random.
        seed: of everything.
        device: where samples are made; rendering uses OpenGL's device.

    Raises:
        RendererError: if there is no OpenGL.
        BackgroundError: if the folder of backgrounds holds no images.
    """

    def __init__(
        self,
        mesh: TriangleMesh,
        keypoints: NDArray[np.float32],
        symmetry: Symmetry | None = None,
        config: RandomisationConfig | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._config = config or RandomisationConfig()
        device = torch.device(device)
        symmetry = symmetry or Symmetry()
        # a turned image of a symmetric object may have another canonical pose than the one its keypoints are of
        self._roll_jitter = self._config.roll_jitter if symmetry.is_trivial else 0.0
        self._pool = SamplePool(mesh, keypoints, symmetry, self._config, seed, device)
        self._generator = torch.Generator(device).manual_seed(seed)
        self._like = torch.zeros((), device=device)
        self.difficulty = 1.0
        """Of crops: share of what hides the object, and of how far off the window is, that the ranges say."""

    def refresh(self, count: int) -> None:
        """Render ``count`` more images of the object into the pool."""
        self._pool.refresh(count)

    def crops(self, batch: int) -> CropBatch:
        """A batch of crops."""
        config, size = self._config, self._config.crop_size
        stock = self._draw_objects(batch)
        angle = self._uniform(batch, low=-self._roll_jitter, high=self._roll_jitter)
        side = (
            config.crop_margin
            * self._length(stock["outline"], angle)
            * self._log_uniform(config.crop_scale, batch) ** self.difficulty
        )
        center = (size - 1) / 2 + self.difficulty * config.crop_shift * size * self._uniform(batch, 2, low=-1.0)
        placed = self._place(stock["outline"], center, size / side, angle)
        present = self._uniform(batch) >= config.negatives
        layer = warp(stock["rgba"], placed, size, size) * present[:, None, None, None]
        images, visible, seen = self._compose(
            self.backgrounds(batch), layer, center, size * self._uniform(batch, low=0.25), present, self.difficulty
        )
        intrinsics, pose = _turned_camera(placed, size / side, angle, stock["intrinsics"], stock["pose"])
        return CropBatch(
            images=apply_camera_effects(images, self._generator, config.effects),
            keypoints=transform_points(placed, stock["keypoints"]),
            visible=visible,
            present=present,
            mask=seen > 0.5,
            intrinsics=intrinsics,
            pose=pose,
        )

    def frames(self, batch: int) -> FrameBatch:
        """A batch of whole images."""
        config, (width, height) = self._config, self._config.frame_size
        stock = self._draw_objects(batch)
        angle = self._uniform(batch, low=-self._roll_jitter, high=self._roll_jitter)
        length = self._log_uniform(config.frame_object_size, batch)
        center = self._uniform(batch, 2) * self._like.new_tensor([width - 1, height - 1])
        placed = self._place(stock["outline"], center, length / self._length(stock["outline"], angle), angle)
        present = self._uniform(batch) >= config.negatives
        layer = warp(stock["rgba"], placed, height, width) * present[:, None, None, None]
        other_size = length * self._log_uniform((0.4, 2.0), batch)
        backgrounds = self._draw_backgrounds(batch, height, width)
        images, _, _ = self._compose(backgrounds, layer, center, other_size, present)
        low, high = self._extent(stock["outline"], placed)
        return FrameBatch(
            images=apply_camera_effects(images, self._generator, config.effects),
            boxes=torch.cat([low, high - low], dim=-1) * present[:, None],
            present=present,
        )

    def backgrounds(self, batch: int) -> Tensor:
        """(B, 3, S, S) of the size of crops."""
        return self._draw_backgrounds(batch, self._config.crop_size, self._config.crop_size)

    def surround(self, layer: Tensor, center: Tensor, backgrounds: Tensor) -> Tensor:
        """Images (B, 3, S, S) of an object that was cut out of others, with things behind and in front of it.

        Args:
            layer: (B, 4, S, S) its colour times coverage, and coverage.
            center: (B, 2) pixels, its middle.
            backgrounds: (B, 3, S, S).
        """
        other_size = layer.shape[-1] * self._uniform(len(layer), low=0.25)
        present = torch.ones(len(layer), dtype=torch.bool, device=layer.device)
        return self._compose(backgrounds, layer, center, other_size, present)[0]

    def _compose(
        self,
        images: Tensor,
        layer: Tensor,
        center: Tensor,
        other_size: Tensor,
        present: Tensor,
        difficulty: float = 1.0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Background, things behind, the object with its shadow, things in front.

        Args:
            images: (B, 3, H, W) backgrounds.
            layer: (B, 4, H, W) the object in place.
            center: (B, 2) pixels, the middle of the object, or where it would be.
            other_size: (B,) about the size in pixels of the other things.
            present: (B,) bool.
            difficulty: share of the usual occlusion.

        Returns:
            Images (B, 3, H, W), the object's visible share (B,), its visible coverage (B, H, W).
        """
        batch, _, height, width = layer.shape
        size = self._like.new_tensor([width, height])
        for share in (0.7, 0.35):
            anywhere = self._uniform(batch, 2, low=-0.1, high=1.1) * size
            images, _ = self._lay_sprites(images, share, anywhere, other_size, torch.zeros_like(layer[:, 3]))
        depth = self._uniform(batch, high=0.7) * (self._uniform(batch) < 0.6)
        images = cast_shadow(images, layer[:, 3:], self._uniform(batch, 2, low=-0.15, high=0.15), depth)
        images = over(images, layer)
        direction = self._uniform(batch, high=2 * math.pi)
        away = (other_size * self._uniform(batch, low=0.1, high=0.8))[:, None]
        beside = center + away * torch.stack([direction.cos(), direction.sin()], dim=-1)
        images, hiding = self._lay_sprites(images, difficulty * self._config.occlusion, beside, other_size, layer[:, 3])
        seen = layer[:, 3] * (1.0 - hiding)
        visible = seen.sum((1, 2)) / layer[:, 3].sum((1, 2)).clamp_min(1e-6)
        return images, torch.where(present, visible, 0.0), seen

    def _lay_sprites(
        self, images: Tensor, share: float, center: Tensor, size: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Lay one other thing over about ``share`` of the images.

        Args:
            images: (B, 3, H, W).
            share: of the batch.
            center: (B, 2) where they go, pixels.
            size: (B,) their size, pixels.
            target: (B, H, W) coverage of the object, of which ``min_visible`` stays.

        Returns:
            The images, and the coverage (B, H, W) by what was laid.
        """
        batch, _, height, width = images.shape
        coverage = images.new_zeros(batch, height, width)
        chosen = (self._uniform(batch) < share).nonzero()[:, 0]
        if len(chosen) == 0:
            return images, coverage
        sprites = self._pool.sprites.draw(len(chosen), self._generator)["rgba"].float() / 255.0
        side = sprites.shape[-1]
        middle = sprites.new_full((len(chosen), 2), (side - 1) / 2)
        angle = self._uniform(len(chosen), high=2 * math.pi)
        layer = warp(sprites, placement(center[chosen], size[chosen] / side, angle, middle), height, width)
        mine = target.index_select(0, chosen)
        hidden = (mine * layer[:, 3]).sum((1, 2)) / mine.sum((1, 2)).clamp_min(1e-6)
        layer *= (hidden <= 1.0 - self._config.min_visible)[:, None, None, None]
        images.index_copy_(0, chosen, over(images.index_select(0, chosen), layer))
        return images, coverage.index_copy_(0, chosen, layer[:, 3])

    def _draw_objects(self, batch: int) -> dict[str, Tensor]:
        if len(self._pool.objects) == 0:
            self._pool.refresh(min(self._config.pool, 32))
        stock = self._pool.objects.draw(batch, self._generator)
        return {**stock, "rgba": stock["rgba"].float() / 255.0}

    def _draw_backgrounds(self, batch: int, height: int, width: int) -> Tensor:
        """(B, 3, height, width) windows of the pool's backgrounds, half of them mirrored."""
        drawn = self._pool.backgrounds.draw(batch, self._generator)["rgb"]
        space = drawn.shape[-2] - height + 1, drawn.shape[-1] - width + 1
        corner = (self._uniform(batch, 2) * self._like.new_tensor(space)).long().tolist()
        mirrored = (self._uniform(batch) < 0.5).tolist()
        windows = [image[:, y : y + height, x : x + width] for image, (y, x) in zip(drawn, corner)]
        windows = [window.flip(-1) if mirror else window for window, mirror in zip(windows, mirrored)]
        return torch.stack(windows).float() / 255.0

    def _place(self, outline: Tensor, center: Tensor, scale: Tensor, angle: Tensor) -> Tensor:
        """The placement that brings the middle of the turned outline's box to ``center``."""
        placed = placement(center, scale, angle, outline.mean(1))
        low, high = self._extent(outline, placed)
        correction = center - (low + high) / 2
        return torch.cat([placed[..., :2], placed[..., 2:] + correction[..., None]], dim=-1)

    def _length(self, outline: Tensor, angle: Tensor) -> Tensor:
        """(B,) longer side of the turned outline's box."""
        origin = outline.new_zeros(len(outline), 2)
        low, high = self._extent(outline, placement(origin, torch.ones_like(angle), angle, origin))
        return (high - low).amax(-1)

    @staticmethod
    def _extent(outline: Tensor, placed: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2) lower and upper corner of the placed outline's box."""
        corners = transform_points(placed, outline)
        return corners.amin(1), corners.amax(1)

    def _uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return uniform(self._like, self._generator, *shape, low=low, high=high)

    def _log_uniform(self, limits: tuple[float, float], count: int) -> Tensor:
        return torch.exp(self._uniform(count, low=math.log(limits[0]), high=math.log(limits[1])))


def _turned_camera(
    placed: Tensor, scale: Tensor, angle: Tensor, intrinsics: Tensor, pose: Tensor
) -> tuple[Tensor, Tensor]:
    """Camera and pose that show in an image what another camera shows in the image that was placed there.

    Exact, as pixels are square: turning and scaling an image by ``s R u + t`` is what a camera with ``s`` times the
    focal length and the principal point ``s R c + t`` does that is turned about its optical axis.

    Args:
        placed: (B, 2, 3) source pixels to target pixels, as ``placement`` makes them of
        scale: (B,) and
        angle: (B,).
        intrinsics: (B, 4) of the source image.
        pose: (B, 3, 4) in the source image's camera.

    Returns:
        (B, 4) and (B, 3, 4).
    """
    centre = transform_points(placed, intrinsics[:, None, 2:])[:, 0]
    turn = torch.eye(3).to(pose).repeat(len(pose), 1, 1)
    turn[:, 0, 0] = turn[:, 1, 1] = angle.cos()
    turn[:, 1, 0] = angle.sin()
    turn[:, 0, 1] = -turn[:, 1, 0]
    return torch.cat([scale[:, None] * intrinsics[:, :2], centre], dim=-1), turn @ pose
