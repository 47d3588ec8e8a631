"""The estimator with each of its solvers, by the networks alone, or aligned with the image (``--align``).

    PYTHONPATH=test python test/benchmark/bench_estimator_solvers.py [--object FOLDER] [--images 120]
    PYTHONPATH=test python test/benchmark/bench_estimator_solvers.py --object objects/cube --video

Renders images of the object with 0, 30 and 60 % of it hidden (those of ``bench_losses.py``: in a box that is a little
off), or takes the 63 pseudo-true images of the cube's video, each searched by itself; all solvers see the same. Prints
ADD of any pose that is told, how many images are right (10 %) with this solver and not with ``robust``, and the
reverse, the share of the true poses in the 90 % regions, valid poses and those of them that are wrong, and milliseconds
of CPU time for a whole image. The last lines compare two covariances of the same poses: the inverse Hessian, and that
of the posterior (512 samples), with and without the calibration that the package has.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from aligned_renders import IN_90
from bench_losses import LEVELS, Images, interval, judged, test_images
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation import consistency
from pnp_ros.evaluation.frames import open_source
from pnp_ros.evaluation.pose_error import add
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.config import SOLVERS, EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.models import calibration_of
from pnp_ros.solvers.epropnp import sample_posterior
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.types import Pose

CUBE = Path(__file__).parents[3] / "shared" / "data" / "cube"
HEAD = (
    "| solver | ADD < 5 % | < 10 % | AUC (20 %) | right, `robust` not / reverse | valid, of them wrong | median NEES "
    "| 90 % regions hold | ms CPU |\n|" + "---|" * 9
)


def video() -> Images:
    """The cube video's images that have a pseudo-true pose, to be searched."""
    told = json.loads((CUBE / "pseudo_truth.json").read_text())["frames"]
    truths = {entry["frame"]: np.array(entry["cTo"], np.float32) for entry in told}
    source = open_source(CUBE / "cube_video.mp4", camera=CUBE / "camera_info.yaml")
    frames = [frame for frame in source.frames() if frame.image_id in truths]
    return Images(
        np.stack([frame.rgb for frame in frames]),
        np.stack([frame.camera.intrinsics.numpy() for frame in frames]).astype(np.float32),
        np.stack([truths[frame.image_id] for frame in frames]),
        np.full((len(frames), 4), np.nan, np.float32),
        np.ones(len(frames), np.float32),
    )


def row(solver: str, found: dict[str, NDArray], robust: dict[str, NDArray]) -> str:
    """Of the table."""
    error, right = found["add"], found["add"] < 0.1
    known, valid = found["nees"][np.isfinite(found["nees"])], found["valid"] > 0.5
    before = robust["add"] < 0.1
    cells = (
        interval(error < 0.05),
        interval(right),
        f"{100 * float(np.clip(1 - error / 0.2, 0, 1).mean()):.1f}",
        f"{int((right & ~before).sum())} / {int((before & ~right).sum())}",
        f"{int(valid.sum())}, {int((valid & ~right).sum())}",
        f"{np.median(known):.1f}" if len(known) else "-",
        interval(known < IN_90),
        f"{1e3 * np.mean(found['seconds']):.1f}",
    )
    return f"| {solver} | " + " | ".join(cells) + " |"


def covariances(package: ObjectPackage, images: Images) -> None:
    """Hessian and posterior of the same valid poses."""
    config = EstimatorConfig(sources=("keypoints",), align=False, track=False, hypotheses=False)
    estimator = PoseEstimator(package, config)
    estimator._settling.calibrations = {}  # the solver's own
    points, calibration = torch.from_numpy(package.mesh.vertices), calibration_of(package)
    nees: dict[str, list[float]] = {"Hessian": [], "posterior": []}
    factors, generator = [], torch.Generator().manual_seed(0)
    for image, intrinsics, matrix, box in zip(images.images, images.intrinsics, images.poses, images.boxes):
        estimator.reset()
        camera = Camera.pinhole(*map(float, intrinsics), image.shape[1], image.shape[0])
        truth = Pose.from_matrix(torch.from_numpy(matrix))
        found = estimator.estimate(image, camera, roi=None if np.isnan(box).any() else tuple(map(float, box)))
        if found.estimate is None or found.state.value != "valid" or found.correspondences is None:
            continue
        if float(add(found.estimate.pose, truth, points)) / package.diameter > 0.2:
            continue
        posterior = sample_posterior(
            found.correspondences,
            camera,
            modes=found.estimate.pose,
            loss=Cauchy(config.robust_scale),
            generator=generator,
        )
        assert found.doubt is not None
        factors.append(calibration.factor(found.doubt))
        nees["Hessian"].append(float(consistency.nees(found.estimate.pose, found.estimate.covariance, truth)))
        nees["posterior"].append(float(consistency.nees(posterior.mean, posterior.covariance, truth)))
    for name, values in nees.items():
        if not values:
            continue
        own, scaled = np.array(values), np.array(values) / factors
        print(
            f"{name} of {len(own)} valid poses: NEES median {np.median(own):.1f}, in the 90 % region "
            f"{interval(own < IN_90)} %; calibrated {np.median(scaled):.1f}, {interval(scaled < IN_90)} %; "
            f"spread of log NEES {np.log(own.clip(1e-6)).std():.2f}",
            flush=True,
        )


def main() -> None:
    """All tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--object", type=Path, default=resource("config/objects/demo"))
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--occlusion", type=float, nargs="+", default=LEVELS)
    parser.add_argument("--video", action="store_true", help="of the cube, in place of renders")
    parser.add_argument("--align", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("out/bench_estimator_solvers"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    package = load_object_package(arguments.object)
    folder = arguments.out / package.name
    folder.mkdir(parents=True, exist_ok=True)
    for level in (math.nan,) if arguments.video else arguments.occlusion:
        images = video() if arguments.video else test_images(folder, package, arguments.images, level, 11)
        told = f"{len(images.images)} images" + ("" if arguments.video else f", {100 * level:.0f} % hidden")
        print(f"{package.name}, {'aligned' if arguments.align else 'networks alone'}, {told}\n")
        print(HEAD)
        robust = None
        for solver in SOLVERS:
            config = EstimatorConfig(sources=("keypoints",), solver=solver, align=arguments.align, track=False)
            found = judged(package, images, config)
            robust = found if robust is None else robust
            print(row(solver, found, robust), flush=True)
        print()
        if not arguments.align:
            covariances(package, images)
            print()


if __name__ == "__main__":
    main()
