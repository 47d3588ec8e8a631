"""The sheet shows the worst frames, one of each stretch of time, cut out around the object."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.frame_errors import frame_errors
from pnp_ros.evaluation.frame_sheet import frame_sheet
from pnp_ros.evaluation.frames import Frame, FrameSource
from pnp_ros.evaluation.overlay import MeshOverlay
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.pipeline.result import FrameResult, ObjectState
from pnp_ros.types import Pose

CAMERA = Camera.pinhole(400.0, 400.0, 320.0, 240.0, 640, 480)
VERTICES = 0.05 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.2]], np.float32)
MESH = TriangleMesh(VERTICES, np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], np.int32))
CELL = (340, 255)


def pose(x: float = 0.0, depth: float = 1.0) -> Pose:
    return Pose(torch.eye(3).double(), torch.tensor([x, 0.0, depth]).double())


def source(count: int) -> FrameSource:
    """Grey images, the value is the index, with a red square where the object of ``pose(0.2)`` is."""

    def frames() -> Iterator[Frame]:
        for i in range(count):
            rgb = np.full((480, 640, 3), i, np.uint8)
            rgb[215:265, 375:425] = (200, 0, 0)
            yield Frame(i, i, rgb, CAMERA)

    return FrameSource(Path("frames"), "images", frames)


def sheet(records: list[FrameResult]) -> tuple[str, np.ndarray]:
    errors = frame_errors(records, torch.from_numpy(VERTICES), MESH.diameter)
    return frame_sheet(source(len(records)), MESH, records, errors, "add")


def test_of_neighbours_in_time_only_the_worst_is_shown() -> None:
    errors = 0.001 + 0.0001 * np.random.default_rng(0).random(100)
    errors[[30, 31, 80]] = 0.01, 0.02, 0.015
    records = [FrameResult(ObjectState.VALID, pose(e), None, pose()) for e in errors]
    caption, drawn = sheet(records)
    assert caption.startswith("The worst frames, worst first: green valid, orange uncertain, blue truth")
    assert drawn.shape == (6 * CELL[1], 4 * CELL[0], 3)
    corner = [int(drawn[row * CELL[1] + 40, column * CELL[0] + 3, 0]) for row in range(6) for column in range(4)]
    assert corner[:2] == [31, 80]
    assert len(set(corner)) == 24
    assert 30 not in corner
    assert min(abs(a - b) for i, a in enumerate(corner) for b in corner[:i]) >= 2


def test_a_cell_is_cut_out_around_the_object() -> None:
    _, near = sheet([FrameResult(ObjectState.VALID, pose(0.2), None, pose(0.2))])
    centre = near[CELL[1] // 2 - 20 : CELL[1] // 2 + 20, CELL[0] // 2 - 20 : CELL[0] // 2 + 20]
    assert near.shape == (CELL[1], CELL[0], 3)
    assert np.mean(centre[..., 0] > 150) > 0.5  # the square, now in the middle


def test_without_anything_against_a_frame_some_of_all_are_shown() -> None:
    caption, drawn = sheet([FrameResult(ObjectState.LOST)] * 50)
    assert caption.startswith("Some frames: green")
    assert "truth" not in caption
    assert drawn.shape == (6 * CELL[1], 4 * CELL[0], 3)  # the whole image in each
    assert drawn[40, 5, 0] == 0
    assert drawn[-5, -5, 0] == 49


def test_the_box_of_a_mesh() -> None:
    overlay = MeshOverlay(MESH)
    found = overlay.box(pose(), CAMERA)
    assert found is not None
    pixels = CAMERA.project(pose().transform(torch.from_numpy(VERTICES).double()).float())
    np.testing.assert_allclose(found, [*pixels.amin(0).tolist(), *pixels.amax(0).tolist()], atol=1e-3)
    assert overlay.box(pose(depth=-1.0), CAMERA) is None
