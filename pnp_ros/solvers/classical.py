"""Closed-form and consensus PnP of OpenCV and PoseLib, on undistorted bearings, one problem after the other.

Used as initial poses, and unrefined to compare with. All work on any camera: pixels are undistorted to the plane z = 1
first, and thresholds in standard deviations are turned into that plane's units.

- ``sqpnp``: Terzakis and Lourakis, "A consistently fast and globally optimal solution to the PnP problem", ECCV 2020
- ``epnp``: Lepetit, Moreno-Noguer, Fua, IJCV 2009
- ``iterative``: OpenCV's homography (flat points) or DLT (six points or more) and Levenberg-Marquardt
- ``ransac``: OpenCV's RANSAC with EPnP; ``magsac``: USAC with MAGSAC++ (Barath et al., CVPR 2020)
- ``poselib``: LO-RANSAC with P3P and Cauchy refinement (Larsson)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.types import Correspondences, Pose

Array = NDArray[np.float64]
# (object points (N, 3), points on the plane z = 1 (N, 2), inlier threshold there) -> rotation and translation
Method = Callable[[Array, Array, float], "tuple[Array, Array] | None"]

MIN_POINTS = {"sqpnp": 4, "epnp": 4, "iterative": 4, "ransac": 4, "magsac": 4, "poselib": 4}
INLIER_SIGMAS = 3.0


@dataclass(frozen=True)
class Classical:
    """Finds initial poses by a named method; ``Classical("sqpnp")``.

    Args:
        method: one of ``METHODS``.

    Raises:
        ValueError: for another name.
    """

    method: str

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {self.method!r}")

    def initial_pose(self, correspondences: Correspondences, camera: Camera) -> Pose:
        """A pose for each problem.

        Args:
            correspondences: (..., N) px, m and 1/px; points without weight and lines are left out.
            camera: of any model.

        Returns:
            Pose (..., 3, 3), (..., 3). The identity where no pose was found.
        """
        return _find(self.method, correspondences, camera)


@torch.no_grad()
def _find(name: str, correspondences: Correspondences, camera: Camera) -> Pose:
    method = METHODS[name]
    batch = correspondences.image_points.shape[:-2]
    bearings = camera.to(dtype=torch.float64).unproject(correspondences.image_points.double())
    ahead = bearings[..., 2:] > 1e-3
    plane = torch.where(ahead, bearings[..., :2] / bearings[..., 2:].clamp_min(1e-3), 0.0)
    # Median inverse standard deviation in the plane's units; exact at the principal point.
    weights = correspondences.axis_weights.double()
    focal = camera.intrinsics[..., None, :2].double()
    whitening = (weights * focal).mean(-1)
    used = (correspondences.residual_count == 2) & ahead.squeeze(-1) & plane.isfinite().all(-1)
    used = used & correspondences.object_points.isfinite().all(-1)

    flat_points = _numpy(correspondences.object_points, 2)
    flat_plane, flat_used, flat_whitening = _numpy(plane, 2), used.cpu().numpy(), _numpy(whitening, 1)
    flat_used = flat_used.reshape(batch.numel(), flat_used.shape[-1])
    rotation = np.tile(np.eye(3), (len(flat_points), 1, 1))
    translation = np.zeros((len(flat_points), 3))
    for i, use in enumerate(flat_used):
        if use.sum() < MIN_POINTS[name]:
            continue
        threshold = INLIER_SIGMAS / max(float(np.median(flat_whitening[i, use])), 1e-12)
        solved = method(flat_points[i, use], flat_plane[i, use], threshold)
        if solved is not None and np.isfinite(solved[0]).all() and np.isfinite(solved[1]).all():
            rotation[i], translation[i] = solved[0], solved[1].reshape(3)
    like = correspondences.image_points
    return Pose(
        torch.from_numpy(rotation).to(like).reshape(*batch, 3, 3),
        torch.from_numpy(translation).to(like).reshape(*batch, 3),
    )


def _numpy(tensor: Tensor, tail: int) -> Array:
    array: Array = tensor.detach().double().cpu().numpy()
    return np.ascontiguousarray(array.reshape(math.prod(array.shape[:-tail]), *array.shape[-tail:]))


def _opencv(points: Array, plane: Array, threshold: float, flag: str) -> tuple[Array, Array] | None:
    import cv2

    try:
        ok, rvec, tvec = cv2.solvePnP(points, plane, np.eye(3), None, flags=getattr(cv2, flag))
    except cv2.error:  # raised for degenerate point sets
        return None
    return (np.asarray(cv2.Rodrigues(rvec)[0], np.float64), np.asarray(tvec, np.float64)) if ok else None


def _opencv_ransac(points: Array, plane: Array, threshold: float, flag: str | None) -> tuple[Array, Array] | None:
    import cv2

    # In pixels of one standard deviation: MAGSAC's tables are for thresholds of a few pixels.
    focal = INLIER_SIGMAS / threshold
    options: dict[str, Any] = {"reprojectionError": INLIER_SIGMAS, "iterationsCount": 1000, "confidence": 0.999}
    if flag is not None:
        options["flags"] = getattr(cv2, flag)
    try:
        camera = np.diag([focal, focal, 1.0])
        ok, rvec, tvec, inliers = cv2.solvePnPRansac(points, focal * plane, camera, None, **options)
    except cv2.error:
        return None
    return (
        (np.asarray(cv2.Rodrigues(rvec)[0], np.float64), np.asarray(tvec, np.float64))
        if ok and inliers is not None
        else None
    )


def _poselib(points: Array, plane: Array, threshold: float) -> tuple[Array, Array] | None:
    try:
        import poselib
    except ImportError as error:
        raise ValueError('"poselib" needs the package poselib: pip install poselib') from error

    camera = {"model": "PINHOLE", "width": 2, "height": 2, "params": [1.0, 1.0, 0.0, 0.0]}
    pose, info = poselib.estimate_absolute_pose(plane, points, camera, {"max_reproj_error": threshold}, {})
    return (np.asarray(pose.R), np.asarray(pose.t)) if info["num_inliers"] >= 3 else None


METHODS: dict[str, Method] = {
    "sqpnp": lambda p, m, e: _opencv(p, m, e, "SOLVEPNP_SQPNP"),
    "epnp": lambda p, m, e: _opencv(p, m, e, "SOLVEPNP_EPNP"),
    "iterative": lambda p, m, e: _opencv(p, m, e, "SOLVEPNP_ITERATIVE"),
    "ransac": lambda p, m, e: _opencv_ransac(p, m, e, None),
    "magsac": lambda p, m, e: _opencv_ransac(p, m, e, "USAC_MAGSAC"),
    "poselib": _poselib,
}
