"""Another tilt of a pose, where neither its source nor its outline holds it.

Matches of a small or half hidden object tell its tilt poorly. Alignment then may end in a minimum beside the right one,
where some of the texture fits. So the object is looked at from farther to either side, about the axis that is known
least, and the pose that the image speaks for is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pnp_ros.alignment.aligner import Aligner, Alignment
from pnp_ros.alignment.rival import log_odds
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry.covariance import UNKNOWN_VARIANCE
from pnp_ros.geometry.single_pose import moved
from pnp_ros.pipeline.rival import AHEAD
from pnp_ros.types import Pose, PoseEstimate

_OPEN = math.radians(10.0)  # deviation of a start's turn from which another tilt may be right
_OUTLINED = 0.25  # of the outline found from which it holds the tilt
_TILT = math.radians(25.0)  # as far as that starts lead back, or to another minimum


def likeliest_tilt(
    aligner: Aligner,
    image: np.ndarray,
    camera: Camera,
    start: PoseEstimate,
    one: Alignment,
    beside: Callable[[Pose], PoseEstimate],
) -> Alignment:
    """The aligned pose, or another one that the image speaks for; which of both is learnt from.

    Args:
        aligner: that made ``one``.
        image: (H, W, 3) uint8 RGB.
        camera: of the image.
        start: from which it was aligned.
        one: the pose, and what the image says of it.
        beside: a start around a pose that may be somewhat off.
    """
    if not one.evidence.supported or math.isnan(one.evidence.texture):
        return one
    spread = start.covariance.detach().cpu().double().numpy()[3:, 3:]
    if not np.isfinite(spread).all():
        return one
    variances, axes = np.linalg.eigh(np.minimum(spread, UNKNOWN_VARIANCE))
    if variances[-1] < _OPEN**2 and not one.evidence.contour < _OUTLINED:
        return one
    best = one
    for sign in (1.0, -1.0):
        tilted = moved(one.estimate.pose, np.concatenate([np.zeros(3), sign * _TILT * axes[:, -1]]))
        other = aligner.compare(image, camera, beside(tilted), closely=False, fresh=True)
        if other.evidence.supported and log_odds(other, best, camera) > AHEAD:
            best = other
    if best is one:
        return one
    aligner.forget()  # the colours of the wrong one
    return aligner.align(image, camera, beside(best.estimate.pose), widely=False)
