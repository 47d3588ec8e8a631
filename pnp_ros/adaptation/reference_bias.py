"""What the references have wrong in the same way again and again, beside poses that the image itself confirmed.

A valid estimate is aligned with the image (:mod:`pnp_ros.alignment`), so it does not depend on what the networks have
learnt. One image tells little; the median over many tells a constant error of the reference, by hypothesis and axis: a
turn or a shift that is constant for the camera (its mounting, its calibration to the reference) or for the object (its
origin, its marker), and the depth.
"""

from __future__ import annotations

import math
from collections import deque

import torch
from torch import Tensor

from pnp_ros.geometry import se3
from pnp_ros.types import Pose

_RECENT, _FEWEST = 40, 10  # images that a bias is told from
_DEPTH = 0.015  # share of the distance: a focal length may be so wrong, and the image cannot tell


class ReferenceBias:
    """Gathers the displacements of references from estimates.

    Args:
        diameter: of the object, metres.
        max_shift: largest median shift along an axis, in diameters.
        max_turn: largest median turn about an axis, radians.
    """

    def __init__(self, diameter: float, max_shift: float, max_turn: float) -> None:
        self._diameter, self._max_shift, self._max_turn = diameter, max_shift, max_turn
        self._recent: deque[Tensor] = deque(maxlen=_RECENT)

    def add(self, estimate: Pose, reference: Pose) -> None:
        """One image: both poses are ``T_camera_object``, of equivalent ones of a symmetric object the nearest two."""
        side, depth, turn = parts(estimate, reference)
        to_object = estimate.rotation.double().mT
        self._recent.append(torch.cat([side, to_object @ side, turn, to_object @ turn, depth[None]]))

    @property
    def problem(self) -> str:
        """The bias in words; empty if there is none, or too few images to tell."""
        if len(self._recent) < _FEWEST:
            return ""
        medians = torch.stack(list(self._recent)).median(0).values
        side, turn, depth = float(medians[:6].abs().max()), float(medians[6:12].abs().max()), float(medians[12])
        if side > self._max_shift * self._diameter:
            return f"references differ from the valid estimates by {1e3 * side:.0f} mm, always the same way"
        if abs(depth) > _DEPTH:
            word = "far" if depth > 0 else "near"
            return f"references put the object {abs(depth):.1%} of the distance too {word}, beside the valid estimates"
        if turn > self._max_turn:
            degrees = math.degrees(turn)
            return f"references are turned by {degrees:.1f} deg beside the valid estimates, always the same way"
        return ""


def parts(estimate: Pose, reference: Pose) -> tuple[Tensor, Tensor, Tensor]:
    """The displacement of ``reference`` from ``estimate`` in camera axes, float64.

    Returns:
        (3,) metres across the ray to the object; () share of the distance along it; (3,) rotation vector.
    """
    before, after = (Pose(pose.rotation.double(), pose.translation.double()) for pose in (estimate, reference))
    delta = se3.local(before, after)
    distance = before.translation.norm()
    ray = before.translation / distance
    along = delta[:3] @ ray
    return delta[:3] - along * ray, along / distance, delta[3:]
