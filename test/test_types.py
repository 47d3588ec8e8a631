"""The values of the package as users meet them: short in a notebook, as arrays, and from other libraries' results."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.types import Correspondences, Pose, PoseEstimate
from synthetic.cube import random_problems

CORNERS = [[x, y, z] for x in (-0.1, 0.1) for y in (-0.05, 0.05) for z in (-0.02, 0.04)]


def _camera() -> Camera:
    return Camera.pinhole(500, 500, 320, 240, width=640, height=480)


def test_representations_are_short_and_say_what_there_is() -> None:
    correspondences, camera, truth = random_problems(3, 40, outliers=0.25, seed=1)
    batch = solve_pnp(correspondences, camera)
    one = Correspondences(correspondences.image_points[0], correspondences.object_points[0], correspondences.weights[0])
    single = solve_pnp(one, camera)
    for value in (correspondences, camera, truth, truth[0], batch, one, single, batch.pose.to(dtype=torch.float64)):
        text = repr(value)
        assert text.startswith(type(value).__name__ + "(")
        assert len(text) < 250
        assert "tensor" not in text
    assert repr(batch) == "PoseEstimate(3 of 3 usable, 40 points, batch (3,))"
    assert repr(single).startswith("PoseEstimate(CONVERGED, translation [")
    assert int(repr(single).partition(" fitting of 40 points")[0].split()[-1]) in range(29, 33)
    assert (
        repr(one.to(dtype=torch.float64))
        == "Correspondences(40 points, 40 with weight, a weight for each axis, float64)"
    )
    assert repr(Camera.pinhole(500, 501, 320, 240, width=640, height=480)) == (
        "Camera(pinhole 640x480, fx 500, fy 501, cx 320, cy 240)"
    )
    nothing = PoseEstimate.of(Pose.identity(), torch.eye(6))
    assert repr(nothing) == ("PoseEstimate(CONVERGED, translation [0, 0, 0] m, sigma [1, 1, 1] m [1, 1, 1] rad)")


def test_results_as_arrays() -> None:
    correspondences, camera, _ = random_problems(3, 12, seed=2)
    correspondences.image_points.requires_grad_()
    estimate = solve_pnp(correspondences, camera)
    arrays = estimate.numpy()
    assert {name: array.shape for name, array in arrays.items()} == {
        "pose": (3, 4, 4),
        "covariance": (3, 6, 6),
        "inlier_weights": (3, 12),
        "cost": (3,),
        "status": (3,),
        "usable": (3,),
    }
    assert arrays["usable"].dtype == bool
    np.testing.assert_array_equal(arrays["pose"][:, :3, 3], estimate.pose.translation.numpy())
    points = correspondences.numpy()
    again = Correspondences(**points)
    assert torch.equal(again.weights, correspondences.weights)


@pytest.mark.parametrize("confidences", ["conf", "confidence"])
@pytest.mark.parametrize("within", [False, True])
def test_keypoints_of_another_library(confidences: str, within: bool) -> None:
    truth = Pose.from_rvec([0.3, -0.2, 0.1], [0.05, -0.02, 0.8])
    pixels = _camera().project(truth.transform(torch.tensor(CORNERS)))
    xy = torch.stack([pixels, torch.zeros_like(pixels)]).numpy()  # of the second instance nothing was found
    xy[0, 3] = 0.0
    confidence = np.full((2, 8), 0.9)
    xy[0, 5], confidence[0, 5] = (600.0, 10.0), 0.2
    found = SimpleNamespace(xy=xy, **{confidences: confidence})
    keypoints = SimpleNamespace(keypoints=found) if within else found
    correspondences = Correspondences.from_keypoints(keypoints, CORNERS, sigma=1.0)
    assert correspondences.has_weight.tolist() == [[i not in (3, 5) for i in range(8)], [False] * 8]
    estimate = solve_pnp(correspondences, _camera())
    assert estimate.usable.tolist() == [True, False]
    torch.testing.assert_close(estimate.pose.translation[0], truth.translation, atol=1e-4, rtol=0)
    without = SimpleNamespace(xy=xy, conf=None)
    assert Correspondences.from_keypoints(without, CORNERS).has_weight.sum() == 7


def test_what_are_no_keypoints_is_named() -> None:
    with pytest.raises(ValueError, match=r"keypoints: expected an object with xy \(..., K, 2\), got list"):
        Correspondences.from_keypoints([[1, 2]], CORNERS)
    found = SimpleNamespace(xy=np.ones((2, 8, 2)), conf=np.ones((2, 7)))
    with pytest.raises(ValueError, match=r"keypoints.confidence: expected shape \(..., 2, 8\), got \(2, 7\)"):
        Correspondences.from_keypoints(found, CORNERS)
    with pytest.raises(ValueError, match=r"object_points: expected shape \(..., 8, 3\), got \(7, 3\)"):
        Correspondences.from_keypoints(SimpleNamespace(xy=np.ones((2, 8, 2))), CORNERS[:7])
