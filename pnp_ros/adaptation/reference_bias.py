"""What the references have wrong in the same way again and again, beside the poses that the images show.

One image tells little; many tell a constant error, hypothesis by hypothesis and axis by axis: a turn or a shift that is
constant for the camera (its mounting, its calibration to the reference) or for the object (its origin, its marker), the
depth, a delay, and references of which some are wrong and others right.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.geometry import se3
from pnp_ros.types import Pose

_RECENT, _FEWEST = 40, 10  # images that a bias is told from
_FEWEST_DEPTHS = 20  # the image tells the depth less well, and from one side always alike
_CONTRADICTED = 0.25  # share of them; of true references, one in twenty at most
_NEIGHBOURS_S = 1.5  # between the images before and after one, from which its motion is told
_SURE = 4.0  # standard deviations by which a delay is told


@dataclass(frozen=True, eq=False)
class Displacement:
    """A reference beside the pose that the image shows; of equivalent poses of a symmetric object the nearest two.

    Args:
        stamp_ns: of the image.
        seen: ``T_camera_object``, where the image shows the object.
        reference: ``T_camera_object``.
    """

    stamp_ns: int
    seen: Pose
    reference: Pose

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """What the reference is off, in camera axes, float64.

        Returns:
            (3,) metres across the ray to the object; () share of the distance along it; (3,) rotation vector.
        """
        return _across_and_along(se3.local(*map(_double, (self.seen, self.reference))), self.seen)

    def excess(self, config: AdaptationConfig, diameter: float) -> str:
        """By what the reference is further off than one image allows, in words; empty if it is not."""
        side, depth, turn = self.parts
        across, along, angle = float(side.norm()), abs(float(depth)), float(turn.norm())
        if (
            across <= config.max_disagreement * diameter
            and along <= config.max_depth_disagreement
            and angle <= config.max_turn_disagreement
        ):
            return ""
        return f"{1e3 * across:.0f} mm aside, {100 * along:.1f} % in depth and {math.degrees(angle):.0f} deg"


class ReferenceBias:
    """Gathers displacements.

    Args:
        config: limits.
        diameter: of the object, metres.
    """

    def __init__(self, config: AdaptationConfig, diameter: float) -> None:
        self._config, self._diameter = config, diameter
        self._recent: deque[Displacement] = deque(maxlen=_RECENT)

    def add(self, displacement: Displacement) -> None:
        """One more image, in order of time."""
        self._recent.append(displacement)

    @property
    def problem(self) -> str:
        """The bias in words; empty if there is none, or too few images to tell."""
        if len(self._recent) < _FEWEST:
            return ""
        hypotheses = (self._delayed, self._aside, self._in_depth, self._turned, self._contradicted)
        return next((found for told in hypotheses if (found := told())), "")

    def _medians(self) -> tuple[Tensor, float, Tensor]:
        """(6,) shifts and (6,) turns in camera and object axes; the depth between them."""
        rows = []
        for displacement in self._recent:
            side, depth, turn = displacement.parts
            to_object = displacement.seen.rotation.double().mT
            rows.append(torch.cat([side, to_object @ side, turn, to_object @ turn, depth[None]]))
        medians = torch.stack(rows).quantile(0.5, dim=0)
        return medians[:6], float(medians[12]), medians[6:12]

    def _aside(self) -> str:
        side = float(self._medians()[0].abs().max())
        if side <= self._config.max_bias * self._diameter:
            return ""
        return f"references are {1e3 * side:.0f} mm beside the object in the images, always the same way"

    def _in_depth(self) -> str:
        depth = self._medians()[1]
        if len(self._recent) < _FEWEST_DEPTHS or abs(depth) <= self._config.max_depth_bias:
            return ""
        return f"references put the object {abs(depth):.1%} of the distance too {'far' if depth > 0 else 'near'}"

    def _turned(self) -> str:
        turn = float(self._medians()[2].abs().max())
        if turn <= self._config.max_turn_bias:
            return ""
        return f"references are turned by {math.degrees(turn):.1f} deg beside the images, always the same way"

    def _contradicted(self) -> str:
        wrong = sum(bool(each.excess(self._config, self._diameter)) for each in self._recent)
        if wrong <= _CONTRADICTED * len(self._recent):
            return ""
        return f"{wrong} of {len(self._recent)} references contradict images that show the object elsewhere"

    def _delayed(self) -> str:
        """By regression of the displacements on the motion: what is late lies where the object was."""
        motion, off = self._motion()
        if len(motion) < _FEWEST:
            return ""
        motion, off = motion - motion.mean(0), off - off.mean(0)
        power = float((motion**2).sum())
        if power < 1e-12:
            return ""
        delay = -float((motion * off).sum()) / power
        rest = float(((off + delay * motion) ** 2).sum()) / max(off.size - 1, 1)
        if abs(delay) <= max(self._config.max_delay, _SURE * math.sqrt(rest / power)):
            return ""
        return f"references are {1e3 * abs(delay):.0f} ms {'late' if delay > 0 else 'early'}: they trail the motion"

    def _motion(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(N, 6) speeds, and what the references are off: metres across the view, and metres turned at the radius."""
        speeds: list[NDArray[np.float64]] = []
        offs: list[NDArray[np.float64]] = []
        seen = list(self._recent)
        for before, middle, after in zip(seen, seen[1:], seen[2:]):
            seconds = 1e-9 * (after.stamp_ns - before.stamp_ns)
            if not (0.0 < seconds < _NEIGHBOURS_S and before.stamp_ns < middle.stamp_ns < after.stamp_ns):
                continue
            way = se3.local(_double(before.seen), _double(after.seen)) / seconds
            for rows, (side, _, turn) in (
                (speeds, _across_and_along(way, middle.seen)),
                (offs, middle.parts),
            ):
                rows.append(torch.cat([side, 0.5 * self._diameter * turn]).numpy())
        return np.array(speeds).reshape(-1, 6), np.array(offs).reshape(-1, 6)


def _across_and_along(delta: Tensor, pose: Pose) -> tuple[Tensor, Tensor, Tensor]:
    """A (6,) [dt, dtheta] of the object at a pose, its translation across and, as a share, along the ray to it."""
    place = pose.translation.double()
    distance = place.norm()
    ray = place / distance
    along = delta[:3] @ ray
    return delta[:3] - along * ray, along / distance, delta[3:]


def _double(pose: Pose) -> Pose:
    return Pose(pose.rotation.double(), pose.translation.double())
