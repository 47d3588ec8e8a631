"""The lenses inside kernels against the torch reference, for strong real lenses, over the whole image."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import warp as wp

import pnp_ros.kernels
from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import so3
from pnp_ros.kernels import chunks_warp, consensus_warp, lens_warp, lm_launch
from pnp_ros.kernels.chunks_warp import BEARING, NUM_ROWS
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.types import Correspondences
from synthetic.cube import random_problems

WIDTH = 16
vector = wp.types.vector(length=WIDTH, dtype=wp.float32)


def _brown(focal: float, width: int, height: int, *distortion: float) -> Camera:
    intrinsics = torch.tensor([focal, focal, 0.5 * width, 0.5 * height])
    padded = torch.tensor([*distortion, *(0.0,) * (14 - len(distortion))])
    return Camera(CameraModel.BROWN_CONRADY, intrinsics, padded, width, height)


# Lenses as they are sold: published focal lengths and coefficients.
LENSES = {
    "webcam": _brown(600.0, 640, 480, -0.3, 0.1),
    "webcam_k1": _brown(600.0, 640, 480, -0.28),
    "ip_camera": _brown(1200.0, 1280, 960, -0.48, 0.18, 0.0, 0.0, 0.0),
    "tangential": _brown(1183.0, 1280, 1080, -0.00207235, 0.00328193, -0.010313584, 0.0119532234),
    "rational": _brown(800.0, 1280, 800, 17.8, -5.1, 3e-4, -2e-4, 20.0, 18.1, 1.2, 13.0),
    "fourteen": _brown(
        900.0, 1280, 960, -0.25, 0.08, 1e-3, -2e-3, 0.01, 0.02, -0.01, 0.005, 1e-3, -5e-4, 2e-3, 3e-4, 0.02, -0.03
    ),
    "pincushion": _brown(700.0, 640, 480, 0.15, 0.3),
    "fisheye": Camera(
        CameraModel.KANNALA_BRANDT,
        torch.tensor([285.6, 286.7, 424.57, 408.2]),
        torch.tensor([-0.00217, 0.0376, -0.0364, 0.00594]),
        848,
        800,
    ),
}


@pytest.mark.parametrize("name", list(LENSES))
def test_bearings_of_the_kernel_are_those_of_the_reference(name: str) -> None:
    camera = LENSES[name]
    pixels = torch.cartesian_prod(torch.linspace(0, camera.width, 24), torch.linspace(0, camera.height, 24))
    lm_launch.initialise()

    @wp.kernel(enable_backward=False, module="unique")
    def bearings(
        chunks: wp.array2d(dtype=vector),
        model: int,
        intrinsics: wp.array(dtype=wp.vec4),
        distortion: wp.array(dtype=float),
    ) -> None:
        problem = chunks_warp.Problem()
        problem.lens = lens_warp.load_lens(model, intrinsics, distortion, 0)
        consensus_warp.unproject(chunks, problem, wp.tid())

    packed = torch.zeros(len(pixels) // WIDTH, int(NUM_ROWS), WIDTH)
    packed[:, 0] = pixels[:, 0].reshape(-1, WIDTH)
    packed[:, 1] = pixels[:, 1].reshape(-1, WIDTH)
    chunks = wp.array(ptr=packed.data_ptr(), shape=packed.shape[:2], dtype=vector, device="cpu", copy=False)
    intrinsics = wp.from_torch(camera.intrinsics[None].contiguous(), dtype=wp.vec4)
    inputs = [chunks, lens_warp.MODEL_NUMBERS[camera.model], intrinsics, wp.from_torch(camera.distortion)]
    wp.launch(bearings, len(packed), inputs=inputs, device="cpu")
    rows = packed[:, int(BEARING) : int(BEARING) + 3].mT.reshape(-1, 3)
    expected = camera.to(dtype=torch.float64).unproject(pixels.double())
    torch.testing.assert_close(
        torch.nn.functional.normalize(rows.double(), dim=-1), expected, atol=2e-5, rtol=0, msg=lambda m: f"{name}: {m}"
    )


@pytest.mark.parametrize("name", list(LENSES))
@pytest.mark.parametrize(("n", "planar"), [(4, False), (6, False), (64, False), (6, True), (64, True)])
def test_a_search_through_a_strong_lens_finds_the_pose(name: str, n: int, planar: bool) -> None:
    correspondences, camera, truth = random_problems(60, n, sigma=0.0, planar=planar, camera=LENSES[name], seed=n)
    shift = torch.tensor([0.22 * 6.0, -0.15 * 6.0, 0.0]) * camera.width / camera.intrinsics[0] * 0.5
    truth = replace(truth, translation=truth.translation + shift)  # off centre
    pixels = camera.project(truth.transform(correspondences.object_points))
    # A point near the lens's fold has no bearing: what unprojects to another point is no matter of the kernel.
    back = camera.unproject(pixels)
    rays = torch.nn.functional.normalize(truth.transform(correspondences.object_points), dim=-1)
    fine = ((back - rays).norm(dim=-1) < 1e-3).all(-1)
    assert fine.double().mean() > 0.5
    problem = Correspondences.from_sigma(pixels[fine], correspondences.object_points[fine])
    estimate = solve_pnp(problem, camera)
    error = so3.angle_between(estimate.pose.rotation, truth.rotation[fine]).rad2deg()
    other = so3.angle_between(estimate.alternative.pose.rotation, truth.rotation[fine]).rad2deg()
    wrong = estimate.usable & (error > 1.0) & (other > 1.0)
    assert wrong.double().mean() <= (0.05 if n == 4 else 0.0)
    assert estimate.usable.double().mean() > 0.94


def test_no_tuple_assignment_of_vectors_in_a_kernel() -> None:
    """Warp copies in ``a = b``, not in ``a, b = c, d``: there both names stay one variable, which loops overwrite."""
    found = []
    for path in sorted(Path(pnp_ros.kernels.__file__).parent.glob("*_warp.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)):
                continue
            if any(isinstance(element, ast.Name) for element in node.value.elts):
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert not found, "\n".join(found)
