"""What is remembered of one object from image to image, and where it is expected next."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.geometry.single_pose import difference, moved
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.types import Pose, PoseEstimate

INTERVAL = 1.0 / 30.0  # between images without stamps, seconds
PATIENCE = 1.0  # seconds for which a pose is remembered that no later image confirmed
# of an object in a hand, 1 sigma, about each axis: translation in diameters, rotation in radians
_SPEED = (1.2, 1.5)  # a second, where the speed is not known
_ACCELERATION = (8.0, 10.0)  # a second and second


class Track:
    """The last trusted pose of one object, and its speed.

    Of a symmetric object's equivalent poses it keeps choosing the one nearest to the last, so that the pose does not
    flip between images.

    Args:
        symmetry: of the object.
        diameter: of the object, metres.
    """

    def __init__(self, symmetry: Symmetry, diameter: float) -> None:
        self._symmetry, self._diameter = symmetry, diameter
        self._last: PoseEstimate | None = None
        self._stamp = 0.0
        self._velocity: NDArray[np.float64] | None = None  # (6,) [dt, dtheta] a second
        self._interval = INTERVAL  # between the last two poses

    @property
    def pose(self) -> Pose | None:
        """The last pose, or None when there is nothing to follow."""
        return self._last.pose if self._last is not None else None

    def choose(self, pose: Pose) -> Pose:
        """The equivalent of ``pose`` to report: nearest to the last one, else the canonical one."""
        return pose if self._symmetry.is_trivial else self._symmetry.canonicalise(pose, self.pose)

    def follow(self, estimate: PoseEstimate, stamp: float) -> None:
        """Go on from this pose, seen at this time in seconds."""
        elapsed = stamp - self._stamp
        if self._last is not None and 0.0 < elapsed <= PATIENCE:
            self._velocity, self._interval = difference(self._last.pose, estimate.pose) / elapsed, elapsed
        else:
            self._velocity, self._interval = None, INTERVAL
        self._last, self._stamp = estimate, stamp

    def correct(self, wrong: Pose, right: Pose) -> None:
        """What was taken to be at ``wrong`` in this image is at ``right``: so it was earlier, and it moved alike."""
        if self._last is not None:
            pose = self._last.pose @ (wrong.inverse() @ right)
            self._last = dataclasses.replace(self._last, pose=pose)

    def expect(self, stamp: float) -> Pose | None:
        """Where the object is at a time in seconds, by constant velocity; None: not known."""
        elapsed = stamp - self._stamp
        if self._last is None or not 0.0 <= elapsed <= PATIENCE:
            return None
        return self._last.pose if self._velocity is None else moved(self._last.pose, self._velocity * elapsed)

    def predict(self, stamp: float, doubt: float = 1.0) -> PoseEstimate | None:
        """Where the object is at a time, by constant velocity, and how far off that may be; None: not known.

        Args:
            stamp: seconds.
            doubt: how many times rougher than usual its motion may be.
        """
        pose, elapsed = self.expect(stamp), stamp - self._stamp
        if self._last is None or pose is None:
            return None
        sigma = [speed * elapsed for speed in _SPEED]
        if self._velocity is not None:
            sigma = [min(s, 0.5 * a * elapsed**2) for s, a in zip(sigma, _ACCELERATION)]
        spread = doubt**2 * np.array([(sigma[0] * self._diameter) ** 2] * 3 + [sigma[1] ** 2] * 3)
        covariance = self._last.covariance + torch.from_numpy(np.diag(spread)).to(self._last.covariance)
        return PoseEstimate.of(pose, covariance)

    def foresee(self) -> PoseEstimate | None:
        """:meth:`predict` for the next image, if it comes as long after the last as that came after the one before."""
        return self.predict(self._stamp + self._interval)

    def lose(self) -> None:
        """Forget the pose: the next image is searched."""
        self._last = self._velocity = None
