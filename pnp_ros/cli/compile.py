"""``pnp-ros compile``: the estimator's kernels into the cache, so that no robot compiles at its first image."""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
import warp as wp

from pnp_ros.cameras.camera import Camera
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.types import Correspondences, Pose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--device", default="cpu", help="of the solver: cpu or cuda (default cpu)")


def run(arguments: argparse.Namespace) -> int:
    """Launch each kernel once: what is not in the cache is compiled."""
    begin = time.perf_counter()
    generator = torch.Generator().manual_seed(0)
    camera = Camera.pinhole(500.0, 500.0, 320.0, 240.0, 640, 480)
    pose = Pose(torch.eye(3), torch.tensor([0.0, 0.0, 2.0]))
    points = torch.rand(16, 3, generator=generator) - 0.5
    pixels = camera.project(pose.apply(points))
    solve_pnp(Correspondences.from_sigma(pixels, points).to(arguments.device), camera.to(arguments.device))
    triangle = TriangleMesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))
    seen = RayMesh(triangle)
    seen.look(pose, np.array([[0.0, 0.0, 1.0]], np.float32))
    seen.view(pose, camera)
    seconds = time.perf_counter() - begin
    print(f"the estimator's kernels are in {wp.config.kernel_cache_dir} ({seconds:.1f} s)")
    return 0
