"""The demo's object: a toy tugboat of 12 cm, built and painted by this file, without any symmetry.

Frame: x forward, y to port (left), z up, metres, origin at the centre of the bounding box. The paint is drawn as six
views of the boat, one for each direction of the axes; a triangle takes the view that it faces most.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import TriangleMesh

TILE = 512  # pixels a view
PIXELS_PER_METRE = TILE / 0.128
Color = tuple[int, int, int]
Point = tuple[float, float]
Triangles = NDArray[np.float64]  # (F, 3, 3) corners in metres

WHITE, BLACK, RED, ORANGE, YELLOW = (240, 238, 230), (25, 26, 30), (196, 38, 40), (238, 122, 30), (247, 202, 44)
GREEN, TEAL, BLUE, NAVY, WOOD = (46, 142, 72), (30, 158, 160), (52, 110, 200), (28, 44, 96), (196, 148, 96)

# name of the view: the direction it is seen from, and what points up in it
_VIEWS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "bow": ((1, 0, 0), (0, 0, 1)),
    "stern": ((-1, 0, 0), (0, 0, 1)),
    "port": ((0, 1, 0), (0, 0, 1)),
    "starboard": ((0, -1, 0), (0, 0, 1)),
    "top": ((0, 0, 1), (1, 0, 0)),
    "bottom": ((0, 0, -1), (1, 0, 0)),
}


def demo_mesh() -> TriangleMesh:
    """The tugboat, textured; the same at every call."""
    parts = [
        _hull(),
        _box((-0.036, 0.008), (-0.016, 0.02), (0.018, 0.038), slant=0.004),  # cabin
        _box((-0.03, -0.002), (-0.012, 0.012), (0.038, 0.054), slant=0.003),  # wheelhouse
        _box((0.021, 0.037), (-0.014, 0.004), (0.016, 0.03)),  # crate on the fore deck, to starboard
        _tube((-0.044, 0.008, 0.014), (-0.05, 0.008, 0.062), 0.0085),  # funnel, to port and raked
        _tube((0.047, 0.006, 0.018), (0.047, 0.006, 0.034), 0.005),  # capstan
        _ring((-0.012, -0.0165, 0.028), 0.0085, 0.0032),  # lifebuoy on the cabin's starboard side
    ]
    corners = np.concatenate(parts)
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    corners -= (low + high) / 2
    names = list(_VIEWS)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    directions = np.array([_VIEWS[name][0] for name in names], dtype=np.float64)
    view = (normals @ directions.T).argmax(axis=1)
    origin = (low + high) / 2
    texture = np.zeros((2 * TILE, 3 * TILE, 3), np.uint8)
    uv = np.zeros((len(corners), 3, 2))
    for i, name in enumerate(names):
        row, column = divmod(i, 3)
        canvas = _Canvas(name, origin)
        _PAINTERS[name](canvas)
        texture[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE] = canvas.pixels
        pixels = canvas.pixel(corners[view == i] + origin)
        uv[view == i] = (pixels + 0.5 + [column * TILE, row * TILE]) / [3 * TILE, 2 * TILE]
    uv[..., 1] = 1.0 - uv[..., 1]
    return TriangleMesh(
        vertices=corners.reshape(-1, 3).astype(np.float32),
        faces=np.arange(3 * len(corners), dtype=np.int32).reshape(-1, 3),
        uv=uv.reshape(-1, 2).astype(np.float32),
        texture=texture,
    )


def _grid(points: NDArray[np.float64], closed: bool = False) -> Triangles:
    """Triangles of a (rows, columns, 3) grid of points; ``closed`` joins the last column to the first."""
    if closed:
        points = np.concatenate([points, points[:, :1]], axis=1)
    a, b, c, d = points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]
    return np.concatenate([np.stack([a, b, c], axis=2), np.stack([a, c, d], axis=2)], axis=0).reshape(-1, 3, 3)


def _hull() -> Triangles:
    """Sections along x from the flat stern to the round bow, bulwark included, and the deck between them."""
    station = np.linspace(0.0, 1.0, 28)
    x = -0.06 + 0.12 * station
    half_width = 0.026 * np.clip(1.0 - np.maximum(station - 0.45, 0.0) ** 2 / 0.304, 0.0, 1.0) ** 0.6
    half_width *= 0.86 + 0.14 * np.minimum(station / 0.3, 1.0)
    sheer = 0.018 + 0.012 * np.maximum(station - 0.4, 0.0) ** 2 / 0.36 + 0.004 * np.maximum(0.25 - station, 0.0) / 0.25
    keel = -0.016 + 0.012 * np.maximum(station - 0.75, 0.0) ** 2 / 0.0625
    across = np.array([1.0, 0.97, 0.85, 0.55, 0.0, -0.55, -0.85, -0.97, -1.0])
    down = np.array([0.0, 0.35, 0.7, 0.95, 1.0, 0.95, 0.7, 0.35, 0.0])
    outer = np.stack(
        [
            np.broadcast_to(x[:, None], (28, 9)),
            half_width[:, None] * across,
            sheer[:, None] + (keel - sheer)[:, None] * down,
        ],
        axis=-1,
    )
    inside = np.stack([x * 0.97, half_width * 0.88, sheer], axis=-1)
    deck_height = sheer - 0.004
    bulwark_top = [outer[:, 0], inside, inside * [1, 1, 0] + deck_height[:, None] * [0, 0, 1]]
    mirrored = [line * [1, -1, 1] for line in bulwark_top[::-1]]
    deck = np.stack([*bulwark_top, *mirrored], axis=1)
    stern_rim = outer[0]
    middle = np.broadcast_to(stern_rim.mean(axis=0), stern_rim.shape)
    stern = np.stack([middle, stern_rim, np.roll(stern_rim, -1, axis=0)], axis=1)
    return np.concatenate([_grid(outer[:, ::-1]), _grid(deck), stern])


def _box(x: Point, y: Point, z: Point, slant: float = 0.0) -> Triangles:
    """A box whose front leans back by ``slant`` metres at the top."""
    low = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]
    high = [(x[0], y[0]), (x[1] - slant, y[0]), (x[1] - slant, y[1]), (x[0], y[1])]
    rings = np.array([[(*p, z[0]) for p in low], [(*p, z[1]) for p in high]])
    a, b, c, d = rings[1]
    e, f, g, h = rings[0]
    return np.concatenate([_grid(rings, closed=True), [[a, b, c], [a, c, d], [e, g, f], [e, h, g]]])


def _tube(start: tuple[float, float, float], end: tuple[float, float, float], radius: float) -> Triangles:
    """An upright cylinder, sheared where its ends do not lie above each other, with a lid."""
    angle = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
    circle = radius * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)
    top = circle + end
    lid = np.stack([np.broadcast_to(np.array(end), top.shape), top, np.roll(top, -1, axis=0)], axis=1)
    return np.concatenate([_grid(np.stack([circle + start, top]), closed=True), lid])


def _ring(center: tuple[float, float, float], radius: float, thickness: float) -> Triangles:
    """A torus whose axis is y."""
    around = np.linspace(0.0, 2 * np.pi, 25)[:, None]
    tube = np.linspace(0.0, 2 * np.pi, 10, endpoint=False)
    reach = radius - thickness / 2 + thickness * np.cos(tube)
    points = np.stack([reach * np.sin(around), thickness * np.sin(tube) + 0 * around, reach * np.cos(around)], axis=-1)
    return _grid(points + center, closed=True)


class _Canvas:
    """One view, painted in metres: ``right`` and ``up`` are coordinates of the boat's frame along the view's axes."""

    def __init__(self, view: str, origin: NDArray[np.float64]) -> None:
        direction, up = (np.array(axis, dtype=np.float64) for axis in _VIEWS[view])
        self._axes = np.stack([np.cross(-direction, up), -up])
        self._centre = self._axes @ origin
        self.pixels = np.zeros((TILE, TILE, 3), np.uint8)

    def pixel(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 2) pixel coordinates of boat points (..., 3)."""
        return (points @ self._axes.T - self._centre) * PIXELS_PER_METRE + (TILE - 1) / 2

    def _fixed(self, points: list[Point]) -> NDArray[np.int32]:
        offsets = np.array(points) * [1, -1] - self._centre
        return np.round((offsets * PIXELS_PER_METRE + (TILE - 1) / 2) * 16).astype(np.int32)

    def polygon(self, points: list[Point], color: Color) -> None:
        import cv2

        cv2.fillPoly(self.pixels, [self._fixed(points)], color, cv2.LINE_AA, shift=4)

    def rectangle(self, right: Point, up: Point, color: Color) -> None:
        (a, b), (c, d) = right, up
        self.polygon([(a, c), (b, c), (b, d), (a, d)], color)

    def disc(self, right: float, up: float, radius: float, color: Color) -> None:
        import cv2

        center = self._fixed([(right, up)])[0].tolist()
        cv2.circle(self.pixels, center, round(radius * PIXELS_PER_METRE * 16), color, -1, cv2.LINE_AA, shift=4)

    def porthole(self, right: float, up: float, radius: float = 0.0036) -> None:
        self.disc(right, up, radius, YELLOW)
        self.disc(right, up, radius * 0.7, NAVY)
        self.disc(right - radius * 0.2, up + radius * 0.2, radius * 0.25, WHITE)

    def star(self, right: float, up: float, radius: float, color: Color) -> None:
        angles = np.pi / 2 + np.arange(10) * np.pi / 5
        reach = np.where(np.arange(10) % 2 == 0, radius, 0.42 * radius)
        self.polygon([(right + r * np.cos(a), up + r * np.sin(a)) for r, a in zip(reach, angles)], color)

    def text(self, right: float, up: float, height: float, text: str, color: Color) -> None:
        """Text whose lower left corner is at (right, up)."""
        import cv2

        origin = (self._fixed([(right, up)])[0] // 16).tolist()
        scale = height * PIXELS_PER_METRE / 22.0  # the font's capitals are 22 px high at scale 1
        cv2.putText(
            self.pixels, text, origin, cv2.FONT_HERSHEY_DUPLEX, scale, color, max(2, round(4 * scale)), cv2.LINE_AA
        )

    def weather(self, seed: int) -> None:
        """Uneven paint: soft stains, so that no large surface is without texture."""
        import cv2

        noise = np.random.default_rng(seed).normal(size=(48, 48)).astype(np.float32)
        stains = cv2.resize(noise, (TILE, TILE), interpolation=cv2.INTER_CUBIC) * 7.0
        self.pixels = np.clip(self.pixels + stains[..., None], 0, 255).astype(np.uint8)


def _paint_side(canvas: _Canvas, hull: Color, stripe: Color) -> None:
    """What both sides and the ends have in common, from the keel up."""
    canvas.rectangle((-0.08, 0.08), (-0.05, 0.08), WHITE)
    canvas.rectangle((-0.08, 0.08), (-0.05, 0.002), RED)
    canvas.rectangle((-0.08, 0.08), (-0.003, 0.0), WHITE)
    canvas.rectangle((-0.08, 0.08), (0.0, 0.0145), hull)
    canvas.rectangle((-0.08, 0.08), (0.0145, 0.035), stripe)


def _paint_funnel(canvas: _Canvas, right: Point, base: Color, band: Color) -> None:
    canvas.rectangle(right, (0.02, 0.07), base)
    canvas.rectangle(right, (0.04, 0.05), band)
    canvas.rectangle(right, (0.056, 0.07), BLACK)


def _paint_port(canvas: _Canvas) -> None:
    """Seen from port the bow is to the left: right is -x."""
    _paint_side(canvas, BLUE, ORANGE)
    for i in range(12):
        for j in range(2):
            if (i + j) % 2 == 0:
                canvas.rectangle(
                    (-0.06 + i * 0.0055, -0.0545 + i * 0.0055), (0.002 + j * 0.0055, 0.0075 + j * 0.0055), WHITE
                )
    canvas.text(0.012, 0.001, 0.0115, "TUG 7", YELLOW)
    canvas.rectangle((-0.008, 0.036), (0.0185, 0.0385), WHITE)
    canvas.rectangle((-0.008, 0.036), (0.0185, 0.022), TEAL)
    for x in (0.0, 0.010, 0.020):
        canvas.porthole(x, 0.0295)
    canvas.rectangle((0.026, 0.033), (0.0215, 0.0365), ORANGE)
    canvas.rectangle((-0.01, 0.034), (0.0385, 0.06), GREEN)
    canvas.rectangle((0.006, 0.015), (0.0425, 0.0505), NAVY)
    canvas.rectangle((0.0185, 0.0265), (0.0425, 0.0505), WHITE)
    _paint_funnel(canvas, (0.0345, 0.07), ORANGE, WHITE)
    canvas.star(0.049, 0.045, 0.0045, RED)
    canvas.rectangle((-0.038, -0.02), (0.0165, 0.031), YELLOW)
    canvas.polygon([(-0.037, 0.018), (-0.034, 0.018), (-0.021, 0.03), (-0.024, 0.03)], BLACK)
    canvas.rectangle((-0.056, -0.04), (0.029, 0.04), BLACK)
    canvas.rectangle((-0.056, -0.04), (0.0305, 0.0325), YELLOW)
    for i in range(6):
        canvas.polygon(
            [(-0.03 + i * 0.014, -0.016), (-0.026 + i * 0.014, -0.016), (-0.022 + i * 0.014, -0.003)], YELLOW
        )
    canvas.weather(1)


def _paint_starboard(canvas: _Canvas) -> None:
    """Seen from starboard the bow is to the right: right is x."""
    _paint_side(canvas, NAVY, TEAL)
    for i in range(9):
        left = -0.062 + i * 0.0085
        canvas.polygon([(left, 0.001), (left + 0.0085, 0.001), (left + 0.00425, 0.0135)], YELLOW if i % 3 else ORANGE)
    canvas.disc(0.026, 0.0072, 0.0062, WHITE)
    canvas.disc(0.026, 0.0072, 0.0042, RED)
    canvas.star(0.043, 0.0075, 0.006, WHITE)
    canvas.rectangle((-0.037, 0.009), (0.0185, 0.0385), YELLOW)
    for i in range(6):
        canvas.rectangle((-0.036 + i * 0.008, -0.032 + i * 0.008), (0.0185, 0.0385), WHITE)
    canvas.disc(-0.012, 0.028, 0.0115, WHITE)
    for quarter in range(4):  # the lifebuoy's bands
        arc = quarter * np.pi / 2 + np.linspace(np.pi / 4, np.pi / 2, 6)
        rim = [(-0.012 + 0.0115 * np.cos(a), 0.028 + 0.0115 * np.sin(a)) for a in arc]
        canvas.polygon([(-0.012, 0.028), *rim], RED)
    canvas.disc(-0.012, 0.028, 0.0045, NAVY)
    canvas.rectangle((-0.034, 0.0), (0.0385, 0.06), RED)
    canvas.rectangle((-0.026, -0.007), (0.043, 0.0505), BLACK)
    canvas.rectangle((-0.024, -0.017), (0.0445, 0.049), TEAL)
    _paint_funnel(canvas, (-0.07, -0.0372), GREEN, YELLOW)
    canvas.rectangle((0.02, 0.038), (0.0155, 0.031), ORANGE)
    canvas.disc(0.029, 0.0235, 0.005, WHITE)
    canvas.disc(0.029, 0.0235, 0.0025, BLACK)
    canvas.rectangle((0.04, 0.056), (0.029, 0.04), WHITE)
    canvas.rectangle((-0.02, -0.008), (-0.02, -0.003), BLACK)
    canvas.rectangle((0.01, 0.03), (-0.02, -0.009), WHITE)
    canvas.weather(2)


def _paint_bow(canvas: _Canvas) -> None:
    """Seen from the bow, port is to the right: right is y."""
    _paint_side(canvas, BLUE, ORANGE)
    canvas.rectangle((-0.05, 0.0), (0.0, 0.0145), NAVY)
    canvas.rectangle((-0.05, 0.0), (0.0145, 0.035), TEAL)
    canvas.rectangle((-0.017, 0.021), (0.022, 0.0385), WHITE)
    for y, color in ((-0.011, BLACK), (0.0, RED), (0.012, BLACK)):
        canvas.rectangle((y - 0.004, y + 0.004), (0.031, 0.0365), color)
    canvas.rectangle((-0.013, 0.013), (0.0385, 0.056), ORANGE)
    canvas.rectangle((-0.0105, 0.0), (0.0425, 0.051), NAVY)
    canvas.rectangle((0.002, 0.0105), (0.0425, 0.051), WHITE)
    canvas.rectangle((-0.015, 0.005), (0.0165, 0.031), GREEN)
    canvas.polygon([(-0.013, 0.0225), (0.003, 0.0225), (-0.005, 0.0295)], WHITE)
    canvas.rectangle((0.0005, 0.012), (0.0305, 0.035), BLACK)
    canvas.rectangle((0.0005, 0.012), (0.0315, 0.0325), YELLOW)
    canvas.rectangle((0.014, 0.03), (0.04, 0.064), RED)
    canvas.rectangle((-0.003, 0.03), (0.0565, 0.064), BLACK)
    canvas.weather(3)


def _paint_stern(canvas: _Canvas) -> None:
    """Seen from the stern, starboard is to the right: right is -y."""
    _paint_side(canvas, WHITE, YELLOW)
    for i in range(4):
        canvas.rectangle((-0.024 + i * 0.012, -0.018 + i * 0.012), (0.0, 0.0145), (GREEN, BLACK, ORANGE, NAVY)[i])
    canvas.disc(0.004, -0.007, 0.0045, YELLOW)
    canvas.disc(0.004, -0.007, 0.0022, BLACK)
    canvas.rectangle((-0.021, 0.017), (0.0185, 0.0385), TEAL)
    canvas.rectangle((0.003, 0.013), (0.02, 0.0365), RED)
    canvas.disc(0.0108, 0.028, 0.0012, YELLOW)
    canvas.rectangle((-0.013, 0.013), (0.0385, 0.056), YELLOW)
    canvas.rectangle((-0.002, 0.0095), (0.043, 0.051), NAVY)
    canvas.rectangle((-0.0172, 0.0008), (0.02, 0.066), WHITE)
    for i in range(5):
        canvas.rectangle((-0.0172, 0.0008), (0.022 + i * 0.008, 0.026 + i * 0.008), RED)
    canvas.rectangle((-0.0172, 0.0008), (0.057, 0.07), BLACK)
    canvas.weather(4)


def _paint_top(canvas: _Canvas) -> None:
    """Seen from above with the bow up: right is -y, up is x."""
    canvas.rectangle((-0.06, 0.06), (-0.07, 0.07), WOOD)
    for i in range(12):
        if i % 2:
            canvas.rectangle((-0.036 + i * 0.006, -0.03 + i * 0.006), (-0.07, 0.07), (150, 104, 62))
    for up in (-0.05, 0.013, 0.04):
        canvas.rectangle((-0.04, 0.04), (up, up + 0.0016), (84, 56, 36))
    canvas.polygon([(-0.03, 0.042), (0.0, 0.064), (0.03, 0.042), (0.03, 0.065), (-0.03, 0.065)], WHITE)
    canvas.rectangle((-0.0205, 0.0165), (-0.0365, 0.006), BLUE)
    canvas.rectangle((-0.0205, -0.012), (-0.0365, 0.006), WHITE)
    canvas.rectangle((0.012, 0.0165), (-0.0365, -0.015), ORANGE)
    canvas.rectangle((-0.0122, 0.0122), (-0.0305, -0.0045), RED)
    canvas.polygon([(-0.0122, -0.0305), (0.0, -0.0305), (-0.0122, -0.0045)], WHITE)
    canvas.star(0.004, -0.0155, 0.006, YELLOW)
    canvas.rectangle((-0.0045, 0.0145), (0.0205, 0.0375), YELLOW)
    canvas.polygon([(-0.0045, 0.0205), (-0.0005, 0.0205), (0.0145, 0.034), (0.0145, 0.0375)], NAVY)
    canvas.disc(-0.008, -0.05, 0.0095, WHITE)
    canvas.disc(-0.008, -0.05, 0.0065, BLACK)
    canvas.disc(-0.006, 0.047, 0.0056, RED)
    canvas.disc(-0.006, 0.047, 0.0028, WHITE)
    canvas.text(0.015, -0.058, 0.007, "4", WHITE)
    canvas.weather(5)


def _paint_bottom(canvas: _Canvas) -> None:
    """Seen from below with the bow up: right is y, up is x."""
    canvas.rectangle((-0.07, 0.07), (-0.07, 0.07), RED)
    for i, color in enumerate((WHITE, BLACK, YELLOW)):
        base = 0.012 + i * 0.014
        canvas.polygon(
            [
                (-0.03, base),
                (0.0, base + 0.02),
                (0.03, base),
                (0.03, base + 0.006),
                (0.0, base + 0.026),
                (-0.03, base + 0.006),
            ],
            color,
        )
    canvas.disc(-0.011, -0.012, 0.011, WHITE)
    canvas.disc(-0.011, -0.012, 0.0075, NAVY)
    canvas.disc(-0.008, -0.009, 0.003, YELLOW)
    for i in range(3):
        for j in range(5):
            if (i + j) % 2:
                canvas.rectangle((0.004 + i * 0.006, 0.01 + i * 0.006), (-0.03 + j * 0.006, -0.024 + j * 0.006), WHITE)
    canvas.rectangle((-0.03, 0.03), (-0.047, -0.04), BLACK)
    canvas.text(-0.02, -0.058, 0.009, "PNP", WHITE)
    canvas.weather(6)


_PAINTERS = {
    "bow": _paint_bow,
    "stern": _paint_stern,
    "port": _paint_port,
    "starboard": _paint_starboard,
    "top": _paint_top,
    "bottom": _paint_bottom,
}
