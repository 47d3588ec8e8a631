"""A box and its one origin: the outer corner of the image's first pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import box_from_pose, crop_from_box
from pnp_ros.detection.detector import letter_box
from pnp_ros.rendering.studio import box_of
from pnp_ros.types import Pose


def test_whoever_makes_a_box_counts_from_the_same_corner() -> None:
    """A mask of pixels 100 to 119 and 60 to 69, and the projection of what covers just these."""
    mask = np.zeros((120, 200), bool)
    mask[60:70, 100:120] = True
    shown = box_of(mask)
    assert shown == Box(100.0, 60.0, 20.0, 10.0)
    camera = Camera.pinhole(100.0, 100.0, 0.0, 0.0, 200, 120)
    corners = torch.tensor([[0.995, 0.595, 1.0], [1.195, 0.695, 1.0]])  # the pixels' outer edges, 99.5 and so on
    assert box_from_pose(camera, Pose.identity(), corners) == pytest.approx(shown, abs=1e-4)
    assert crop_from_box(np.zeros((120, 200, 3), np.uint8), camera, shown, 32, 1.0).box == Box(100.0, 55.0, 20.0, 20.0)
    _, fit = letter_box(np.zeros((120, 200, 3), np.uint8), 100, 100)
    there = shown.moved(fit.scale, fit.offset_x, fit.offset_y)
    assert there == Box(50.0, 50.0, 10.0, 5.0)
    assert fit.to_image(there) == shown


def test_boxes_are_frozen_and_unpack() -> None:
    box = Box(1.0, 2.0, 30.0, 40.0)
    with pytest.raises(AttributeError):
        box.x = 3.0  # type: ignore[misc]
    x, y, width, height = box
    assert (x + width / 2, y + height / 2) == box.centre == box.square(2.0).centre
    assert box.square(2.0).width == 80.0
    assert Box.around(np.array([[0.0, 0.0], [9.0, 4.0]])) == Box(0.5, 0.5, 9.0, 4.0)


def test_how_much_two_have_in_common() -> None:
    box = Box(0.0, 0.0, 10.0, 10.0)
    assert box.overlap(box) == 1.0
    assert box.overlap(Box(5.0, 0.0, 10.0, 10.0)) == pytest.approx(1 / 3)
    assert box.overlap(Box(20.0, 20.0, 10.0, 10.0)) == 0.0
    assert box.joined(Box(20.0, 5.0, 10.0, 10.0)) == Box(0.0, 0.0, 30.0, 15.0)
    assert box.holds((10.0, 0.0))
    assert not box.holds((10.1, 0.0))
