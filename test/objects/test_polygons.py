"""Polygons as triangles: the whole polygon, nothing beyond it, none upside down."""

import numpy as np
import pytest

from pnp_ros.objects.polygons import triangulated

TURN = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]  # any plane
L = [(0, 0), (10, 0), (10, 3), (3, 3), (3, 7), (0, 7)]
ARROW = [(0, 0), (10, 10), (0, 3), (-10, 10)]
POLYGONS = {
    "square": [(0, 0), (1, 0), (1, 1), (0, 1)],
    "L": L,
    "L, the other way round": L[::-1],
    "L with corners on its edges": [(0, 0), (5, 0), (10, 0), (10, 3), (7, 3), (3, 3), (3, 7), (0, 7), (0, 3)],
    "arrow": ARROW,
    "comb": [(0, 0), (9, 0), *[(9 - i, 5 if i % 2 else 1) for i in range(10)]],
    "frame with a slit": [(0, 0), (9, 0), (9, 9), (0, 9), (0, 0), (3, 3), (3, 6), (6, 6), (6, 3), (3, 3)],
    "gear": [
        ((5 + i % 4 // 2) * np.cos(np.pi * i / 100), (5 + i % 4 // 2) * np.sin(np.pi * i / 100)) for i in range(200)
    ],
}


def _area(points: np.ndarray) -> np.ndarray:
    """(..., 3) half of the vector area of polygons (..., N, 3)."""
    return 0.5 * np.cross(points, np.roll(points, -1, axis=-2)).sum(axis=-2)


@pytest.mark.parametrize("name", POLYGONS)
@pytest.mark.parametrize("first", range(4))
def test_a_polygon_is_covered_once(name: str, first: int) -> None:
    points = np.roll(np.pad(np.array(POLYGONS[name], float), ((0, 0), (0, 1))), first, axis=0) @ TURN.T
    corners, owners = triangulated(points, np.array([len(points)]))
    assert len(corners) == len(points) - 2
    assert (owners == 0).all()
    area, areas = _area(points), _area(points[corners])
    np.testing.assert_allclose(areas.sum(axis=0), area, rtol=1e-9)
    assert (areas @ area > -1e-9).all()


def test_faces_keep_their_order() -> None:
    """Triangles beside an arrow and a square, a line and nothing."""
    faces = [
        [(0, 0), (1, 0), (0, 1)],
        ARROW[1:] + ARROW[:1],
        [(0, 0), (1, 1)],
        POLYGONS["square"],
        [(0, 0), (1, 0), (1, 1)],
    ]
    points = np.pad(np.array([corner for face in faces for corner in face], float), ((0, 0), (0, 1)))
    corners, owners = triangulated(points, np.array([len(face) for face in faces]))
    assert owners.tolist() == [0, 1, 1, 3, 3, 4]
    np.testing.assert_allclose(np.abs(_area(points[corners])[:, 2]), [0.5, 15, 15, 0.5, 0.5, 0.5])
    assert triangulated(np.zeros((0, 3)), np.zeros(0, np.int64))[0].shape == (0, 3)


def test_what_crosses_itself_or_has_no_area_ends() -> None:
    for polygon in ([(0, 0), (1, 1), (1, 0), (0, 1)], [(0, 0), (1, 0), (2, 0), (1, 0), (3, 0)], [(0, 0)] * 5):
        points = np.pad(np.array(polygon, float), ((0, 0), (0, 1)))
        assert len(triangulated(points, np.array([len(points)]))[0]) == len(points) - 2
