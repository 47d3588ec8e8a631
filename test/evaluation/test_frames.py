from pathlib import Path

import numpy as np
import pytest

from pnp_ros.evaluation.frames import Time, open_source
from pnp_ros.io.images import write_image
from pnp_ros.io.window import Window

CAMERA = """image_width: 8
image_height: 6
distortion_model: plumb_bob
camera_matrix: {rows: 3, cols: 3, data: [8, 0, 3.5, 0, 8, 2.5, 0, 0, 1]}
distortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}
"""


def test_a_window_that_leaves_no_image_is_named(tmp_path: Path) -> None:
    folder, camera = tmp_path / "images", tmp_path / "camera.yaml"
    folder.mkdir()
    camera.write_text(CAMERA)
    for index in range(3):
        write_image(folder / f"{index}.png", np.zeros((6, 8, 3), np.uint8))
    seen = open_source(folder, camera=camera, window=Window(end=0.05))
    assert len(list(seen.frames())) == 2
    with pytest.raises(ValueError, match=r"^start: the recording has no image from 5 s after its first one"):
        list(open_source(folder, camera=camera, window=Window(start=5.0)).frames())
    with pytest.raises(ValueError, match=r"from 5 s and before 6 s after"):
        list(open_source(folder, camera=camera, window=Window(start=5.0, end=6.0)).frames())


def test_time_that_jumps_back_is_noticed_once() -> None:
    time = Time()
    assert [time.jumps_back(stamp) for stamp in (5, 6, 6, 2, 3, 9)] == [False, False, False, True, False, False]
