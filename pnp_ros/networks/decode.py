"""Heat maps to keypoints: a local soft-argmax with the heat map's spread.

A heat map cell (i, j) of a network with output stride ``s`` covers the input pixels around
``x = (j + 0.5) s - 0.5`` (pixel centres at integer coordinates), so the decoded points are crop pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cell_centres(cells: int, stride: int, like: Tensor) -> Tensor:
    """(cells,) pixel coordinate of each heat map column or row, on the device and in the dtype of ``like``."""
    return (torch.arange(cells, device=like.device, dtype=like.dtype) + 0.5) * stride - 0.5


def pixels_to_cells(points: Tensor, stride: int) -> Tensor:
    """(..., 2) crop pixels to fractional heat map cells; the inverse of :func:`cell_centres`."""
    return (points + 0.5) / stride - 0.5


def local_soft_argmax(logits: Tensor, peak: Tensor, radius: int, stride: int) -> Tensor:
    """Mean position of the heat map's softmax inside a square window.

    Args:
        logits: (B, K, H, W).
        peak: (B, K, 2) integer cell (x, y) in the window's centre, inside the heat map.
        radius: half size of the window in cells; 2 gives 5x5.
        stride: input pixels per cell.

    Returns:
        (B, K, 2) crop pixels. Differentiable in ``logits``.
    """
    height, width = logits.shape[-2:]
    columns = torch.arange(width, device=logits.device)
    rows = torch.arange(height, device=logits.device)
    in_columns = (columns - peak[..., 0:1]).abs() <= radius
    in_rows = (rows - peak[..., 1:2]).abs() <= radius
    window = in_rows[..., :, None] & in_columns[..., None, :]
    masked = logits.masked_fill(~window, float("-inf")).flatten(-2).softmax(-1).unflatten(-1, (height, width))
    x = (masked.sum(-2) * cell_centres(width, stride, logits)).sum(-1)
    y = (masked.sum(-1) * cell_centres(height, stride, logits)).sum(-1)
    return torch.stack([x, y], dim=-1)


def heat_map_peaks(logits: Tensor) -> Tensor:
    """(B, K, H, W) to the (B, K, 2) integer cell (x, y) of each maximum."""
    width = logits.shape[-1]
    index = logits.flatten(-2).argmax(-1)
    return torch.stack([index % width, index // width], dim=-1)


def spread(logits: Tensor, centre: Tensor, stride: int) -> Tensor:
    """Root mean square distance of the whole heat map's mass from a point, per axis.

    It grows when the map has several peaks, which the local decode cannot see.

    Args:
        logits: (B, K, H, W).
        centre: (B, K, 2) crop pixels.
        stride: input pixels per cell.

    Returns:
        (B, K, 2) pixels, at least the standard deviation of a position inside one cell.
    """
    height, width = logits.shape[-2:]
    mass = logits.flatten(-2).softmax(-1).unflatten(-1, (height, width))
    offset_x = cell_centres(width, stride, logits) - centre[..., 0:1]
    offset_y = cell_centres(height, stride, logits) - centre[..., 1:2]
    variance = torch.stack([(mass.sum(-2) * offset_x**2).sum(-1), (mass.sum(-1) * offset_y**2).sum(-1)], dim=-1)
    return (variance + stride**2 / 12.0).sqrt()


def read_at(maps: Tensor, peak: Tensor) -> Tensor:
    """The values of (B, K, C, H, W) maps at the (B, K, 2) integer cells: (B, K, C)."""
    flat = maps.flatten(-2)
    index = (peak[..., 1] * maps.shape[-1] + peak[..., 0])[..., None, None].expand(*flat.shape[:-1], 1)
    return flat.gather(-1, index)[..., 0]
