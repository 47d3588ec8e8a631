"""The solvers that are compared: each takes a batch of problems and answers all of them.

Others are called as their users call them, one problem at a time, on numpy arrays, with the camera in their own model
where they have one; their threshold is three standard deviations, as the weights say them. Ours solves the batch at
once. All times are CPU times of one thread.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import poselib
import torch

from pnp_ros.geometry import so3
from pnp_ros.types import Pose, PoseEstimate
from synthetic.lenses import Array, Lens
from synthetic.problems import Problems

try:
    import pycolmap
except ImportError:  # in no extra that a user needs
    pycolmap = None


@dataclass(frozen=True)
class Answers:
    """What a solver says of B problems, of which it has seen the first ``len(usable)``.

    Args:
        pose: (B, 3, 3), (B, 3).
        usable: (B) whether the solver stands by its pose.
        seconds: CPU time of one problem, mean.
        covariance: (B, 6, 6) of [dt, dtheta], or None.
        alternative: a second pose, equal to the first where there is none.
    """

    pose: Pose
    usable: np.ndarray
    seconds: float
    covariance: Array | None = None
    alternative: Pose | None = None


Solver = Callable[[Problems], Answers]


def ours(solve: Callable[[Problems], Callable[[], PoseEstimate]], seconds: float = math.inf) -> Solver:
    """``solve`` prepares what a user has at hand, and returns the call that is timed.

    Problems are solved few at once, then ``BATCH``, until they have taken so much CPU time.
    """

    def run(problems: Problems) -> Answers:
        solve(problems.first(1))()  # the first call records its launch
        estimates, spent, first, size = [], 0.0, 0, BATCH // 10
        while first < len(problems) and spent <= seconds:
            call = solve(problems.part(first, first + size))
            start = time.process_time()
            estimates.append(call())
            spent += time.process_time() - start
            first, size = first + size, min(BATCH, 3 * size)
        usable = torch.cat([e.usable for e in estimates]).numpy()
        poses = [e.pose for e in estimates]
        others = [e.alternative.pose for e in estimates if e.alternative is not None]
        return Answers(
            _joined(poses),
            usable,
            spent / len(usable),
            torch.cat([e.covariance for e in estimates]).double().numpy(),
            _joined(others) if others else None,
        )

    return run


def _joined(poses: list[Pose]) -> Pose:
    return Pose(torch.cat([pose.rotation for pose in poses]), torch.cat([pose.translation for pose in poses]))


def turned(problems: Problems, degrees: float, stretch: float, seed: int = 5) -> Pose:
    """The true poses, turned by an angle about random axes, and farther away; 180 degrees and more is anywhere."""
    generator = torch.Generator().manual_seed(seed)
    truth = problems.truth(torch.float32)
    axis = torch.nn.functional.normalize(torch.randn(len(problems), 3, generator=generator), dim=-1)
    turn = so3.exp(math.radians(degrees) * axis)
    if degrees >= 180.0:
        turn = so3.random_rotation(len(problems), generator=generator)
    return Pose(turn @ truth.rotation, truth.translation * (1.0 + stretch))


BATCH = 100  # problems
One = Callable[[Array, Array, Lens, float], "tuple[Array, Array, Array | None] | None"]


def one_by_one(solve: One, seconds: float = math.inf) -> Solver:
    """A solver of one problem: image points, object points, lens, threshold -> rotation, translation, covariance.

    Args:
        solve: the solver.
        seconds: it is stopped after so much CPU time; the answers are then fewer than the problems.
    """

    def run(problems: Problems) -> Answers:
        factor = {"half": 0.5, "double": 2.0}.get(problems.case.weights, 1.0)
        sigma = problems.case.sigma / factor
        rotations, translations, covariances, usable = [], [], [], []
        start = time.process_time()
        for image_points, object_points in zip(problems.image_points, problems.object_points):
            try:
                found = solve(image_points, object_points, problems.lens, sigma)
            except cv2.error:
                found = None
            fine = found is not None and np.isfinite(found[0]).all() and np.isfinite(found[1]).all()
            rotation, translation, covariance = found if fine else (np.eye(3), np.array([0.0, 0.0, 1.0]), None)
            rotations.append(rotation)
            translations.append(np.asarray(translation).reshape(3))
            covariances.append(np.full((6, 6), np.nan) if covariance is None else covariance)
            usable.append(fine)
            if time.process_time() - start > seconds:
                break
        mean = (time.process_time() - start) / len(usable)
        pose = Pose(torch.from_numpy(np.stack(rotations)), torch.from_numpy(np.stack(translations)))
        covariance = np.stack(covariances)
        return Answers(pose, np.array(usable), mean, covariance if np.isfinite(covariance).any() else None)

    return run


def pinhole(lens: Lens, image_points: Array) -> tuple[Array, Lens]:
    """Image points as a pinhole of the same focal length would see them, for a solver that lacks the lens's model."""
    bearings = lens.unproject(image_points)
    plane = bearings[:, :2] / np.maximum(bearings[:, 2:], 0.05)
    flat = dataclasses.replace(lens, distortion=(), fisheye=False)
    return plane * lens.focal + lens.centre, flat


