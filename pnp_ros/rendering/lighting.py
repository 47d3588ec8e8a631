"""How a scene is lit: a sky and a ground, a few lamps, and the camera's exposure; and what surfaces do with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_LIGHTS = 4
Triple = tuple[float, float, float]


def triple(values: NDArray[np.float64]) -> Triple:
    """Three numbers as they are kept here."""
    return float(values[0]), float(values[1]), float(values[2])


@dataclass(frozen=True)
class Light:
    """A lamp: parallel light, or a point in the scene.

    Args:
        vector: camera frame; the direction towards the lamp, or its position in metres if ``point``.
        color: linear RGB; 1 lights a white surface that faces the lamp fully.
        point: whether ``vector`` is a position.
    """

    vector: Triple
    color: Triple = (1.0, 1.0, 1.0)
    point: bool = False


@dataclass(frozen=True)
class Lighting:
    """The light of one image. The default is a bright room seen by a camera with a lamp over its left shoulder.

    Args:
        sky: linear RGB light on a surface that faces ``up``.
        ground: the same for a surface that faces down; between them it is blended.
        up: direction of the sky, camera frame (y points down).
        lights: at most ``MAX_LIGHTS`` lamps.
        specular: strength of the highlights (Blinn-Phong), 0 is matt.
        shininess: exponent of the highlights.
        exposure: factor on the light that reaches the camera; above 1 the bright parts saturate.

    Raises:
        ValueError: if there are too many lamps.
    """

    sky: Triple = (0.55, 0.55, 0.58)
    ground: Triple = (0.3, 0.28, 0.26)
    up: Triple = (0.0, -1.0, 0.0)
    lights: tuple[Light, ...] = (Light((-0.4, -0.8, -0.6), (0.5, 0.49, 0.46)),)
    specular: float = 0.1
    shininess: float = 30.0
    exposure: float = 1.0

    def __post_init__(self) -> None:
        if len(self.lights) > MAX_LIGHTS:
            raise ValueError(f"lights: expected at most {MAX_LIGHTS}, got {len(self.lights)}")


@dataclass(frozen=True)
class Finish:
    """What a surface does with the light beside its colour. The default is matt and new.

    Args:
        mirror: share of the room's light that it reflects head-on, 0 to 1; more of it at grazing angles.
        metal: 0 to 1, how far reflections take the surface's colour.
        room: camera frame, radians over the unit sphere: waves of light and dark in the room that is reflected.
        dust: 0 to 1, how much of it lies on what faces the sky.
        wear: width in metres of the strip along convex edges where the colour is gone.
        bare: linear RGB of what is below it.
    """

    mirror: float = 0.0
    metal: float = 0.0
    room: Triple = (0.0, 0.0, 0.0)
    dust: float = 0.0
    wear: float = 0.0
    bare: Triple = (0.0, 0.0, 0.0)
