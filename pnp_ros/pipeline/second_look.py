"""A second look at an object without texture that was found anew: is it nearer, and is it its mirror image?

An outline that follows the crease between two sides bears a pose out, and so does that of the mirror image. The image
does not contradict either, but of the true pose it shows more: of its bends and steps in depth, and of its outline. A
crease lies within the outline, so that the object is nearer than the pose says.
"""

from __future__ import annotations

import math

import numpy as np

from pnp_ros.alignment.aligner import Aligner, Alignment, start_at
from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.cameras.camera import Camera
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mirror_image import mirror_image
from pnp_ros.pipeline.mirror import Mirror, MirroredPrint, mirror_of, refused
from pnp_ros.pipeline.odds import Odds
from pnp_ros.pipeline.rival import AHEAD
from pnp_ros.rendering.materials import MESH, likely_colours
from pnp_ros.types import Pose

_NEARER = 0.9  # of the distance: from there a pose that follows a crease finds the outline, and a right one itself
_BESIDE = (0.05, 0.1)  # diameters and rad: how far off that start may be
_FAR_AHEAD = 6.0  # log odds: a pose that follows a crease is behind by 7 to 37; less tells nothing about a right one


class SecondLook:
    """What else an image may show where an object was found. For one thread.

    Args:
        mesh: in metres.
        config: how poses are aligned.
    """

    def __init__(self, mesh: TriangleMesh, config: AlignmentConfig) -> None:
        self._odds = Odds(mesh, mesh)
        self._mirror: Mirror | None = mirror_of(mesh, config)
        self._beside = _BESIDE[0] * mesh.diameter, _BESIDE[1]
        self._passed = False

    def forget(self) -> None:
        """The object was lost: what is found next may be another one."""
        self._passed = False

    def judge(
        self, aligner: Aligner, image: np.ndarray, camera: Camera, one: Alignment, anew: bool = True
    ) -> Alignment:
        """The aligned pose, or the nearer one; not supported where the mirror image explains the image better.

        Args:
            aligner: that made it; it learns the colours of the nearer one.
            image: (H, W, 3) uint8 RGB.
            camera: of the image.
            one: the pose, and what the image says of it.
            anew: look even where an earlier image has spoken for the object.
        """
        if not one.evidence.supported or not math.isnan(one.evidence.texture) or (self._passed and not anew):
            return one
        first, nearer = one.estimate.pose, self.nearer(aligner, image, camera, one)
        if nearer is not None:
            aligner.forget()  # what it learnt of a wrong pose
            one = aligner.align(image, camera, start_at(nearer, *self._beside))
        if not one.evidence.supported:
            return one
        starts = [first] if nearer is None else [first, one.estimate.pose]  # the mirror image may be beside either
        mirror = self._mirror
        self._passed = mirror is None or all(mirror.lead(image, camera, one, start) < AHEAD for start in starts)
        return one if self._passed else refused(one)

    def nearer(self, aligner: Aligner, image: np.ndarray, camera: Camera, one: Alignment) -> Pose | None:
        """A nearer pose that the image bears out better; None where there is none."""
        pose = one.estimate.pose
        start = start_at(Pose(pose.rotation, _NEARER * pose.translation), *self._beside)
        other = aligner.compare(image, camera, start, fresh=True)
        if not other.evidence.supported or self._odds(image, camera, other, one) < _FAR_AHEAD:
            return None
        return other.estimate.pose


def second_look_of(mesh: TriangleMesh, config: AlignmentConfig) -> SecondLook | MirroredPrint | None:
    """That of an object with texture or without; None for one with texture and the shape of its mirror image."""
    if likely_colours(mesh) != (MESH,):
        return SecondLook(mesh, config)
    other = mirror_image(mesh)
    return None if other is None else MirroredPrint(mesh, other, config)
