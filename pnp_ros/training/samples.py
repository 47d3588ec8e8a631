"""Training images of one object, as the rendering workers make them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pnp_ros.networks.keypoint_network import STRIDE
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.rendering.domain_randomisation import RandomisationConfig
from pnp_ros.rendering.object_coordinates import object_coordinates
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.rendering.training_samples import CropBatch, TrainingSampler
from pnp_ros.training.batches import Batch, Kind
from pnp_ros.training.config import TrainingConfig

_START_RENDERS = 192  # in the pool before the first batch
# wider than a good detector needs: of a half-hidden object the first crop is often far off, and a network that has
# not seen such crops fits a wrong pose to them without doubt
_CROP_SCALE, _CROP_SHIFT = (0.72, 1.4), 0.18
_SEEN = 0.5  # share of a cell that shows the object, from which on it has coordinates
_UPPER = (math.radians(-5.0), math.pi / 2)  # elevations of the views that show the upper side


def randomisation(config: TrainingConfig, crop_size: int, crop_margin: float) -> RandomisationConfig:
    """The ranges that a training run renders with."""
    roll = math.radians(config.max_roll)
    return RandomisationConfig(
        elevation=_UPPER if config.views == "upper" else RandomisationConfig.elevation,
        roll=(-roll, roll),
        focal_range=config.focal_range,
        crop_size=crop_size,
        crop_margin=crop_margin,
        crop_scale=_CROP_SCALE,
        crop_shift=_CROP_SHIFT,
        backgrounds=config.backgrounds,
        colour=config.colour,
    )


@dataclass(frozen=True, eq=False)
class ObjectSamplerFactory:
    """Builds the sampler of one object inside a worker.

    Args:
        mesh: in metres.
        keypoints: (K, 3) metres.
        symmetry: of the object.
        randomisation: the ranges.
        device: where the samples are composed.
        easy_until: share of the budget up to which crops become harder: at first nothing is in front of the object,
            and the window is exact.
    """

    mesh: TriangleMesh
    keypoints: Tensor
    symmetry: Symmetry
    randomisation: RandomisationConfig
    device: str = "cpu"
    easy_until: float = 0.0

    def __call__(self, seed: int) -> ObjectSampler:
        return ObjectSampler(self, seed)


class ObjectSampler:
    """Batches of bytes, small enough to travel between processes."""

    def __init__(self, factory: ObjectSamplerFactory, seed: int) -> None:
        self._sampler = TrainingSampler(
            factory.mesh,
            factory.keypoints.numpy(),
            factory.symmetry,
            factory.randomisation,
            seed,
            factory.device,
        )
        self._easy_until = factory.easy_until
        self._mesh = RayMesh(factory.mesh)
        self.refresh(_START_RENDERS)

    def at(self, progress: float) -> None:
        """What follows is for this share of the budget, 0 to 1."""
        self._sampler.difficulty = min(1.0, progress / self._easy_until) if self._easy_until else 1.0

    def refresh(self, count: int) -> None:
        """Render more images into the pool."""
        self._sampler.refresh(count)

    def batch(self, kind: Kind, size: int) -> Batch:
        """``crops``: images, keypoints, present, intrinsics, pose; ``frames``: images, boxes, present.

        Images are (B, 3, H, W) uint8. ``dense`` are crops with ``coordinates`` (B, 3, S / 4, S / 4) metres, NaN where
        the object is not seen.
        """
        if kind != "frames":
            crops = self._sampler.crops(size)
            names = ("keypoints", "present", "intrinsics", "pose")
            batch = {"images": _bytes(crops.images), **{name: getattr(crops, name) for name in names}}
            return _on_cpu(**batch, **({"coordinates": self._coordinates(crops)} if kind == "dense" else {}))
        frames = self._sampler.frames(size)
        boxes = frames.boxes.clone()
        boxes[:, :2] += 0.5  # from pixel coordinates to the distance from the image's outer edge
        return _on_cpu(images=_bytes(frames.images), boxes=boxes, present=frames.present)

    def _coordinates(self, crops: CropBatch) -> Tensor:
        cells = crops.mask.shape[-1] // STRIDE
        found = object_coordinates(self._mesh, crops.intrinsics, crops.pose, cells, STRIDE)
        seen = functional.avg_pool2d(crops.mask[:, None].float(), STRIDE).cpu() > _SEEN
        return torch.where(seen, found, torch.nan)


def _bytes(images: Tensor) -> Tensor:
    return (images * 255.0).round().clamp(0.0, 255.0).to(torch.uint8)


def _on_cpu(**batch: Tensor) -> Batch:
    return {name: tensor.cpu() for name, tensor in batch.items()}
