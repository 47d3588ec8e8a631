"""What the image says of the other pose that shows the same face of an object."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pnp_ros.alignment.aligner import MATCH, Aligner, Alignment
from pnp_ros.alignment.rival import log_odds
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.geometry.covariance import nees
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.pose_hypotheses import reversal
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.types import Correspondences, Pose, PoseEstimate

AHEAD = 2.0  # log odds by which a rival must lead to be followed instead
FEWEST = 4  # matches that tell which face is seen
_FAR, _BACK = 0.5, 0.1  # rad between a pose and its reversal from where it is doubted, and its minimum if it is none
LOSS = Cauchy(3.0)  # of matches that count as independent or nearly so
_ONE, SAME = 0.5, 16.0  # NEES of a pose and its reversal, aligned, below which they are one, and two of one region


@dataclass(frozen=True, eq=False)
class Rival:
    """The reversal of the followed pose, where the image shows it best: its estimate, and its log odds in this image.

    Infinite odds where one region holds both poses and the image shows the reversal better.
    """

    estimate: PoseEstimate | None
    odds: float


CONTRADICTED = Rival(None, -math.inf)  # by the image
ALIKE = Rival(None, 0.0)  # one region holds both poses, and the image shows neither better


def reversed_rival(
    aligner: Aligner,
    image: np.ndarray,
    camera: Camera,
    one: Alignment | None,
    symmetry: Symmetry,
    beside: Callable[[Pose], PoseEstimate],
) -> Rival | None:
    """The reversal of an aligned pose, aligned; None where too few matches tell.

    Of a reversal far away the matches are asked first: if they lead from there back to the pose, no image bears it out.

    Args:
        aligner: that made ``one``; nothing is learnt.
        image: (H, W, 3) uint8 RGB.
        camera: of the image.
        one: the pose that the image bears out.
        symmetry: the equivalent nearest to ``one`` is compared and told.
        beside: a start around a pose that may be somewhat off.
    """
    if one is None or int((chosen := one.kinds == MATCH).sum()) < FEWEST:
        return None
    data = one.correspondences
    matches = Correspondences(data.image_points[chosen], data.object_points[chosen], data.weights[chosen])
    start = reversal(matches.object_points, one.estimate.pose)
    if _leads_back(matches, camera, start, one.estimate.pose):
        return CONTRADICTED
    other = aligner.compare(image, camera, beside(start), one)
    if other is one:
        return ALIKE
    if not other.evidence.supported:
        return CONTRADICTED
    pose = symmetry.canonicalise(other.estimate.pose, one.estimate.pose)
    odds = log_odds(other, one, camera)
    spread = (one.estimate.covariance + other.estimate.covariance).double()
    apart = float(nees(se3.local(one.estimate.pose, pose).double(), spread))
    if apart < _ONE or (apart < SAME and odds < AHEAD):
        return ALIKE
    if apart < SAME:  # its region holds both: no two poses, but one that the image shows better here
        odds = math.inf
    return Rival(dataclasses.replace(other.estimate, pose=pose), odds)


def _leads_back(matches: Correspondences, camera: Camera, start: Pose, pose: Pose) -> bool:
    """Whether matches have no minimum near the reversal ``start`` of a pose, far away from it: no need to draw it."""
    if float(so3.angle_between(start.rotation, pose.rotation)) < _FAR:
        return False
    found = solve_pnp(matches, camera, init=start, loss=LOSS)
    return bool(found.usable) and float(so3.angle_between(found.pose.rotation, pose.rotation)) < _BACK
