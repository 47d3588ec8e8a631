"""The estimator with each of its solvers, by the networks alone and aligned with the image.

``PYTHONPATH=test python test/benchmark/bench_estimator_solvers.py [--object FOLDER] [--occlusion 0 0.3 0.6]`` renders
images of the object, searches each by itself, and prints recall (valid and right), NEES with its 90 % coverage, and
milliseconds of the stage ``solve``. The last lines compare two covariances of the same poses: the inverse Hessian, and
that of the posterior (512 samples), with and without the calibration that the package has.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from pnp_ros.evaluation import consistency
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.calibration import CovarianceCalibration
from pnp_ros.pipeline.config import SOLVERS, EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.models import calibration_of
from pnp_ros.solvers.epropnp import sample_posterior
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.types import Pose
from synthetic.scenes import Errors, Scene, scenes


def add(package: ObjectPackage, pose: Pose, truth: Pose) -> float:
    """Share of the diameter."""
    points = torch.from_numpy(package.mesh.extreme_points)
    return float((pose.transform(points) - truth.transform(points)).norm(dim=-1).mean()) / package.diameter


def told(nees: list[float]) -> str:
    """Median and coverage."""
    if not nees:
        return "no pose"
    values = torch.tensor(nees)
    inside = consistency.coverage(values, (0.9,))[0.9]
    return f"NEES median {values.median():.1f}, in the 90 % region {inside:.0%}"


def row(package: ObjectPackage, images: list[Scene], solver: str, align: bool) -> None:
    """One line of the table."""
    config = EstimatorConfig(sources=("keypoints",), solver=solver, align=align, track=False)
    estimator = PoseEstimator(package, config, backend="torch")
    errors, nees, solve, spent = [], [], [], []
    for scene in images:
        estimator.reset()
        begin = time.process_time()
        found = estimator.estimate(scene.image, scene.camera)
        spent.append(time.process_time() - begin)
        solve.append(found.latency["solve"])
        if found.estimate is not None and found.state.value == "valid":
            errors.append(add(package, found.estimate.pose, scene.pose))
            nees.append(float(consistency.nees(found.estimate.pose, found.estimate.covariance, scene.pose)))
    right = [sum(e < limit for e in errors) / len(images) for limit in (0.05, 0.1)]
    wrong = sum(e > 0.2 for e in errors)
    print(
        f"  {solver:8} {'aligned' if align else 'network':7}: ADD < 5 % {right[0]:.1%}, < 10 % {right[1]:.1%}, wrong "
        f"{wrong}; {told(nees)}; solve {1e3 * np.median(solve):.1f} ms, all {1e3 * np.median(spent):.0f} ms CPU",
        flush=True,
    )


def covariances(package: ObjectPackage, images: list[Scene]) -> None:
    """Hessian and posterior of the same poses."""
    config = EstimatorConfig(sources=("keypoints",), align=False, track=False, hypotheses=False)
    estimator = PoseEstimator(package, config, backend="torch")
    estimator._settling.calibrations["keypoints"] = CovarianceCalibration()  # the solver's own
    factor_of = calibration_of(package)
    nees: dict[str, list[float]] = {"Hessian": [], "posterior": []}
    factors = []
    generator = torch.Generator().manual_seed(0)
    for scene in images:
        estimator.reset()
        found = estimator.estimate(scene.image, scene.camera)
        if found.estimate is None or found.state.value != "valid" or found.correspondences is None:
            continue
        if add(package, found.estimate.pose, scene.pose) > 0.2:
            continue
        posterior = sample_posterior(
            found.correspondences,
            scene.camera,
            modes=found.estimate.pose,
            loss=Cauchy(config.robust_scale),
            generator=generator,
        )
        assert found.doubt is not None
        factors.append(factor_of.factor(found.doubt))
        nees["Hessian"].append(float(consistency.nees(found.estimate.pose, found.estimate.covariance, scene.pose)))
        nees["posterior"].append(float(consistency.nees(posterior.mean, posterior.covariance, scene.pose)))
    for name, values in nees.items():
        scaled = [v / f for v, f in zip(values, factors)]
        spread = np.std(np.log(np.maximum(values, 1e-6)))
        print(f"  {name:9}: {told(values)}; calibrated {told(scaled)}; spread of log NEES {spread:.2f}", flush=True)


def main() -> None:
    """Run all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--object", type=Path, default=resource("config/objects/demo"))
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--occlusion", type=float, nargs="+", default=[0.0, 0.3, 0.6])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    package = load_object_package(arguments.object)
    for occlusion in arguments.occlusion:
        errors = Errors(size=0.003, shape=0.003, occlusion=occlusion)
        images = list(scenes(package.mesh, arguments.images, 7, errors))
        print(f"{package.name}, up to {occlusion:.0%} hidden, {len(images)} images", flush=True)
        for align in (False, True):
            for solver in SOLVERS:
                row(package, images, solver, align)
        covariances(package, images)


if __name__ == "__main__":
    main()
