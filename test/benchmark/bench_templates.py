"""A first pose of an untextured object without training: castle, CAD-like parts, and images without the object.

    PYTHONPATH=test python test/benchmark/bench_templates.py castle parts absent [--every 1] [--images 20]

CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from benchmark.aligned_renders import CASTLE, Castle
from benchmark.parts import chosen

from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.pose_error import add, adds
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import ObjectPackage, write_object_package
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.rendering.domain_randomisation import RandomisationConfig
from pnp_ros.rendering.validation_frames import validation_frames
from pnp_ros.training.symmetries import declared_symmetry
from pnp_ros.types import Pose
from synthetic.cad_parts import PARTS

SYMMETRIES = {"flange": "z4"}


class Tally:
    """Counts of one row: found right, valid and wrong, and what a search costs."""

    def __init__(self, package: ObjectPackage) -> None:
        self.estimator = PoseEstimator(package, EstimatorConfig(track=False))
        self.package, self.errors, self.seconds = package, [], []

    def search(self, image: np.ndarray, camera: Camera, truth: Pose | None) -> None:
        """One image; ADD(-S) as a share of the diameter is kept of a valid pose, infinite where nothing is."""
        self.estimator.reset()
        begin = time.process_time()
        found = self.estimator.estimate(image, camera)
        self.seconds.append(time.process_time() - begin)
        if found.state is not ObjectState.VALID or found.estimate is None:
            self.errors.append(np.nan)
            return
        metric = add if self.package.symmetry.is_trivial else adds
        points = torch.from_numpy(self.package.mesh.vertices)
        off = np.inf if truth is None else float(metric(found.estimate.pose, truth, points)) / self.package.diameter
        self.errors.append(off)

    def __str__(self) -> str:
        errors = np.array(self.errors)
        valid = ~np.isnan(errors)
        return (
            f"valid {valid.sum()} of {len(errors)}, within 5 % {(errors < 0.05).sum()}, within 2 % "
            f"{(errors < 0.02).sum()}, valid and wrong (10 %) {(errors[valid] > 0.1).sum()}; "
            f"{np.median(self.seconds):.1f} s an image"
        )


def package_of(name: str, mesh: TriangleMesh, folder: Path) -> ObjectPackage:
    symmetry = declared_symmetry(SYMMETRIES[name], mesh) if name in SYMMETRIES else Symmetry()
    return write_object_package(
        folder / name, name=name, mesh=mesh, keypoints=mesh.extreme_points[:6], symmetry=symmetry
    )


def castle(folder: Path, every: int, images: int) -> None:
    data = Castle()
    tally = Tally(package_of("castle", data.mesh, folder))
    for image, truth in list(zip(data.images, data.truths))[::every]:
        tally.search(image, data.camera, truth)
        print(f"castle: {tally}", flush=True)


def parts(folder: Path, every: int, images: int, negatives: float = 0.0) -> None:
    """In any colour, among other things of which some hide it."""
    for number, (name, make) in enumerate(PARTS.items()):
        tally = Tally(package_of(name, make(), folder))
        ranges = RandomisationConfig(distance=(2.0, 5.0), negatives=negatives, occlusion=0.3, colour=("any",))
        for frame in validation_frames(tally.package.mesh, ranges, images, 77 + number):
            truth = frame.T_camera_object
            tally.search(
                frame.rgb, frame.camera, None if truth is None else Pose.from_matrix(torch.from_numpy(truth).float())
            )
        print(f"{name}{', absent' * (negatives == 1.0)}: {tally}", flush=True)


def absent(folder: Path, every: int, images: int) -> None:
    """What is found where nothing is."""
    parts(folder, every, images, 1.0)


def main() -> None:
    kinds = {"castle": castle, "parts": parts, "absent": absent}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(kinds)}; default all")
    parser.add_argument("--every", type=int, default=1, help="of the castle's images")
    parser.add_argument("--images", type=int, default=20, help="of each part")
    parser.add_argument("--out", type=Path, default=Path("out/templates"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for _, kind in chosen(parser, kinds, arguments.kinds, {"castle": CASTLE}):
        kind(arguments.out, arguments.every, arguments.images)


if __name__ == "__main__":
    main()
