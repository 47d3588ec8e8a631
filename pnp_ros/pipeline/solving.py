"""The solvers that an estimator may use, all through :func:`pnp_ros.solvers.pnp.solve_pnp`.

They differ in where a pose is looked for: ``robust`` draws samples of points alike, ``pnp_net`` by how far a network
trusts each point, ``epropnp`` looks at all modes of the posterior and goes on from the likeliest.
"""

from __future__ import annotations

import dataclasses

import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.solvers.classical import Classical
from pnp_ros.solvers.noise_scale import noise_scale
from pnp_ros.solvers.pnp import PoseFinder, solve_pnp
from pnp_ros.solvers.pnp_net import PnPNet
from pnp_ros.solvers.pose_hypotheses import pose_hypotheses, reversal
from pnp_ros.solvers.robust_loss import Cauchy, RobustLoss
from pnp_ros.solvers.search import Guide
from pnp_ros.sources.source import Sighting
from pnp_ros.types import Correspondences, Pose, PoseEstimate


def solve(solver: str, sighting: Sighting, camera: Camera, start: Pose | None, scale: float) -> PoseEstimate:
    """The pose of what a source saw.

    Args:
        solver: one of :data:`pnp_ros.pipeline.config.SOLVERS`.
        sighting: matches, of which many may be by chance, or keypoints, each of which is meant to be right.
        camera: of the whole image.
        start: where the object is expected; None where it is searched.
        scale: of the robust loss on keypoints, standard deviations.
    """
    points, loss = sighting.correspondences, Cauchy(scale)
    if sighting.matched:  # the kernel's own search sorts out what agrees
        return solve_pnp(points, camera, init=PnPNet() if solver == "pnp_net" else None)
    init: Pose | PoseFinder | Guide | None
    if solver == "epropnp":
        starts = None if start is None else Pose.stack([start, reversal(points.object_points, start)])
        init = pose_hypotheses(points, camera, starts, loss, torch.Generator().manual_seed(0)).pose[0]
    elif start is not None:
        init = start
    elif solver == "pnp_net":
        init = PnPNet()
    elif sighting.dense:
        init = None
    else:
        init = Classical("ransac")
    if sighting.dense:
        return _together(points, camera, init, loss)
    return solve_pnp(points, camera, init=init, loss=loss)


def _together(
    points: Correspondences, camera: Camera, init: Pose | PoseFinder | Guide | None, loss: RobustLoss
) -> PoseEstimate:
    """The pose of cells whose weights count together, with their covariance.

    A cell by itself may claim less than chance would give, and a solve that takes the weights at their word would
    believe no pose. So the residuals say what a cell is worth in the search, and the weights what all are.
    """
    found = solve_pnp(points, camera, init=init, loss=loss, noise="estimated")
    claimed = noise_scale(points, camera, found, loss).square().reciprocal()
    return dataclasses.replace(found, covariance=torch.where(found.usable, claimed, 1.0) * found.covariance)
