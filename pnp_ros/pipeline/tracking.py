"""What is remembered of one object from image to image."""

from __future__ import annotations

from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.types import Pose


class Track:
    """The last trusted pose of one object.

    Of a symmetric object's equivalent poses it keeps choosing the one nearest to the last, so that the pose does not
    flip between images.
    """

    def __init__(self, symmetry: Symmetry) -> None:
        self._symmetry = symmetry
        self._pose: Pose | None = None

    @property
    def pose(self) -> Pose | None:
        """The last pose, or None when there is nothing to follow."""
        return self._pose

    def choose(self, pose: Pose) -> Pose:
        """The equivalent of ``pose`` to report: nearest to the last one, else the canonical one."""
        return pose if self._symmetry.is_trivial else self._symmetry.canonicalise(pose, self._pose)

    def follow(self, pose: Pose) -> None:
        """Go on from this pose."""
        self._pose = pose

    def lose(self) -> None:
        """Forget the pose: the next image is searched."""
        self._pose = None
