"""Things that are not the object: random solids with random textures, recoloured copies, hands and shapes in front."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.backgrounds import BackgroundSource, RgbImage, Rng, noise, random_color

_SEGMENTS = 24


def random_solid(diameter: float, backgrounds: BackgroundSource, rng: Rng) -> TriangleMesh:
    """A box, bottle, mug, ball or the like with a random texture, centred.

    Args:
        diameter: about its size in metres.
        backgrounds: where textures come from.
        rng: source of randomness.
    """
    if rng.random() < 0.4:
        corners, uv = _box(rng.uniform(0.2, 1.0, 3))
    else:
        corners, uv = _revolution(_random_profile(rng), rng)
    extent = corners.reshape(-1, 3).max(axis=0) - corners.reshape(-1, 3).min(axis=0)
    texture = backgrounds.image(128, 128, rng)
    return TriangleMesh(
        vertices=(corners.reshape(-1, 3) * (diameter / np.linalg.norm(extent))).astype(np.float32),
        faces=np.arange(3 * len(corners), dtype=np.int32).reshape(-1, 3),
        uv=(uv.reshape(-1, 2) * rng.choice([1.0, 1.0, 2.0, 3.0])).astype(np.float32),
        texture=texture,
    )


def recolored(mesh: TriangleMesh, backgrounds: BackgroundSource, rng: Rng) -> TriangleMesh:
    """A copy that has the object's shape but not its looks: other hues, a uniform colour or another texture."""
    style = rng.integers(3)
    if mesh.texture is None or mesh.uv is None or style == 0:
        colors = np.broadcast_to(random_color(rng).astype(np.uint8), mesh.vertices.shape)
        return TriangleMesh(mesh.vertices, mesh.faces, vertex_colors=colors)
    size = (min(mesh.texture.shape[1], 512), min(mesh.texture.shape[0], 512))
    if style == 1:
        return replace(mesh, texture=backgrounds.image(*size, rng))
    small = cv2.cvtColor(np.asarray(cv2.resize(mesh.texture, size), dtype=np.uint8), cv2.COLOR_RGB2HSV)
    small[..., 0] = (small[..., 0].astype(int) + rng.integers(40, 140)) % 180
    return replace(mesh, texture=np.asarray(cv2.cvtColor(small, cv2.COLOR_HSV2RGB), dtype=np.uint8))


def _box(size: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(12, 3, 3) corners and (12, 3, 2) texture coordinates of a box."""
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2.0
    corners, uv = [], []
    for axis in range(3):
        for sign in (-0.5, 0.5):
            quad = np.insert(square, axis, sign, axis=1) * size
            for triangle in ([0, 1, 2], [0, 2, 3]):
                corners.append(quad[triangle])
                uv.append(square[triangle] + 0.5)
    return np.array(corners), np.array(uv)


def _random_profile(rng: Rng) -> NDArray[np.float64]:
    """(M, 2) radius and height of a solid of revolution, from the axis below to the axis above."""
    height = rng.uniform(0.4, 2.0)
    kind = rng.integers(4)
    if kind == 0:  # can, cup
        radius = rng.uniform(0.3, 0.6)
        return np.array([[0, 0], [radius, 0], [radius * rng.uniform(0.9, 1.3), height], [0, height]])
    if kind == 1:  # ball, egg
        angle = np.linspace(-np.pi / 2, np.pi / 2, 14)
        return np.stack([0.5 * np.cos(angle), height / 2 * np.sin(angle)], axis=1)
    if kind == 2:  # bottle
        neck = rng.uniform(0.1, 0.25)
        return np.array([[0, 0], [0.4, 0], [0.4, 0.6 * height], [neck, 0.8 * height], [neck, height], [0, height]])
    heights = np.linspace(0, height, 8)  # vase
    radii = np.clip(0.35 + np.cumsum(rng.normal(0, 0.1, 8)), 0.1, 0.8)
    return np.concatenate([[[0, 0]], np.stack([radii, heights], axis=1), [[0, height]]])


def _revolution(profile: NDArray[np.float64], rng: Rng) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners and texture coordinates of the solid, every third time with a handle."""
    angle = np.linspace(0, 2 * np.pi, _SEGMENTS + 1)
    along = np.linspace(0, 1, len(profile))
    radius, height = profile.T[:, :, None]
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), height + 0 * angle - height.mean()], axis=-1)
    uv = np.stack(np.broadcast_arrays(angle / np.pi, along[:, None]), axis=-1)
    corners, coordinates = _grid(points), _grid(uv)
    if rng.random() < 0.33:
        around = np.linspace(-np.pi / 2, np.pi / 2, 10)[:, None]
        tube = np.linspace(0, 2 * np.pi, 7)
        reach = rng.uniform(0.25, 0.4) + 0.07 * np.cos(tube)
        handle = np.stack(
            [
                float(radius.max()) * 0.95 + reach * np.cos(around),
                0.07 * np.sin(tube) + 0 * around,
                reach * np.sin(around),
            ],
            axis=-1,
        )
        flat = np.zeros((10, 7, 2)) + rng.random(2)
        corners, coordinates = np.concatenate([corners, _grid(handle)]), np.concatenate([coordinates, _grid(flat)])
    return corners, coordinates


