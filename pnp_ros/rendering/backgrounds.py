"""Images to put behind objects: painted at random, and the user's own where there is a folder of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

RgbImage = NDArray[np.uint8]
Rng = np.random.Generator
Painter = Callable[[int, int, Rng], RgbImage]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class BackgroundError(ValueError):
    """A folder of backgrounds that cannot be used; the message names it."""


class BackgroundSource:
    """Endless backgrounds: procedural ones, mixed half and half with a folder's images if one is given.

    Args:
        folder: with images at any depth; None for procedural ones alone.
        paint: makes a procedural one of width and height; None: :func:`random_background`.

    Raises:
        BackgroundError: if the folder holds no images.
    """

    def __init__(self, folder: str | Path | None = None, paint: Painter | None = None) -> None:
        self._paint = paint or random_background
        self._paths: list[Path] = []
        if folder is not None:
            self._paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
            if not self._paths:
                raise BackgroundError(f"{folder}: expected a folder with images ({', '.join(IMAGE_SUFFIXES)})")

    def image(self, width: int, height: int, rng: Rng) -> RgbImage:
        """(height, width, 3) uint8 RGB.

        Raises:
            BackgroundError: if an image of the folder cannot be decoded.
        """
        if self._paths and rng.random() < 0.5:
            return self._photo(self._paths[rng.integers(len(self._paths))], width, height, rng)
        return self._paint(width, height, rng)

    def _photo(self, path: Path, width: int, height: int, rng: Rng) -> RgbImage:
        photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if photo is None:
            raise BackgroundError(f"{path}: cannot be decoded as an image")
        fit = max(width / photo.shape[1], height / photo.shape[0])
        scale = fit * rng.uniform(1.0, 1.6)
        size = max(width, round(photo.shape[1] * scale)), max(height, round(photo.shape[0] * scale))
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        x, y = rng.integers(size[0] - width + 1), rng.integers(size[1] - height + 1)
        window = photo[y : y + height, x : x + width, ::-1]
        return np.ascontiguousarray(window[:, ::-1] if rng.random() < 0.5 else window)


def random_background(width: int, height: int, rng: Rng) -> RgbImage:
    """(height, width, 3) uint8 RGB: a surface or a room, with clutter on it."""
    painter = _BASES[rng.integers(len(_BASES))]
    image = np.clip(painter(width, height, rng), 0, 255).astype(np.uint8)
    for _ in range(rng.integers(0, 4)):
        _CLUTTER[rng.integers(len(_CLUTTER))](image, rng)
    if rng.random() < 0.6:
        stains = 40 * rng.random() * noise(width, height, rng)[..., None]
        image = np.clip(image + stains, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:  # backgrounds are often out of focus
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 3.0)), dtype=np.uint8)
    return image


def random_color(rng: Rng) -> NDArray[np.float32]:
    """(3,) RGB 0-255: greys, muted and vivid colours."""
    grey = np.full(3, rng.uniform(5, 250))
    vividness = rng.choice([0.05, 0.25, 1.0], p=[0.45, 0.4, 0.15])
    return np.clip((1 - vividness) * grey + vividness * rng.uniform(0, 255, 3), 0, 255).astype(np.float32)


def noise(width: int, height: int, rng: Rng) -> NDArray[np.float32]:
    """(height, width) smooth noise of several scales, about unit deviation."""
    field = np.zeros((height, width), np.float32)
    falloff = rng.uniform(0.4, 1.1)
    for octave in range(2, 8):
        cells = 2**octave
        grid = rng.standard_normal((max(2, cells * height // width), cells), dtype=np.float32)
        field += falloff ** (octave - 2) * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return field / max(float(field.std()), 1e-6)


def _plain(width: int, height: int, rng: Rng) -> NDArray[np.float32]:
    """A gradient between two near colours."""
    first = random_color(rng)
    second = np.clip(first + rng.normal(0, 40, 3), 0, 255)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    ramp = np.cos(angle) * x / width + np.sin(angle) * y / height
    ramp = (ramp - ramp.min()) / max(float(np.ptp(ramp)), 1e-6)
    return (first + ramp[..., None] * (second - first)).astype(np.float32)


def _mottled(width: int, height: int, rng: Rng) -> NDArray[np.float32]:
    """Stone, cloth, carpet: two colours mixed by noise."""
    blend = 1 / (1 + np.exp(-rng.uniform(0.5, 5) * noise(width, height, rng)))[..., None]
    return (random_color(rng) * blend + random_color(rng) * (1 - blend)).astype(np.float32)


def _wood(width: int, height: int, rng: Rng) -> NDArray[np.float32]:
    """A grain: noise stretched along one direction, in planks."""
    stretched = noise(width, max(8, height // 8), rng)
    grain = cv2.resize(stretched, (width, height), interpolation=cv2.INTER_LINEAR)
    grain = np.sin(rng.uniform(2, 8) * grain)[..., None]
    base = np.array([170, 120, 75]) * rng.uniform(0.4, 1.3) + rng.normal(0, 15, 3)
    image = base + grain * rng.uniform(5, 25)
    for x in np.arange(rng.integers(20, 80), width, rng.integers(40, 160)):
        image[:, x : x + 2] *= 0.6
    turned = image if rng.random() < 0.5 else cv2.resize(np.rot90(image).copy(), (width, height))
    return turned.astype(np.float32)


def _tiles(width: int, height: int, rng: Rng) -> NDArray[np.float32]:
    """Checkers, stripes or bricks in two colours, turned and seen in perspective."""
    side = 512
    size = int(rng.integers(8, 96))
    y, x = np.mgrid[0:side, 0:side] // size
    style = rng.integers(3)
    pattern = [(x + y) % 2, x % 2, (x + y // 2) % 3 == 0][style].astype(np.float32)[..., None]
    flat = random_color(rng) * pattern + random_color(rng) * (1 - pattern)
    source = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    reach = 0.5 * np.hypot(width, height)
    angles = rng.uniform(0, 2 * np.pi) + np.arange(4) * np.pi / 2
    corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach * rng.uniform(1.4, 2.5, (4, 1))
    target = (corners + np.array([width / 2, height / 2])).astype(np.float32)
    warp = cv2.getPerspectiveTransform(source, target)
    seen = cv2.warpPerspective(flat.astype(np.float32), warp, (width, height), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(seen, dtype=np.float32)


def _room(width: int, height: int, rng: Rng) -> NDArray[np.float32]:
    """A wall above a table, often with things standing along the edge between them."""
    wall = _SURFACES[rng.integers(len(_SURFACES))](width, height, rng)
    table = _SURFACES[rng.integers(len(_SURFACES))](width, height, rng)
    image = wall * rng.uniform(0.4, 1.0)
    edge = rng.uniform(0.15, 0.7, 2) * height
    for _ in range(rng.integers(0, 7)):
        foot = edge.mean() + rng.uniform(-0.1, 0.25) * height
        w, h, x = rng.uniform(0.05, 0.3) * width, rng.uniform(0.1, 0.6) * height, rng.uniform(0, width)
        box = np.array([[x, foot - h], [x + w, foot - h], [x + w, foot], [x, foot]])
        cv2.fillPoly(image, [box.astype(np.int32)], random_color(rng).tolist())
    outline = np.array([[0, edge[0]], [width, edge[1]], [width, height], [0, height]]).astype(np.int32)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [outline], 255)
    image[mask > 0] = table[mask > 0]
    return image.astype(np.float32)


def _polygons(image: RgbImage, rng: Rng) -> None:
    """Flat shapes of all sizes."""
    height, width = image.shape[:2]
    for _ in range(rng.integers(2, 25)):
        center = rng.uniform(0, 1, 2) * [width, height]
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
        radius = np.exp(rng.uniform(np.log(5), np.log(0.35 * width))) * rng.uniform(0.5, 1.0, len(angles))
        corners = center + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        cv2.fillPoly(image, [corners.astype(np.int32)], random_color(rng).tolist(), cv2.LINE_AA)


def _discs(image: RgbImage, rng: Rng) -> None:
    """Discs and rings, like cups and rolls from above."""
    height, width = image.shape[:2]
    for _ in range(rng.integers(1, 10)):
        center = rng.integers(0, (width, height)).tolist()
        axes = (np.exp(rng.uniform(np.log(3), np.log(60))) * rng.uniform(0.4, 1.0, 2)).astype(int).tolist()
        thickness = int(rng.choice([-1, 2, 5]))
        angle = float(rng.uniform(0, 180))
        cv2.ellipse(image, center, axes, angle, 0, 360, random_color(rng).tolist(), thickness, cv2.LINE_AA)


def _text(image: RgbImage, rng: Rng) -> None:
    """A page, a label or a screen with lines of letters."""
    height, width = image.shape[:2]
    x, y = rng.uniform(-0.1, 0.7) * width, rng.uniform(0, 0.8) * height
    w, h = rng.uniform(0.2, 0.8) * width, rng.uniform(0.15, 0.6) * height
    paper, ink = random_color(rng).tolist(), random_color(rng).tolist()
    if rng.random() < 0.7:
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), paper, -1)
    scale = rng.uniform(0.25, 1.2)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIKLMNOPRSTUVWZ0123456789    .,:-"
    for row in np.arange(y + 25 * scale, y + h, 30 * scale):
        line = "".join(letters[i] for i in rng.integers(len(letters), size=max(1, int(w / (18 * scale)))))
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(image, line, (int(x), int(row)), font, scale, ink, 1 + int(scale > 0.8), cv2.LINE_AA)


def _cables(image: RgbImage, rng: Rng) -> None:
    """Curved lines."""
    height, width = image.shape[:2]
    t = np.linspace(0, 1, 30)[:, None]
    for _ in range(rng.integers(1, 8)):
        a, b, c, d = rng.uniform(-0.2, 1.2, (4, 2)) * [width, height]
        curve = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
        color, thickness = random_color(rng).tolist(), int(rng.integers(1, 9))
        cv2.polylines(image, [curve.astype(np.int32)], False, color, thickness, cv2.LINE_AA)


def _keys(image: RgbImage, rng: Rng) -> None:
    """A grid of small boxes in perspective: keyboard, shelf, windows."""
    height, width = image.shape[:2]
    columns, rows = rng.integers(4, 16), rng.integers(2, 7)
    pitch = rng.uniform(8, 30)
    fill = rng.uniform(0.6, 0.95)
    turn = rng.uniform(-0.7, 0.7)
    right = np.array([np.cos(turn), np.sin(turn)]) * pitch
    down = np.array([-np.sin(turn) + rng.uniform(-0.3, 0.3), np.cos(turn)]) * pitch * rng.uniform(0.5, 1.2)
    corner = rng.uniform(-0.2, 0.8, 2) * [width, height]
    tray = [corner - 4, corner + columns * right, corner + columns * right + rows * down, corner + rows * down]
    cv2.fillPoly(image, [np.array(tray).astype(np.int32)], random_color(rng).tolist())
    color = random_color(rng)
    for i in range(columns):
        for j in range(rows):
            at = corner + i * right + j * down
            key = np.array([at, at + fill * right, at + fill * (right + down), at + fill * down])
            cv2.fillPoly(image, [key.astype(np.int32)], (color * rng.uniform(0.85, 1.0)).tolist(), cv2.LINE_AA)


_Base = Callable[[int, int, Rng], NDArray[np.float32]]
_SURFACES: list[_Base] = [_plain, _mottled, _wood, _tiles]
_BASES: list[_Base] = [*_SURFACES, _room, _room, _room]
_CLUTTER: list[Callable[[RgbImage, Rng], None]] = [_polygons, _discs, _text, _cables, _keys]
