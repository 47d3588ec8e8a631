"""Looks that no training draws: materials, light and backgrounds of held-out images.

Measured on the very randomisation that it was trained on, a network seems better than it is in front of a camera. What
is drawn here comes from other generators: an object painted in patterns and in any colour of the RGB cube, a warm and a
cold lamp in place of a sky and a ground, and dead leaves in place of rooms and tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.backgrounds import BackgroundSource, RgbImage, Rng
from pnp_ros.rendering.domain_randomisation import log_uniform
from pnp_ros.rendering.lighting import Light, Lighting, triple
from pnp_ros.rendering.materials import ANY, MESH, Material, dyed, painted_on

_SIDE = 256  # pixels of a painted texture
_LEAVES, _SMALLEST = 250, 5.0  # of a background, and pixels
Colour = NDArray[np.float64]


def _matt(colour: Colour, rng: Rng) -> NDArray[np.float64]:
    return np.broadcast_to(colour, (_SIDE, _SIDE, 3))


def _brushed(colour: Colour, rng: Rng) -> NDArray[np.float64]:
    return colour * np.broadcast_to(1.0 + 0.25 * rng.normal(size=(_SIDE, 1, 1)), (_SIDE, _SIDE, 1))


def _speckled(colour: Colour, rng: Rng) -> NDArray[np.float64]:
    # as far from every colour: the complement of grey is grey
    return np.where(rng.random((_SIDE, _SIDE, 1)) < 0.1, (colour + 128.0) % 256.0, colour)


def _halves(colour: Colour, rng: Rng) -> NDArray[np.float64]:
    other = 0.5 * colour + (100.0 if colour.mean() < 100.0 else 0.0)
    return np.where(np.arange(_SIDE)[:, None, None] < _SIDE // 2, colour, other) + np.zeros((1, _SIDE, 1))


PAINTS: dict[str, Callable[[Colour, Rng], NDArray[np.float64]]] = {
    "matt": _matt,
    "brushed": _brushed,
    "speckled": _speckled,
    "two halves": _halves,
}


def painted(mesh: TriangleMesh, paint: str, colour: Colour, rng: Rng) -> TriangleMesh:
    """The mesh in one of the :data:`PAINTS` and a colour (3,) RGB, 0 to 255."""
    return painted_on(mesh, np.clip(PAINTS[paint](colour, rng), 0, 255).astype(np.uint8), rng)


def unseen_material(mesh: TriangleMesh, colours: Sequence[str], backgrounds: BackgroundSource, rng: Rng) -> Material:
    """In place of :func:`~pnp_ros.rendering.materials.random_material`."""
    colour = colours[int(rng.integers(len(colours)))]
    if colour == MESH:
        return Material(mesh)
    rgb = rng.uniform(10.0, 245.0, 3) if colour == ANY else dyed(colour, rng)
    return Material(painted(mesh, str(rng.choice(list(PAINTS))), rgb, rng))


def unseen_lighting(rng: Rng) -> Lighting:
    """A warm key lamp and a cold one from about the other side, in light that is the same from everywhere.

    In place of :func:`~pnp_ros.rendering.domain_randomisation.random_lighting`; a fully lit white surface gets as much
    light.
    """
    level, ambient = log_uniform((0.7, 2.0), rng), rng.uniform(0.15, 0.6)
    even = level * ambient * np.ones(3)
    key = rng.normal(0.0, 1.0, 3) + np.array([0.0, -0.3, -1.0])
    warm, cold = np.array([1.15, 1.0, 0.75]), np.array([0.8, 0.95, 1.2])
    first, second = (warm, cold) if rng.random() < 0.7 else (cold, warm)
    share = rng.uniform(0.6, 1.0)
    lamps = (key, share * first), (rng.normal(0.0, 0.4, 3) - [key[0], 0.0, 0.6], (1.0 - share) * second)
    return Lighting(
        sky=triple(even),
        ground=triple(even),
        lights=tuple(Light(triple(at), triple(1.4 * level * (1.0 - ambient) * colour)) for at, colour in lamps),
        specular=float(rng.uniform(0.0, 0.5)),
        shininess=log_uniform((6.0, 120.0), rng),
    )


def dead_leaves(width: int, height: int, rng: Rng) -> RgbImage:
    """(height, width, 3) uint8 RGB: shapes of all sizes that hide each other, whose edges are as often in all scales.

    So are those of photographs (Lee, Mumford and Huang, "Occlusion models for natural images", 2001). In place of
    :func:`~pnp_ros.rendering.backgrounds.random_background`.
    """
    palette = rng.uniform(10.0, 245.0, (5, 1)) + rng.normal(0.0, rng.uniform(5.0, 60.0), (5, 3))
    palette = palette.clip(0.0, 255.0)
    image = np.empty((height, width, 3), np.uint8)
    image[:] = palette[0]
    largest = 0.4 * max(width, height)
    # sizes r with density r^-3 between the limits
    sizes = (_SMALLEST**-2 - rng.random(_LEAVES) * (_SMALLEST**-2 - largest**-2)) ** -0.5
    sizes[: _LEAVES // 8] = rng.uniform(0.3, 1.0, _LEAVES // 8) * largest  # that cover it all
    for size in sizes:
        middle = rng.integers(0, (width, height)).tolist()
        colour = np.clip(palette[rng.integers(len(palette))] + rng.normal(0.0, 15.0), 0, 255).tolist()
        axes = np.maximum(1, size * rng.uniform((1.0, 0.25), 1.0)).astype(int).tolist()
        angle = float(rng.uniform(0, 180))
        if rng.random() < 0.5:
            cv2.ellipse(image, middle, axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
        else:
            corners = cv2.boxPoints((middle, axes, angle)).astype(np.int32)
            cv2.fillConvexPoly(image, corners, colour, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 2.0)), np.uint8)
