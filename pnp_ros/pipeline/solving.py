"""The solvers that an estimator may use, all through :func:`pnp_ros.solvers.pnp.solve_pnp`.

They differ in where a pose is looked for: ``robust`` draws samples of points alike, ``pnp_net`` by how far a network
trusts each point, ``epropnp`` looks at all modes of the posterior and goes on from the likeliest.
"""

from __future__ import annotations

import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.solvers.classical import Classical
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.pnp_net import PnPNet
from pnp_ros.solvers.pose_hypotheses import pose_hypotheses, reversal
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.solvers.search import Search
from pnp_ros.sources.source import Sighting
from pnp_ros.types import Pose, PoseEstimate


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
    if solver == "epropnp":
        starts = None if start is None else Pose.stack([start, reversal(points.object_points, start)])
        modes = pose_hypotheses(points, camera, starts, loss, torch.Generator().manual_seed(0))
        return solve_pnp(points, camera, init=modes.pose[0], loss=loss)
    if start is not None:
        return solve_pnp(points, camera, init=start, loss=loss)
    if solver == "pnp_net":
        return solve_pnp(points, camera, init=PnPNet(), loss=loss)
    if sighting.dense:  # most cells do not show the object, and their weights say which
        information = points.axis_weights.square().sum(-1)
        return solve_pnp(points, camera, init=Search(information / information.max().clamp_min(1e-18)), loss=loss)
    return solve_pnp(points, camera, init=Classical("ransac"), loss=loss)
