"""What is around simulated objects: background, lamp, exposure and the sensor's noise, all of them drifting.

Everything follows from the seed and the time: the same image is the same bytes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.rendering.lighting import Light, Lighting
from pnp_ros.rendering.renderer import Renderer, Rendering
from pnp_ros.types import Pose

_NOISE_SHIFTS = 64  # each image takes its noise from another window of one field: much cheaper than drawing it anew


class Studio:
    """Renders objects before a background that wanders. To be used by one thread, which owns the renderer's context.

    Args:
        camera: of any lens model.
        seed: of the noise.
        noise: standard deviation of each pixel value, of 255.
        rng: draws phases, noise field and background.
    """

    def __init__(self, camera: Camera, seed: int, noise: float, rng: np.random.Generator) -> None:
        self.camera, self.renderer = camera, Renderer()
        self.phases = rng.uniform(0.0, 2.0 * math.pi, 12)
        self._seed = seed
        size = (camera.height + _NOISE_SHIFTS, camera.width + _NOISE_SHIFTS, 3)
        self._noise = rng.normal(0.0, noise, size).round().astype(np.int16)
        self._background = _cluttered_background(camera.width * 3 // 2, camera.height * 3 // 2, rng)

    def wave(self, phase: int, frequency: float, time: float) -> float:
        """A smooth value in [-1, 1]; ``phase`` is one of twelve."""
        return math.sin(2.0 * math.pi * frequency * time + float(self.phases[phase]))

    def render(self, items: list[tuple[int, Pose]], time: float) -> Rendering:
        """A window of the background wanders behind the objects; lamp and exposure drift."""
        lamp = (0.6 * self.wave(6, 0.03, time), -0.8, -0.6 + 0.3 * self.wave(7, 0.04, time))
        lighting = Lighting(lights=(Light(lamp, (0.5, 0.49, 0.46)),), exposure=1.0 + 0.15 * self.wave(8, 0.06, time))
        spare_y = self._background.shape[0] - self.camera.height
        spare_x = self._background.shape[1] - self.camera.width
        y = round(spare_y * (0.5 + 0.5 * self.wave(9, 0.05, time)))
        x = round(spare_x * (0.5 + 0.5 * self.wave(11, 0.04, time)))
        window = self._background[y : y + self.camera.height, x : x + self.camera.width]
        return self.renderer.render(items, self.camera, lighting, window)

    def expose(self, rgb: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """The sensor's noise, on image number ``index``."""
        y, x = np.random.default_rng([self._seed, index]).integers(0, _NOISE_SHIFTS, 2)
        noise = self._noise[y : y + rgb.shape[0], x : x + rgb.shape[1]]
        return np.clip(rgb + noise, 0, 255).astype(np.uint8)


def box_of(mask: NDArray[np.bool_]) -> Box | None:
    """The box of what a mask (H, W) shows; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    width, height = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    return Box(float(columns[0]), float(rows[0]), float(width), float(height))


def _cluttered_background(width: int, height: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(height, width, 3) RGB: blotches of several sizes, and flat shapes with sharp edges on them."""
    import cv2

    image = np.full((height, width, 3), rng.uniform(90.0, 160.0, 3), np.float32)
    for cells in (3, 8, 24, 80):
        coarse = rng.normal(0.0, 60.0 / math.sqrt(cells), (cells * height // width, cells, 3)).astype(np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(40):
        centre = rng.uniform((0, 0), (width, height)).tolist()
        size = rng.uniform(0.02, 0.15, 2) * width
        corners = cv2.boxPoints((centre, size.tolist(), float(rng.uniform(0.0, 180.0))))
        cv2.fillConvexPoly(image, corners.astype(np.int32), rng.uniform(20.0, 235.0, 3).tolist())
    return np.clip(cv2.GaussianBlur(image, (0, 0), 1.0), 0.0, 255.0).astype(np.uint8)