def _grid(points: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b, c, d = points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]
    channels = points.shape[-1]
    return np.concatenate([np.stack([a, b, c], axis=2), np.stack([a, c, d], axis=2)]).reshape(-1, 3, channels)


def painted_sprite(size: int, backgrounds: BackgroundSource, rng: Rng) -> RgbImage:
    """(size, size, 4) uint8, colour times coverage and coverage: a hand, a bar or a shape that may hide the object."""
    return _hand(size, rng) if rng.random() < 0.5 else _shape(size, backgrounds, rng)


def _hand(size: int, rng: Rng) -> RgbImage:
    """Fingers, a palm and a forearm of one skin colour, shaded across each finger."""
    skin = np.array([[235, 188, 160], [205, 150, 118], [150, 100, 72], [85, 55, 42]])[rng.integers(4)]
    skin = np.clip(skin * rng.uniform(0.75, 1.15) + rng.normal(0, 8, 3), 0, 255)
    color = np.zeros((size, size, 3), np.uint8)
    alpha = np.zeros((size, size), np.uint8)
    light = rng.uniform(-1, 1, 2)

    def limb(start: NDArray[np.float64], end: NDArray[np.float64], width: float, tone: float) -> None:
        for shrink, shade in ((1.0, 0.72), (0.8, 0.88), (0.55, 1.0)):  # darker towards the rim
            shift = light * width * (1.0 - shrink) * 0.35
            a, b = ((p + shift).astype(int).tolist() for p in (start, end))
            thickness = max(1, int(width * shrink))
            cv2.line(color, a, b, np.clip(skin * tone * shade, 0, 255).tolist(), thickness, cv2.LINE_AA)
        cv2.line(alpha, start.astype(int).tolist(), end.astype(int).tolist(), 255, max(1, int(width)), cv2.LINE_AA)

    palm = np.array([0.5, 0.5]) * size
    heading = rng.uniform(0, 2 * np.pi)
    forward = np.array([np.cos(heading), np.sin(heading)])
    side = np.array([-forward[1], forward[0]])
    limb(palm, palm - forward * size, size * rng.uniform(0.24, 0.32), 0.95)  # forearm
    limb(palm - 0.07 * size * side, palm + 0.07 * size * side, size * rng.uniform(0.24, 0.3), 0.95)
    spread, curl = rng.uniform(0.02, 0.12), rng.uniform(0.12, 0.3)
    for finger in range(4):
        across = (finger - 1.5) / 1.5
        knuckle = palm + (0.1 * forward + 0.13 * across * side) * size
        middle = knuckle + (curl * forward + spread * across * side) * size
        tip = middle + rng.uniform(0.4, 1.0) * curl * size * (forward - rng.uniform(0, 0.5) * side)
        width = size * rng.uniform(0.07, 0.09)
        limb(knuckle, middle, width, rng.uniform(0.92, 1.05))
        limb(middle, tip, width * 0.9, rng.uniform(0.92, 1.05))
    thumb = palm + rng.choice([-1.0, 1.0]) * 0.14 * side * size
    limb(thumb, thumb + (0.18 * forward + (thumb - palm) / size) * size, size * 0.09, 1.0)
    color = np.clip(color + 6 * noise(size, size, rng)[..., None], 0, 255).astype(np.uint8)
    color = np.asarray(cv2.GaussianBlur(color, (0, 0), 0.01 * size), dtype=np.uint8)
    return _premultiplied(color, alpha)


def _shape(size: int, backgrounds: BackgroundSource, rng: Rng) -> RgbImage:
    """A polygon, an ellipse or a bar cut out of a background."""
    alpha = np.zeros((size, size), np.uint8)
    middle = size // 2
    kind = rng.integers(3)
    if kind == 0:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
        radius = size * rng.uniform(0.25, 0.5, len(angles))
        corners = middle + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        cv2.fillPoly(alpha, [corners.astype(np.int32)], 255, cv2.LINE_AA)
    elif kind == 1:
        axes = (size * rng.uniform(0.2, 0.48, 2)).astype(int).tolist()
        cv2.ellipse(alpha, (middle, middle), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
    else:
        cv2.line(alpha, (0, middle), (size, middle), 255, int(size * rng.uniform(0.03, 0.3)), cv2.LINE_AA)
    return _premultiplied(backgrounds.image(size, size, rng), alpha)


def _premultiplied(color: RgbImage, alpha: NDArray[np.uint8]) -> RgbImage:
    weighted = color.astype(np.uint16) * alpha[..., None] // 255
    return np.concatenate([weighted.astype(np.uint8), alpha[..., None]], axis=-1)
