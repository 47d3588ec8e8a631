"""The recipes of the documentation, executed: each gives what its page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pnp_ros import Camera, Pose
from pnp_ros.geometry import se3, so3

TEXT = (Path(__file__).parents[1] / "docs/recipes.md").read_text()
POSE = Pose(so3.exp(torch.tensor([0.3, -0.2, 0.5]).double()), torch.tensor([0.1, -0.2, 0.8]).double())
BASE = Pose(so3.exp(torch.tensor([-1.2, 0.4, 0.1]).double()), torch.tensor([0.5, 0.1, 1.0]).double())
COVARIANCE = torch.diag(torch.tensor([1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.03], dtype=torch.float64) ** 2)


def recipe(title: str) -> dict[str, Any]:
    """The names that the first Python block below a headline leaves."""
    section = TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(compile(found[1], title, "exec"), names)
    return names


def scattered(move: Any, count: int = 3000) -> torch.Tensor:
    """Covariance of where a function takes poses that scatter as ``COVARIANCE`` says, about where it takes POSE."""
    torch.manual_seed(0)
    noise = torch.randn(count, 6, dtype=torch.float64) * COVARIANCE.diagonal().sqrt()
    drawn = se3.retract(Pose(POSE.rotation.expand(count, 3, 3), POSE.translation.expand(count, 3)), noise)
    return torch.cov(se3.local(move(POSE), move(drawn)).T)


def test_scipy() -> None:
    rotation = recipe("SciPy, matrices and quaternions")["scipy_rotation"](POSE)
    np.testing.assert_allclose(rotation.as_matrix(), POSE.rotation.numpy(), atol=1e-12)
    x, y, z, w = rotation.as_quat()
    np.testing.assert_allclose(np.array([w, x, y, z]), so3.quat_wxyz_from_matrix(POSE.rotation).numpy(), atol=1e-9)


def test_base_frame() -> None:
    pose, covariance = recipe("The pose in the robot's base frame")["in_base"](BASE, POSE, COVARIANCE)
    point = torch.tensor([0.1, 0.2, 0.3]).double()
    torch.testing.assert_close(pose.transform(point), BASE.transform(POSE.transform(point)))
    expected = scattered(lambda moved: se3.compose(BASE, moved))
    assert (covariance - expected).norm() < 0.1 * expected.norm()


def test_the_camera_in_the_objects_frame() -> None:
    pose, covariance = recipe("The camera's pose in the object's frame")["camera_in_object"](POSE, COVARIANCE)
    back = pose.transform(POSE.transform(torch.zeros(1, 3).double()))
    torch.testing.assert_close(back, torch.zeros(1, 3).double())
    expected = scattered(se3.inverse)
    assert (covariance - expected).norm() < 0.1 * expected.norm()


def test_points_of_ones_own_detector() -> None:
    camera = Camera.pinhole(600.0, 600.0, 320.0, 240.0, 640, 480)
    model = 0.1 * np.random.default_rng(0).random((12, 3))
    pixels = camera.project(POSE.transform(torch.from_numpy(model)).float()).numpy()
    estimate = recipe("Points from your own detector")["pose_of"](pixels, np.full(12, 0.9), model, camera)
    assert int(estimate.status) == 0
    torch.testing.assert_close(estimate.pose.translation.double(), POSE.translation, atol=1e-3, rtol=0)


def test_many_problems_with_gradients(capsys: Any) -> None:
    names = recipe("Many problems at once, with gradients")
    assert capsys.readouterr().out == "torch.Size([64, 3]) True\n"
    assert names["image_points"].grad.isfinite().all()


def test_a_calibration_in_opencvs_form() -> None:
    camera = recipe("A camera whose calibration is in OpenCV's form")["camera"]
    assert (camera.width, camera.height) == (640, 480)
    torch.testing.assert_close(camera.distortion[:5].double(), torch.tensor([0.1, -0.2, 0.0, 0.0, 0.05]).double())


def test_every_recipe_is_executed() -> None:
    assert TEXT.count("```python") == 6
