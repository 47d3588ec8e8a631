"""Many simulated objects: in the image, apart from each other, with the truth of each."""

import itertools

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.rendering.crowd import SimulatedCrowd
from pnp_ros.rendering.simulation import ABSENCE_S, CYCLE_S
from synthetic.printed_box import printed_box

pytest.importorskip("moderngl")
CAMERA = Camera.pinhole(150.0, 150.0, 79.5, 59.5, 160, 120)
NAMES = ["large_0", "large_1", "large_2", "small_0", "small_1", "small_2"]
MESHES = {"large": printed_box(0), "small": printed_box(1, (0.06, 0.04, 0.05))}


@pytest.fixture(scope="module")
def crowd() -> SimulatedCrowd:
    return SimulatedCrowd(MESHES, 3, CAMERA)


def test_truth_is_where_each_is_seen(crowd: SimulatedCrowd) -> None:
    frame = crowd.frame(10, 10.0)
    assert list(frame.seen) == NAMES
    assert [seen.object_name for seen in frame.seen.values()] == ["large"] * 3 + ["small"] * 3
    assert frame.rgb.tobytes() == crowd.frame(10, 10.0).rgb.tobytes()
    for seen in frame.seen.values():
        assert seen.pose is not None
        assert seen.box is not None
        vertices = torch.from_numpy(MESHES[seen.object_name].vertices.astype(np.float64))
        pixels = CAMERA.to(dtype=torch.float64).project(seen.pose.transform(vertices)).numpy()
        x, y, width, height = seen.box
        low, high = pixels.min(axis=0) - 1.5, pixels.max(axis=0) + 1.5
        assert (low <= (x, y)).all()
        assert ((x + width - 1, y + height - 1) <= high).all()
        if seen.visible == 1.0:
            np.testing.assert_allclose([x, y], low + 1.5, atol=1.5)


def test_near_ones_hide_far_ones_and_none_goes_through_another(crowd: SimulatedCrowd) -> None:
    diameter, hidden = MESHES["large"].diameter, 0
    for k in range(40):
        poses = {name: crowd.pose(name, 0.5 * k) for name in NAMES}
        centres = torch.stack([pose.translation for pose in poses.values()])
        assert float(torch.pdist(centres).min()) > diameter
        pixels = CAMERA.to(dtype=torch.float64).project(centres)
        assert (pixels > 0).all()
        assert (pixels < torch.tensor([160, 120])).all()
    for k in (2, 4, 6):
        hidden += sum(seen.visible < 0.7 for seen in crowd.frame(k, 1.0).seen.values())
    assert hidden


def test_one_is_away_once_a_cycle(crowd: SimulatedCrowd) -> None:
    for cycle, name in itertools.islice(enumerate(NAMES), 2):
        seen = crowd.frame(1, 1.0 / (cycle * CYCLE_S + sum(ABSENCE_S) / 2)).seen
        assert [each for each in NAMES if seen[each].pose is None] == [name]
        assert seen[name].visible == 0.0
