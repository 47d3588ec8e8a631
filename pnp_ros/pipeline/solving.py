"""The solvers that an estimator may use, all through :func:`pnp_ros.solvers.pnp.solve_pnp`.

They differ in where a pose is looked for: ``robust`` draws samples of points alike, ``pnp_net`` by how far a network
trusts each point, ``epropnp`` looks at all modes of the posterior and goes on from the likeliest.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels.search_reference import samples_needed
from pnp_ros.solvers.classical import Classical
from pnp_ros.solvers.levenberg_marquardt import LevenbergMarquardt
from pnp_ros.solvers.noise_scale import noise_scale
from pnp_ros.solvers.pnp import PoseFinder, solve_pnp
from pnp_ros.solvers.pnp_net import PnPNet
from pnp_ros.solvers.pose_hypotheses import pose_hypotheses, reversal
from pnp_ros.solvers.robust_loss import Cauchy, RobustLoss
from pnp_ros.solvers.search import Guide, Search
from pnp_ros.sources.source import Sighting
from pnp_ros.types import Correspondences, Pose, PoseEstimate, SolveStatus

_LEAST_SAMPLES = 2000  # of three matches; a millisecond, less is not worth saving


def solve(
    solver: str, sighting: Sighting, camera: Camera, start: Pose | None, scale: float, min_matches: int = 0
) -> PoseEstimate:
    """The pose of what a source saw.

    Args:
        solver: one of :data:`pnp_ros.pipeline.config.SOLVERS`.
        sighting: matches, of which many may be by chance, or keypoints, each of which is meant to be right.
        camera: of the whole image.
        start: where the object is expected; None where it is searched.
        scale: of the robust loss on keypoints, standard deviations.
        min_matches: a pose on which fewer matches agree is not worth a search: of hundreds by chance it would be long.
    """
    points, loss = sighting.correspondences, Cauchy(scale)
    if sighting.matched:  # the kernel's own search sorts out what agrees
        limits = _limits(points.image_points.shape[-2], min_matches)
        return solve_pnp(points, camera, solver=limits, init=PnPNet() if solver == "pnp_net" else None)
    init: Pose | PoseFinder | Guide
    if solver == "epropnp":
        starts = None if start is None else Pose.stack([start, reversal(points.object_points, start)])
        init = pose_hypotheses(points, camera, starts, loss, torch.Generator().manual_seed(0)).pose[0]
    elif start is not None:
        init = start
    elif solver == "pnp_net":
        init = PnPNet()
    elif sighting.dense:  # most cells do not show the object, and their weights say which
        information = points.axis_weights.square().sum(-1)
        init = Search(information / information.max().clamp_min(1e-18))
    else:
        init = Classical("ransac")
    found = solve_pnp(points, camera, init=init, loss=loss)
    if sighting.dense and int(found.status) in (SolveStatus.UNEXPLAINED, SolveStatus.BEHIND_CAMERA):
        return _together(points, camera, init if isinstance(init, Pose) else None, loss)
    return found


@functools.lru_cache(maxsize=1024)
def _limits(matches: int, min_matches: int) -> LevenbergMarquardt:
    """A search that finds what ``min_matches`` of the matches agree on."""
    needed = max(math.ceil(samples_needed(min_matches, matches)), _LEAST_SAMPLES)
    return LevenbergMarquardt(samples=min(LevenbergMarquardt.samples, needed))


def _together(points: Correspondences, camera: Camera, start: Pose | None, loss: RobustLoss) -> PoseEstimate:
    """The pose of cells whose weights count together, with their covariance.

    Each of so many may claim less than chance would give, and who takes the weights at their word believes no pose. So
    the residuals say what a cell is worth for the pose, and the weights how sure all are of it.
    """
    found = solve_pnp(points, camera, init=start, loss=loss, noise="estimated")
    claimed = noise_scale(points, camera, found, loss).square().reciprocal()
    return dataclasses.replace(found, covariance=torch.where(found.usable, claimed, 1.0) * found.covariance)
