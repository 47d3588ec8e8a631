"""Put images on images, in batches on any device. Coloured layers carry colour times coverage, then coverage."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_LEVELS = 4  # of halving, before an image is made smaller than a half


def placement(center: Tensor, scale: Tensor, angle: Tensor, source_center: Tensor) -> Tensor:
    """(B, 2, 3) maps of source pixels to target pixels: turn, scale, and bring one point onto another.

    Args:
        center: (B, 2) target pixels where ``source_center`` goes.
        scale: (B,) target pixels per source pixel.
        angle: (B,) turn from x to y in radians.
        source_center: (B, 2) source pixels.
    """
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    linear = torch.stack([cosine, -sine, sine, cosine], dim=-1).unflatten(-1, (2, 2))
    return torch.cat([linear, (center - (linear @ source_center[..., None])[..., 0])[..., None]], dim=-1)


def transform_points(target_from_source: Tensor, points: Tensor) -> Tensor:
    """Points (B, N, 2) through maps (B, 2, 3)."""
    return points @ target_from_source[..., :2].mT + target_from_source[..., None, :, 2]


def warp(images: Tensor, target_from_source: Tensor, height: int, width: int, outside: str = "zeros") -> Tensor:
    """Images as they look in the target: bilinear; made much smaller, they are averaged first.

    Args:
        images: (B, C, h, w) float.
        target_from_source: (B, 2, 3) similarity maps of pixels, pixel centres at integers.
        height: of the target in pixels.
        width: of the target in pixels.
        outside: what is seen beyond the image: ``zeros``, or its ``border`` repeated.

    Returns:
        (B, C, height, width).
    """
    shrink = torch.linalg.det(target_from_source[..., :2]).clamp_min(1e-12).rsqrt()
    level = torch.log2(shrink / 1.2).floor().clamp(0, _LEVELS).long()
    warped = images.new_empty(len(images), images.shape[1], height, width)
    for halvings in level.unique().tolist():
        chosen = (level == halvings).nonzero()[:, 0]
        factor = 2**halvings
        smaller = images.index_select(0, chosen)
        smaller = functional.avg_pool2d(smaller, factor) if factor > 1 else smaller
        warped.index_copy_(0, chosen, _resample(smaller, target_from_source[chosen], factor, height, width, outside))
    return warped


def _resample(images: Tensor, target_from_source: Tensor, factor: int, height: int, width: int, outside: str) -> Tensor:
    """``images`` are ``factor`` times smaller than the source that the map speaks of."""
    linear = torch.linalg.inv(target_from_source[..., :2])
    offset = -(linear @ target_from_source[..., 2:])
    # to the coordinates of grid_sample, in which an image spans -1 to 1 from edge to edge
    size = images.new_tensor([images.shape[-1], images.shape[-2]])[:, None] * factor
    across, down = (2.0 * linear / size)[..., None, None].unbind(2)
    start = ((2.0 * offset + 1.0) / size - 1.0)[..., None]
    columns = torch.arange(width, device=images.device, dtype=images.dtype)
    rows = torch.arange(height, device=images.device, dtype=images.dtype)[:, None]
    grid = torch.stack([across[:, i] * columns + (down[:, i] * rows + start[:, i]) for i in range(2)], dim=-1)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode=outside, align_corners=False)


def over(below: Tensor, layer: Tensor) -> Tensor:
    """(B, 3, H, W) images with a (B, 4, H, W) layer laid over them."""
    return torch.addcmul(layer[:, :3], below, 1.0 - layer[:, 3:])


def cast_shadow(below: Tensor, coverage: Tensor, shift: Tensor, depth: Tensor) -> Tensor:
    """Darken images by a soft, shifted shadow of what will be laid over them.

    Args:
        below: (B, 3, H, W).
        coverage: (B, 1, H, W) of the thing that casts the shadow.
        shift: (B, 2) of the shadow as a share of the width and height.
        depth: (B,) how dark, 0 to 1.
    """
    small = functional.adaptive_avg_pool2d(coverage, (24, 24))
    small = functional.avg_pool2d(small, 5, 1, 2)
    theta = torch.eye(2, 3, device=below.device, dtype=below.dtype).repeat(len(below), 1, 1)
    theta[..., 2] = -2.0 * shift
    grid = functional.affine_grid(theta, [len(below), 1, 24, 24], align_corners=False)
    small = functional.grid_sample(small, grid, padding_mode="zeros", align_corners=False)
    shade = 1.0 - depth[:, None, None, None] * small
    return below * functional.interpolate(shade, below.shape[-2:], mode="bilinear", align_corners=False)