def colmap_model(lens: Lens) -> tuple[str, list[float]] | None:
    """The model and parameters that PoseLib and COLMAP share; None where they have none for the lens."""
    parameters = [*lens.focal, *lens.centre]
    if lens.fisheye:
        return "OPENCV_FISHEYE", parameters + list(lens.distortion)
    if not lens.distortion:
        return "PINHOLE", parameters
    if len(lens.distortion) > 8:
        return None
    return "FULL_OPENCV", parameters + list(lens.distortion) + [0.0] * (8 - len(lens.distortion))


def solve_poselib(image_points: Array, object_points: Array, lens: Lens, sigma: float):
    if colmap_model(lens) is None:
        image_points, lens = pinhole(lens, image_points)
    model, parameters = colmap_model(lens)
    camera = {"model": model, "width": lens.width, "height": lens.height, "params": parameters}
    pose, info = poselib.estimate_absolute_pose(
        image_points, object_points, camera, {"max_reproj_error": 3.0 * sigma}, {}
    )
    return (pose.R, pose.t, None) if info["num_inliers"] >= 3 else None


def solve_magsac(image_points: Array, object_points: Array, lens: Lens, sigma: float):
    if lens.fisheye:
        image_points, lens = pinhole(lens, image_points)
    ok, rvec, tvec, _ = cv2.solvePnPRansac(
        object_points,
        image_points,
        lens.matrix,
        lens.coefficients,
        iterationsCount=1000,
        reprojectionError=3.0 * sigma,
        confidence=0.99,
        flags=cv2.USAC_MAGSAC,
    )
    return (cv2.Rodrigues(rvec)[0], tvec, None) if ok else None


def solve_directly(image_points: Array, object_points: Array, lens: Lens, sigma: float):
    """IPPE for flat objects, else SQPnP, then OpenCV's Levenberg-Marquardt: what one does without outliers."""
    if lens.fisheye:
        image_points, lens = pinhole(lens, image_points)
    flat = np.ptp(object_points[:, 2]) == 0.0
    method = cv2.SOLVEPNP_IPPE if flat else cv2.SOLVEPNP_SQPNP
    ok, rvec, tvec = cv2.solvePnP(object_points, image_points, lens.matrix, lens.coefficients, flags=method)
    if not ok:
        return None
    rvec, tvec = cv2.solvePnPRefineLM(object_points, image_points, lens.matrix, lens.coefficients, rvec, tvec)
    return cv2.Rodrigues(rvec)[0], tvec, None


def solve_colmap(image_points: Array, object_points: Array, lens: Lens, sigma: float):
    """COLMAP's LO-RANSAC, refinement, and covariance; the latter for noise of one pixel, so it is scaled."""
    if colmap_model(lens) is None:
        image_points, lens = pinhole(lens, image_points)
    model, parameters = colmap_model(lens)
    camera = pycolmap.Camera(model=model, width=lens.width, height=lens.height, params=parameters)
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.max_error = 3.0 * sigma
    found = pycolmap.estimate_and_refine_absolute_pose(
        image_points, object_points, camera, options, return_covariance=True
    )
    if found is None:
        return None
    rigid = found["cam_from_world"]
    return rigid.rotation.matrix(), rigid.translation, sigma**2 * _from_colmap(found["covariance"])


def _from_colmap(covariance: Array) -> Array:
    """[dt, dtheta] from Ceres's tangent of (quaternion, translation): half a rotation vector on the left, dt."""
    scale = np.array([2.0, 2.0, 2.0, 1.0, 1.0, 1.0])
    order = [3, 4, 5, 0, 1, 2]
    return (scale[:, None] * covariance * scale)[np.ix_(order, order)]
