"""Small inputs from public bug reports, with the right values: each stands for a kind of fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pnp_ros.cameras.brown_conrady import turning_radius
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.solvers.classical import Classical
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.types import Correspondences, Pose, PoseEstimate, SolveStatus

REPORTS = Path(__file__).parents[3] / "shared" / "data" / "reports"
pytestmark = pytest.mark.skipif(not REPORTS.is_dir(), reason="needs the shared data")
DTYPES = [torch.float32, torch.float64]


def _problem(data: dict[str, Any], dtype: torch.dtype) -> tuple[Correspondences, Camera]:
    camera = Camera.from_matrix(data["K"], data["D"], width=data["width"], height=data["height"])
    image = torch.tensor(data["image_points"], dtype=dtype)
    points = torch.tensor(data["object_points"], dtype=dtype)
    return Correspondences.from_sigma(image, points, data.get("sigma", 1.0)), camera


def _rms(estimate: PoseEstimate, correspondences: Correspondences, camera: Camera) -> float:
    in_camera = estimate.pose.transform(correspondences.object_points).double()
    offsets = camera.to(dtype=torch.float64).project(in_camera) - correspondences.image_points
    return float(offsets.square().sum(-1).mean().sqrt())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["01_four_coplanar_tangential", "01d_floor_points"])
def test_the_global_minimum_is_found_and_said_not_to_fit_a_pixel_of_noise(name: str, dtype: torch.dtype) -> None:
    data = json.loads((REPORTS / f"{name}.json").read_text())
    correspondences, camera = _problem(data, dtype)
    estimate = solve_pnp(correspondences, camera)
    assert _rms(estimate, correspondences, camera) == pytest.approx(data["right_rms_px"], abs=2e-3)
    assert estimate.pose.translation.tolist() == pytest.approx(data["right_translation"], rel=1e-4)
    _assert_turned(estimate.pose, data)
    assert estimate.status == int(SolveStatus.UNEXPLAINED)


def _assert_turned(pose: Pose, data: dict[str, Any]) -> None:
    """Within 1e-3 rad of the rotation that the file gives."""
    if "right_rotation" in data:
        right = torch.tensor(data["right_rotation"], dtype=torch.float64)
    else:
        right = so3.exp(torch.tensor(data["right_rotation_vector"], dtype=torch.float64))
    assert so3.angle_between(pose.rotation.double(), right) < 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tag_through_a_plain_lens(dtype: torch.dtype) -> None:
    for data in json.loads((REPORTS / "01c_tag_plain_lens.json").read_text())["cases"]:
        correspondences, camera = _problem(data, dtype)
        estimate = solve_pnp(correspondences, camera)
        assert estimate.usable
        assert estimate.pose.translation.tolist() == pytest.approx(data["right_translation"], abs=1e-5)
        right = torch.tensor(data["right_rotation"], dtype=dtype)
        torch.testing.assert_close(estimate.pose.rotation, right, atol=2e-4, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_four_flat_points(dtype: torch.dtype) -> None:
    data = json.loads((REPORTS / "09_iterative_four_points.json").read_text())
    correspondences, camera = _problem(data, dtype)
    for init in (None, Classical("iterative")):
        estimate = solve_pnp(correspondences, camera, init=init)
        assert estimate.usable
        assert estimate.pose.translation.tolist() == pytest.approx(data["right_translation"], rel=1e-4)
        _assert_turned(estimate.pose, data)


def test_points_far_from_their_origin_are_solved_in_double_precision_and_refused_in_single() -> None:
    data = json.loads((REPORTS / "08_utm_points.json").read_text())
    correspondences, camera = _problem(data, torch.float64)
    pose = solve_pnp(correspondences, camera).pose
    centre = -(pose.rotation.mT @ pose.translation)
    assert (centre - torch.tensor(data["right_camera_centre"], dtype=torch.float64)).norm() < 0.01
    single = solve_pnp(*_problem(data, torch.float32))
    assert single.status == int(SolveStatus.DEGENERATE)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_point_beyond_the_fold_of_the_lens_leads_to_the_best_pose_that_the_lens_can_show(dtype: torch.dtype) -> None:
    """17.76 px. The reported 14.22 px takes a point for seen that is beyond the radius where the lens turns back."""
    data = json.loads((REPORTS / "12_point_beyond_fold.json").read_text())
    correspondences, camera = _problem(data, dtype)
    estimate = solve_pnp(correspondences, camera)
    assert estimate.status == int(SolveStatus.UNEXPLAINED)
    fold = turning_radius(camera.distortion).item()

    def rms_and_radius(pose: Pose) -> tuple[Tensor, Tensor]:
        seen = pose.transform(correspondences.object_points)
        offsets = camera.to(dtype=dtype).project(seen) - correspondences.image_points
        return offsets.square().sum(-1).mean(-1).sqrt(), (seen[..., :2].norm(dim=-1) / seen[..., 2]).amax(-1)

    rms, radius = rms_and_radius(estimate.pose)
    assert float(rms) == pytest.approx(17.7596, abs=1e-3)
    assert radius < fold
    if dtype is torch.float32:  # from anywhere: whatever fits better has a point beyond the fold
        generator = torch.Generator().manual_seed(0)
        places = torch.tensor([-110.0, -170.0, 160.0]) + 100.0 * torch.randn(64, 3, generator=generator)
        starts = Pose(so3.random_rotation(64, generator=generator), places)
        batch = Correspondences(*(x.expand(64, *x.shape) for x in vars(correspondences).values()))
        rms, radius = rms_and_radius(solve_pnp(batch, camera, init=starts).pose)
        assert float(rms[radius > fold].min()) == pytest.approx(data["right_rms_px"], abs=0.01)
        assert float(rms[radius < fold].min()) > 17.759
