"""Where an image has edges, and which way they run: by cells, whatever their contrast.

Gradients count by their strength beside that of the neighbourhood, and each cell by the share of a direction in it: a
weak edge on an even wall counts as much as a strong one, and a texture that runs every way counts for nothing in
particular (after the normalised histograms of Dalal and Triggs, CVPR 2005).
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

BINS = 8  # directions, half a turn in all: the sign of a contrast says nothing of the object
CELL = 4  # pixels a side
_GRAIN = 0.8  # pixels of blur
_NOISE = 20.0  # of the gradient (Sobel's sum), below which it counts less
_AROUND = 12.0  # pixels of the neighbourhood
_SPREAD = 0.7  # cells
_EMPTY = 0.12  # of a cell: with less edge it counts less


def edges(layers: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Strength (H, W) and angle (H, W), rad in [0, pi), of the strongest layer's gradient; layers (H, W, C)."""
    dx, dy = (cv2.Sobel(layers, cv2.CV_32F, *order).reshape(layers.shape) for order in ((1, 0), (0, 1)))
    square = dx * dx + dy * dy
    which = square.argmax(axis=2)[..., None]
    x, y, strength = (np.take_along_axis(values, which, 2)[..., 0] for values in (dx, dy, square))
    return np.sqrt(strength), np.mod(np.arctan2(y, x), np.float32(math.pi))


def response(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(BINS, H / CELL, W / CELL) how much of an image (H, W, 3) is edge in each direction, 0 to 1."""
    rows, columns = (max(size // CELL, 1) for size in image.shape[:2])
    strength, angle = edges(np.asarray(cv2.GaussianBlur(image.astype(np.float32), (0, 0), _GRAIN), np.float32))
    share = strength / (strength + _NOISE + cv2.GaussianBlur(strength, (0, 0), _AROUND))
    place = angle * (BINS / math.pi) - 0.5
    cells = []
    for bin_ in range(BINS):
        away = np.abs(place - bin_)
        mine = share * np.maximum(1.0 - np.minimum(away, BINS - away), 0.0)
        small = cv2.resize(mine[: rows * CELL, : columns * CELL], (columns, rows), interpolation=cv2.INTER_AREA)
        cells.append(cv2.GaussianBlur(small, (0, 0), _SPREAD))
    stacked = np.stack(cells)
    return stacked / np.sqrt((stacked**2).sum(0) + _EMPTY**2)
