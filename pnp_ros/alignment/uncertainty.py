"""The covariance of an aligned pose: noise, and what camera and mesh are not known to be exactly.

At the minimum of the whitened residuals' squares, ``r(pose, p)``, the pose depends on a parameter ``p`` of camera or
mesh by ``d pose / d p = -H^-1 A^T dr/dp`` with ``A = dr / d pose`` and ``H = A^T A`` (plus the prior's information):
the implicit function theorem, as BPnP uses it (arXiv 1909.06043). A parameter's standard deviation so moves all poses
of a run alike, however many matches there are; it is added to what the noise of the matches does. The mesh's shape is
such a parameter, too: a smooth displacement of its surface, a sum of waves as long as the object. Neighbouring matches
and lines err together, so ``N`` of them tell as much as ``N / dependence`` independent ones.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.types import Correspondences, Pose

_DEPENDENCE = 4.0, 8.0  # of matches and of lines; test/benchmark/bench_alignment.py measures it on held-out renders
_LEAST_NOISE = 0.25  # of the variance that the weights claim: residuals may be small by luck


def covariance(
    correspondences: Correspondences,
    camera: Camera,
    pose: Pose,
    inlier_weights: NDArray,
    lines: int,
    prior: NDArray | None,
    diameter: float,
    config: AlignmentConfig,
) -> NDArray[np.float64]:
    """(6, 6) of [dt, dtheta] in camera axes about the object's origin.

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
    points, roots = correspondences.object_points.double(), correspondences.weights.double()
    wide = camera.to(dtype=torch.float64)
    turned = points @ pose.rotation.double().mT
    seen = turned + pose.translation.double()
    pixels, slope = wide.project_with_jacobian(seen)
    white = roots @ slope
    design = torch.cat([white, torch.linalg.cross(turned[:, None].expand_as(white), white)], -1).numpy()
    weight = np.asarray(inlier_weights, np.float64)
    residual = (roots @ (pixels - correspondences.image_points.double())[..., None])[..., 0].numpy()
    axes = 2.0 * len(weight) - lines  # that tell something
    freedom = max(weight.sum() * axes / max(len(weight), 1) - 6.0, 1.0)
    noise = max(float(((residual**2).sum(1) * weight).sum()) / freedom, _LEAST_NOISE)
    dependence = np.full(len(weight), _DEPENDENCE[0])
    dependence[len(weight) - lines :] = _DEPENDENCE[1]
    # the pose is the minimum with ``weight``; each correspondence's error has ``noise * dependence`` for a variance
    hessian = np.einsum("nki,nkj,n->ij", design, design, weight) / noise
    if prior is not None:
        hessian = hessian + prior
    inverse = np.linalg.inv(hessian)
    meat = np.einsum("nki,nkj,n->ij", design, design, weight * dependence) / noise
    if prior is not None:
        meat = meat + prior
    moves = _systematic(wide, seen, turned, pixels, slope, pose, diameter, config)
    white_moves = (roots @ moves[..., None])[..., 0].numpy()
    shifts = inverse @ np.einsum("nki,mnk,n->im", design, white_moves, weight) / noise
    spread = inverse @ meat @ inverse + shifts @ shifts.T
    return 0.5 * (spread + spread.T)


def _systematic(
    camera: Camera,
    seen: torch.Tensor,
    turned: torch.Tensor,
    pixels: torch.Tensor,
    slope: torch.Tensor,
    pose: Pose,
    diameter: float,
    config: AlignmentConfig,
) -> torch.Tensor:
    """(M, N, 2) pixels by which the points move when one of M parameters is a standard deviation off."""
    zero = torch.zeros_like(pixels[:, 0])
    moves = [
        config.focal_sigma * (pixels - camera.intrinsics[2:]),
        torch.stack([zero + config.centre_sigma, zero], -1),
        torch.stack([zero, zero + config.centre_sigma], -1),
        config.size_sigma * (slope @ turned[..., None])[..., 0],
    ]
    if camera.model is not CameraModel.PINHOLE:
        bent = camera.distortion.clone()
        bent[0] += config.distortion_sigma
        moves.append(dataclasses.replace(camera, distortion=bent).project(seen) - pixels)
    bends = _waves(turned @ pose.rotation.double(), diameter) * config.shape_sigma * diameter
    bends = bends @ pose.rotation.double().mT
    return torch.cat([torch.stack(moves), (slope @ bends[..., None])[..., 0]])


def _waves(points: torch.Tensor, diameter: float) -> torch.Tensor:
    """(18, N, 3) displacements of points (N, 3): waves along each axis that move each axis, with unit variance."""
    phase = 2.0 * torch.pi * points / diameter
    waves = torch.cat([phase.sin(), phase.cos()], -1) / 3.0**0.5  # (N, 6)
    return torch.einsum("nw,ij->winj", waves, torch.eye(3, dtype=points.dtype)).flatten(0, 1)
