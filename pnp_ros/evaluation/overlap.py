"""How well an estimated pose explains the image, where no truth is known: the object is rendered at that pose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MIN_PIXELS = 50  # a correlation over fewer is chance
MATCH = 0.6  # above it the rendered object is taken to lie on the real one
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float64)  # ITU-R BT.601


def normalised_cross_correlation(
    image: NDArray[np.uint8],
    rendering: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    item: int | None = None,
    per_channel: bool = True,
) -> float:
    """Zero-mean normalised cross-correlation, -1 to 1, of image and re-rendered object over the object's pixels.

    It does not change with brightness and contrast; it does fall with shading that the rendering does not have.

    Args:
        image: (H, W, 3) uint8 RGB.
        rendering: (H, W, 3) uint8 RGB, the object at the estimated pose.
        mask: (H, W) uint8, index of the item + 1, as the renderer gives it.
        item: whose pixels count; all items by default.
        per_channel: compare R, G and B together, each with its own mean; off, compare the luminance, which a light from
            one side changes most.

    Returns:
        The correlation; 0 where fewer than 50 pixels are left, or image or rendering is flat: nothing is explained.

    Raises:
        ValueError: if the shapes differ.
    """
    if image.shape != rendering.shape or mask.shape != image.shape[:2]:
        raise ValueError(
            f"image, rendering, mask: expected (H, W, 3), (H, W, 3), (H, W),"
            f" got {image.shape}, {rendering.shape}, {mask.shape}"
        )
    inside = mask > 0 if item is None else mask == item + 1
    if int(inside.sum()) < MIN_PIXELS:
        return 0.0
    seen, expected = (pixels[inside].astype(np.float64) for pixels in (image, rendering))
    if not per_channel:
        seen, expected = (values @ _LUMINANCE[:, None] for values in (seen, expected))
    seen, expected = (values - values.mean(axis=0) for values in (seen, expected))
    power = np.sqrt((seen**2).sum() * (expected**2).sum())
    # an image that is flat but for rounding has no contrast to correlate
    if power <= 0.25 * seen.size:
        return 0.0
    return float(np.clip((seen * expected).sum() / power, -1.0, 1.0))
