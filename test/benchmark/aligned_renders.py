"""What the benchmarks of alignment share: objects, starts that are off, and figures of many images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.alignment.aligner import Aligner, Alignment, start_at
from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import covariance, se3
from pnp_ros.io.camera_info import read_camera_info
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mesh_files import load_mesh
from pnp_ros.pipeline.second_look import second_look_of
from pnp_ros.pipeline.tilts import likeliest_tilt
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.types import Pose, PoseEstimate
from synthetic.scenes import Scene, perturbed

CASTLE = Path(__file__).parents[3] / "shared" / "data" / "castle"
IN_90 = 10.645  # chi-square of six degrees of freedom
WRONG = 30.0  # NEES beyond which a pose is another one than it says


def add(mesh: TriangleMesh, pose: Pose, truth: Pose) -> float:
    points = torch.from_numpy(mesh.extreme_points)
    return float((pose.transform(points) - truth.transform(points)).norm(dim=-1).mean()) / mesh.diameter


def shares(errors: Sequence[float]) -> str:
    values = np.array(errors)
    parts = [f"{100 * np.mean(values < limit):5.1f}" for limit in (0.1, 0.05, 0.02, 0.01)]
    return f"within 10/5/2/1 %: {' '.join(parts)}   median {100 * np.median(values):.2f} %, n = {len(values)}"


def binomial(count: int, total: int) -> str:
    """A share with its 95 % Wilson interval."""
    share, z = count / max(total, 1), 1.96
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total**2)) / (1 + z * z / total)
    return f"{100 * share:.1f} % [{100 * max(middle - half, 0.0):.1f}, {100 * min(middle + half, 1.0):.1f}]"


def start_of(truth: Pose, degrees: float, share: float, seed: int) -> PoseEstimate:
    """A start so far off, which says so."""
    pose = perturbed(truth, degrees, share, seed)
    return start_at(pose, max(share * float(truth.translation.norm()), 1e-4), max(np.radians(degrees), 1e-3))


class Castle:
    """The castle's images, camera and poses."""

    def __init__(self) -> None:
        self.mesh, self.camera = (
            load_mesh(CASTLE / "castle.obj"),
            read_camera_info(CASTLE / "camera_info.yaml").camera(),
        )
        frames = json.loads((CASTLE / "poses.json").read_text())["frames"]
        self.truths = [Pose.from_matrix(torch.tensor(frame["T_camera_object"])) for frame in frames]
        self.images = [cv2.imread(str(CASTLE / "color" / frame["file"]))[..., ::-1].copy() for frame in frames]


def objects() -> dict[str, TriangleMesh]:
    mesh = demo_mesh()
    return {"textured": mesh, "untextured": replace(mesh, uv=None, texture=None)}


class FirstSight:
    """Alignment of an object, and the verdict on it, where it is found anew: as the estimator has them.

    Args:
        mesh: in metres.
        config: what is compared and what makes a verdict.
    """

    def __init__(self, mesh: TriangleMesh, config: AlignmentConfig | None = None) -> None:
        self._aligner = Aligner(mesh, config)
        self._second_look = second_look_of(mesh, self._aligner.config)
        self._beside = 0.05 * mesh.diameter, 0.1  # as far off as a start may be that is told

    def __call__(self, image: NDArray[np.uint8], camera: Camera, start: PoseEstimate) -> Alignment:
        self._aligner.forget()
        found = self._aligner.align(image, camera, start)
        found = likeliest_tilt(self._aligner, image, camera, start, found, lambda pose: start_at(pose, *self._beside))
        return found if self._second_look is None else self._second_look.judge(self._aligner, image, camera, found)


def run(sight: FirstSight, drawn: Sequence[Scene], degrees: float, share: float) -> list[tuple[Alignment, Pose]]:
    found = []
    for seed, scene in enumerate(drawn):
        start = start_of(scene.pose, degrees, share, seed)
        found.append((sight(scene.image, scene.camera, start), scene.pose))
    return found


def errors(mesh: TriangleMesh, found: Sequence[tuple[Alignment, Pose]]) -> list[float]:
    return [add(mesh, alignment.estimate.pose, truth) for alignment, truth in found]


def nees_of(alignment: Alignment, truth: Pose) -> float:
    """By its covariance."""
    estimate = alignment.estimate
    return float(covariance.nees(se3.local(truth, estimate.pose).double(), estimate.covariance.double()))
