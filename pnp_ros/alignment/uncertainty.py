"""The covariance of an aligned pose: noise, and what camera and mesh are not known to be exactly.

At the minimum of the whitened residuals' squares, ``r(pose, p)``, the pose depends on a parameter ``p`` of camera or
mesh by ``d pose / d p = -H^-1 A^T dr/dp`` with ``A = dr / d pose`` and ``H = A^T A`` (plus the prior's information):
the implicit function theorem, as BPnP uses it (arXiv 1909.06043). A parameter's standard deviation so moves all poses
of a run alike, however many matches there are; it is added to what the noise of the matches does. The mesh's shape is
such a parameter, too: a smooth displacement of its surface, a sum of waves as long as the object; and so is the place
at which an edge is measured. Neighbouring matches
and lines err together, so ``N`` of them tell as much as ``N / dependence`` independent ones.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.cameras.single_view import projected, slopes
from pnp_ros.geometry.single_pose import placed
from pnp_ros.types import Correspondences, Pose

_DEPENDENCE = 6.0, 8.0  # of matches and of lines; test/benchmark/bench_alignment.py measures it on held-out renders
_RIM = 0.1  # pixels, standard deviation of the steady part of the lines' errors; measured in the same way
_OUTLYING = 9.0  # squared standard deviations a residual, beyond which it does not tell the noise
_LEAST_NOISE = 0.25  # of the variance that the weights claim: residuals may be small by luck


def independent(correspondences: Correspondences, camera: Camera, pose: Pose) -> Correspondences:
    """Matches and lines with weights such that their errors count as independent, and as large as they are.

    Args:
        correspondences: N, lines with one axis each.
        camera: of their pixels.
        pose: their minimum.
    """
    data = (correspondences.square_root_information, correspondences.object_points, correspondences.image_points)
    roots, points, pixels = (v.numpy() for v in data)
    miss = projected(camera, pose, points) - pixels
    squares = (np.einsum("nij,nj->ni", roots, miss) ** 2).sum(1)
    axes = 1 + np.any(roots[:, 1], axis=1)
    kept = squares <= _OUTLYING * axes
    noise = (squares * kept).sum() / max((axes * kept).sum() - 6.0, 1.0)
    scale = 1.0 / np.sqrt(np.where(axes < 2, _DEPENDENCE[1], _DEPENDENCE[0]) * max(noise, _LEAST_NOISE))
    return dataclasses.replace(
        correspondences, weights=torch.from_numpy((roots * scale[:, None, None]).astype(np.float32))
    )


def covariance(
    correspondences: Correspondences,
    camera: Camera,
    pose: Pose,
    inlier_weights: NDArray,
    lines: int,
    prior: NDArray | None,
    diameter: float,
    config: AlignmentConfig,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """(6, 6) of [dt, dtheta] in camera axes about the object's origin; (6, M) by which each parameter moves it; cost.

    The second is what all images of one camera and one mesh have in common; its outer product is part of the first.
    The cost is half the weighted sum of the squared residuals.

    Args:
        correspondences: N matches and lines with their square-root information.
        camera: of their pixels.
        pose: the minimum.
        inlier_weights: (N,) 0 to 1.
        lines: how many of the N, the last ones, are lines.
        prior: (6, 6) information of the prior; None without one.
        diameter: of the mesh, metres.
        config: how exact camera and mesh are.
    """
    points, roots = (v.numpy().astype(np.float64) for v in (correspondences.object_points, correspondences.weights))
    seen = placed(pose, points)
    turned = seen - pose.translation.numpy()
    pixels, slope = slopes(camera, seen)
    white = roots @ slope
    design = np.concatenate([white, white @ _hats(turned)], -1)
    miss = pixels - correspondences.image_points.numpy()
    weight = np.asarray(inlier_weights, np.float64)
    squares = np.square(roots @ miss[..., None]).sum((-1, -2))
    axes = 2.0 * len(weight) - lines  # that tell something
    freedom = max(weight.sum() * axes / max(len(weight), 1) - 6.0, 1.0)
    total = float(squares @ weight)
    noise = max(total / freedom, _LEAST_NOISE)
    dependence = np.full(len(weight), _DEPENDENCE[0])
    dependence[len(weight) - lines :] = _DEPENDENCE[1]
    # the pose is the minimum with ``weight``; each correspondence's error has ``noise * dependence`` for a variance
    hessian = _gram(design, weight) / noise
    if prior is not None:
        hessian = hessian + prior
    inverse = np.linalg.inv(hessian)
    meat = _gram(design, weight * dependence) / noise
    if prior is not None:
        meat = meat + prior
    moves = _systematic(camera, seen, turned, points, pixels, slope, pose, diameter, config)
    moves = np.concatenate([moves, _rims(roots, lines)], -1)
    # (6, N * 2) by (N * 2, M)
    pulls = (design * weight[:, None, None]).reshape(-1, 6).T @ (roots @ moves).reshape(-1, moves.shape[-1])
    shifts = inverse @ pulls / noise
    spread = inverse @ meat @ inverse + shifts @ shifts.T
    return 0.5 * (spread + spread.T), shifts, 0.5 * total


def _hats(levers: NDArray) -> NDArray[np.float64]:
    """(N, 3, 3) with ``w @ hat = lever x w`` for rows w and levers (N, 3)."""
    found = np.zeros((len(levers), 3, 3))
    found[:, 1, 2], found[:, 2, 0], found[:, 0, 1] = levers.T
    found[:, 2, 1], found[:, 0, 2], found[:, 1, 0] = -levers.T
    return found


def _gram(design: NDArray, weight: NDArray) -> NDArray[np.float64]:
    """(6, 6) weighted sum of the outer products of the rows (N, 2, 6)."""
    flat = design.reshape(-1, 6)
    return np.asarray((flat * np.repeat(weight, 2)[:, None]).T @ flat)


def _systematic(
    camera: Camera,
    seen: NDArray,
    turned: NDArray,
    points: NDArray,
    pixels: NDArray,
    slope: NDArray,
    pose: Pose,
    diameter: float,
    config: AlignmentConfig,
) -> NDArray[np.float64]:
    """(N, 2, M) pixels by which the points move when one of M parameters is a standard deviation off."""
    focal, centre = _known(camera, config)
    parts = [
        focal * (pixels - camera.intrinsics[2:].numpy())[..., None],
        np.broadcast_to(np.diag(centre), (len(pixels), 2, 2)),
        config.size_sigma * (slope @ turned[..., None]),
    ]
    if camera.model is not CameraModel.PINHOLE:
        bent = camera.distortion.clone()
        bent[0] += config.distortion_sigma
        parts.append((slopes(dataclasses.replace(camera, distortion=bent), seen)[0] - pixels)[..., None])
    bend = config.shape_sigma * diameter * pose.rotation.numpy().astype(np.float64)  # along each axis of the object
    bends = slope @ bend
    waves = _waves(points, diameter)
    parts.append((bends[..., None] * waves[:, None, None, :]).reshape(len(pixels), 2, -1))
    return np.concatenate(parts, -1)


def _known(camera: Camera, config: AlignmentConfig) -> tuple[float, list[float]]:
    """Standard deviations of the focal length, as a share, and of the principal point in x and y, pixels.

    By the camera's calibration; what that held fixed, or all without one, by the configuration.
    """
    fx, fy, cx, cy = camera.sigmas or (0.0,) * 4
    focal = max(s / f for s, f in zip((fx, fy), camera.intrinsics[:2].tolist()))
    return focal or config.focal_sigma, [cx or config.centre_sigma, cy or config.centre_sigma]


def _rims(roots: NDArray, lines: int) -> NDArray[np.float64]:
    """(N, 2, 1) pixels by which all lines move outwards together: an edge's pixels look more like one of its sides."""
    rows = roots[:, 0]  # of a line: its normal over its standard deviation
    normals = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    normals[: len(rows) - lines] = 0.0
    return _RIM * normals[..., None]


def _waves(points: NDArray, diameter: float) -> NDArray[np.float64]:
    """(N, 6) of points (N, 3): waves along each axis, as long as the object, with unit variance together."""
    phase = 2.0 * np.pi * points / diameter
    return np.concatenate([np.sin(phase), np.cos(phase)], -1) / 3.0**0.5
