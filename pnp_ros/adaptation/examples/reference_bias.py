"""What the references have wrong in the same way again and again, beside the poses that the images show.

One image tells little; many tell a constant error, hypothesis by hypothesis and axis by axis: a turn or a shift that is
constant for the camera (its mounting, its calibration to the reference) or for the object (its origin, its marker), the
depth, a delay, and references of which some are wrong and others right.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.examples.focal_error import FocalError
from pnp_ros.geometry import se3
from pnp_ros.types import Pose

_RECENT, _FEWEST = 40, 10  # images that a bias is told from
_FEWEST_DEPTHS = 20  # the image tells the depth less well, and from one side always alike
_CONTRADICTED = 0.25  # share of them; of true references, one in twenty at most
_NEIGHBOURS_S = 1.5  # between the images before and after one, from which its motion is told
_SURE = 4.0  # standard deviations by which a delay is told
_OVER = 0.75  # of a bound: what was told is over below it, or an error at the bound would be learnt from by turns


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

    @functools.cached_property
    def parts(self) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
        """What the reference is off, in camera axes.

        Returns:
            (3,) metres across the ray to the object; share of the distance along it; (3,) rotation vector.
        """
        return _across_and_along(self.seen, self.reference, self.seen)

    def excess(self, config: AdaptationConfig, diameter: float) -> str:
        """By what the reference is further off than one image allows, in words; empty if it is not."""
        side, depth, turn = self.parts
        across, along, angle = float(np.linalg.norm(side)), abs(depth), float(np.linalg.norm(turn))
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
        self._moves: deque[_Move] = deque(maxlen=_RECENT - 2)
        self._focal = FocalError(config.max_depth_bias)
        self._problem, self._is_new = "", False
        self._factor = 1.0  # on all bounds

    def add(self, displacement: Displacement) -> None:
        """One more image, in order of time."""
        self._recent.append(displacement)
        self._focal.add(displacement.stamp_ns, float(displacement.seen.translation.norm()), displacement.parts[1])
        if len(self._recent) > 2 and (move := self._move(*list(self._recent)[-3:])):
            self._moves.append(move)
        self._is_new = len(self._recent) >= _FEWEST

    @property
    def problem(self) -> str:
        """The bias in words; empty if there is none, or too few images to tell."""
        if self._is_new:
            self._is_new, self._factor = False, _OVER if self._problem else 1.0
            hypotheses = (self._delayed, self._constant, self._contradicted)
            self._problem = next((found for told in hypotheses if (found := told())), "")
            if self._problem:
                self._focal.forget()
        return self._problem

    @property
    def focal_error(self) -> float:
        """See :attr:`FocalError.share`."""
        return self._focal.share

    def _constant(self) -> str:
        """By medians, axis by axis of camera and object."""
        rows = []
        for displacement in self._recent:
            side, depth, turn = displacement.parts
            to_object = displacement.seen.rotation.double().numpy().T
            rows.append([*side, *(to_object @ side), *turn, *(to_object @ turn), depth])
        medians = np.median(rows, axis=0)
        side, turn, depth = np.abs(medians[:6]).max(), np.abs(medians[6:12]).max(), float(medians[12])
        if side > self._factor * self._config.max_bias * self._diameter:
            return f"references are {1e3 * side:.0f} mm beside the object in the images, always the same way"
        if len(self._recent) >= _FEWEST_DEPTHS and abs(depth) > self._factor * self._config.max_depth_bias:
            return f"references put the object {abs(depth):.1%} of the distance too {'far' if depth > 0 else 'near'}"
        if turn > self._factor * self._config.max_turn_bias:
            return f"references are turned by {math.degrees(turn):.1f} deg beside the images, always the same way"
        return ""

    def _contradicted(self) -> str:
        wrong = sum(bool(each.excess(self._config, self._diameter)) for each in self._recent)
        if wrong <= self._factor * _CONTRADICTED * len(self._recent):
            return ""
        return f"{wrong} of {len(self._recent)} references contradict images that show the object elsewhere"

    def _delayed(self) -> str:
        """By regression of the displacements on the motion: what is late lies where the object was."""
        if len(self._moves) < _FEWEST:
            return ""
        motion, off = (np.array(rows) for rows in zip(*self._moves))
        motion, off = motion - motion.mean(0), off - off.mean(0)
        power = float((motion**2).sum())
        if power < 1e-12:
            return ""
        delay = -float((motion * off).sum()) / power
        rest = float(((off + delay * motion) ** 2).sum()) / max(off.size - 1, 1)
        if abs(delay) <= max(self._factor * self._config.max_delay, _SURE * math.sqrt(rest / power)):
            return ""
        return f"references are {1e3 * abs(delay):.0f} ms {'late' if delay > 0 else 'early'}: they trail the motion"

    def _move(self, before: Displacement, middle: Displacement, after: Displacement) -> _Move | None:
        seconds = 1e-9 * (after.stamp_ns - before.stamp_ns)
        if not (0.0 < seconds < _NEIGHBOURS_S and before.stamp_ns < middle.stamp_ns < after.stamp_ns):
            return None
        radius = 0.5 * self._diameter
        side, _, turn = _across_and_along(before.seen, after.seen, middle.seen)
        off_side, _, off_turn = middle.parts
        return np.array([*side, *(radius * turn)]) / seconds, np.array([*off_side, *(radius * off_turn)])


# (6,) speed, and (6,) what the reference is off: metres across the view, and metres turned at the radius
_Move = tuple[NDArray[np.float64], NDArray[np.float64]]


def _across_and_along(start: Pose, end: Pose, at: Pose) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """The way between two poses near ``at``, its translation across and, as a share, along the ray to it."""
    start, end = (Pose(each.rotation.double(), each.translation.double()) for each in (start, end))
    delta, place = se3.local(start, end).numpy(), at.translation.double().numpy()
    distance = float(np.linalg.norm(place))
    along = float(delta[:3] @ place) / distance
    return delta[:3] - along * place / distance, along / distance, delta[3:]
