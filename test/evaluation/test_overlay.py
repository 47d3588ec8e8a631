"""Drawings hit the pixels where the object is."""

import math

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera, camera_from_info
from pnp_ros.evaluation.overlay import GREEN, MeshOverlay, contact_sheet, draw_axes, draw_points, write_caption
from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.types import Pose

CAMERA = Camera.pinhole(600, 600, 320, 240, 640, 480)
BLACK = np.zeros((480, 640, 3), np.uint8)
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32) * 0.05
# the six sides, each wound counter-clockwise seen from outside
SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]


def cube(split: bool = False) -> TriangleMesh:
    """A cube of 10 cm; with ``split`` every side has corners of its own, as texture seams make them."""
    faces = np.array([f for a, b, c, d in SIDES for f in ((a, b, c), (a, c, d))], np.int32)
    if not split:
        return TriangleMesh(CORNERS, faces)
    return TriangleMesh(CORNERS[faces.reshape(-1)], np.arange(36, dtype=np.int32).reshape(12, 3))


def pose(tilt: float = 0.0) -> Pose:
    return Pose(so3.exp(torch.tensor([tilt, tilt, 0.0])), torch.tensor([0.0, 0.0, 0.55]))


def test_a_cube_seen_from_the_front_is_a_square() -> None:
    drawn = MeshOverlay(cube()).draw(BLACK, pose(), CAMERA, axes=False)
    rows, columns = np.nonzero(drawn.any(axis=-1))
    # the front side, 5 cm nearer than the centre, is 600 * 0.1 / 0.5 = 120 px wide
    assert (columns.min(), columns.max()) == pytest.approx((260, 380), abs=2)
    assert (rows.min(), rows.max()) == pytest.approx((180, 300), abs=2)
    assert drawn[180, 320].tolist() == pytest.approx(list(GREEN), rel=0.3)
    assert not drawn[200:281, 280:361].any()  # neither the diagonal of the side nor the edges behind it
    assert not BLACK.any()


@pytest.mark.parametrize("split", [False, True])
def test_a_tilted_cube_shows_its_nine_visible_edges(split: bool) -> None:
    drawn = MeshOverlay(cube(split)).draw(BLACK, pose(0.5), CAMERA, axes=False)
    seen = pose(0.5).transform(torch.from_numpy(CORNERS))
    pixels = CAMERA.project(seen).numpy()
    facing = [np.cross(*(seen.numpy()[list(s)][[1, 3]] - seen.numpy()[s[0]])) @ seen.numpy()[s[0]] < 0 for s in SIDES]
    edges = {frozenset((side[i], side[i - 1])) for side in SIDES for i in range(4)}
    visible = {e for e in edges if any(front and e <= set(side) for side, front in zip(SIDES, facing))}
    assert len(visible) == 9
    for edge in edges:
        middle = pixels[list(edge)].mean(axis=0)
        column, row = np.round(middle).astype(int)
        near = drawn[row - 2 : row + 3, column - 2 : column + 3].any()
        assert near == (edge in visible)


def test_the_lens_bends_the_drawing() -> None:
    lens = camera_from_info(640, 480, "plumb_bob", [-0.4, 0.0, 0.0, 0.0], [600, 0, 320, 0, 600, 240, 0, 0, 1])
    near = Pose(torch.eye(3), torch.tensor([0.1, 0.0, 0.3]))
    straight = MeshOverlay(cube()).draw(BLACK, near, CAMERA, axes=False)
    bent = MeshOverlay(cube()).draw(BLACK, near, lens, axes=False)
    assert np.nonzero(bent.any(axis=(0, 2)))[0].max() < np.nonzero(straight.any(axis=(0, 2)))[0].max()


def test_objects_behind_or_around_the_camera_do_not_break_the_drawing() -> None:
    overlay = MeshOverlay(cube())
    for z in (-0.5, 0.0, 0.05, 1e-7):
        image = overlay.draw(BLACK, Pose(torch.eye(3), torch.tensor([0.0, 0.0, z])), CAMERA)
        assert image.shape == BLACK.shape
        assert z > 0 or not image.any() or z == 0.0


def test_axes_have_their_colours_and_lengths() -> None:
    drawn = draw_axes(BLACK, Pose(torch.eye(3), torch.tensor([0.0, 0.0, 1.0])), CAMERA, 0.1)
    assert drawn[240, 350].argmax() == 0  # x to the right, red
    assert drawn[270, 320].argmax() == 1  # y down, green
    assert not drawn[240, 320 + 66 :].any()


def test_contact_sheet_lays_images_out_in_rows() -> None:
    images = [np.full((480, 640, 3), 40 * (i + 1), np.uint8) for i in range(5)]
    sheet = contact_sheet(images, columns=3, cell_width=160)
    assert sheet.shape == (240, 480, 3)
    for i in range(5):
        row, column = divmod(i, 3)
        assert (sheet[120 * row : 120 * row + 120, 160 * column : 160 * column + 160] == 40 * (i + 1)).all()
    assert not sheet[120:, 320:].any()
    captioned = contact_sheet(images, columns=3, cell_width=160, captions=list("abcde"))
    assert (captioned != sheet).any()
    with pytest.raises(ValueError, match="captions: expected 5, got 1"):
        contact_sheet(images, captions=["a"])
    with pytest.raises(ValueError, match="images"):
        contact_sheet([])


def test_caption_is_in_the_upper_left_corner() -> None:
    rows, columns = np.nonzero(write_caption(BLACK, f"{math.pi:.3f}").any(axis=-1))
    assert rows.max() < 60
    assert columns.min() < 20


def test_points_are_drawn_where_they_are() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    points = torch.tensor([[20.0, 10.0], [float("nan"), 3.0], [1e9, 30.0]])
    drawn = draw_points(image, points, (255, 0, 0))
    assert drawn[10, 20, 0] == 255
    rows, columns = np.nonzero(drawn[..., 0])
    assert (np.abs(rows - 10).max(), np.abs(columns - 20).max()) <= (2, 2)
    assert not image.any()
