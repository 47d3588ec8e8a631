"""Whether the image shows an object or its mirror image.

The mirror image has nearly the same outline, and light that fits its shades, so that an image of it bears a pose of an
object without texture out. But what it shows it shows better: drawn in the same place and aligned, its lines and shades
miss by less, and its bends and steps in depth are those of the image. Of a print that is nearly its own mirror image it
shows half, and of the mirror image's all.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from pnp_ros.alignment.aligner import Aligner, Alignment, start_at
from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.cameras.camera import Camera
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mirror_image import MirrorImage, mirror_image
from pnp_ros.pipeline.odds import Odds
from pnp_ros.pipeline.rival import AHEAD
from pnp_ros.types import Pose

_PLAINLY = 0.7  # share of the object shown from which few reflections are asked: of a print none, else the nearest
_BESIDE = (0.05, 0.1)  # diameters and rad: how far from an aligned pose its mirror image's may be


class Mirror:
    """The mirror image of one object as a rival of its poses. For one thread.

    Args:
        mesh: in metres.
        mirrored: its mirror image.
        config: how poses are aligned.
    """

    def __init__(self, mesh: TriangleMesh, mirrored: MirrorImage, config: AlignmentConfig) -> None:
        self._aligner, self._turns = Aligner(mirrored.mesh, config), mirrored.turns
        self._odds = Odds(mesh, mirrored.mesh)
        self._beside = _BESIDE[0] * mesh.diameter, _BESIDE[1]

    def lead(self, image: np.ndarray, camera: Camera, one: Alignment, start: Pose | None = None) -> float:
        """Log odds of the mirror image against an aligned pose; minus infinity where the image shows nothing of it.

        Where little is shown of a pose, it is looked for in other turns, too. One that the image does not bear out
        counts: beside a pose that is borne out barely, in clutter, it may lead.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: of the image.
            one: the pose, and what the image says of it.
            start: where the mirror image is looked for; None: at the pose.
        """
        odds, start = -math.inf, one.estimate.pose if start is None else start
        for turn in self._turns if one.evidence.explained < _PLAINLY else self._turns[:1]:
            pose = Pose.from_matrix(start.matrix() @ turn)
            other = self._aligner.compare(image, camera, start_at(pose, *self._beside))
            if bool(other.estimate.usable):
                odds = max(odds, self._odds(image, camera, other, one))
            if odds >= AHEAD:
                break
        return odds


class MirroredPrint:
    """A second look at an object with texture that was found anew: is it its mirror image? For one thread.

    Args:
        mesh: in metres.
        mirrored: its mirror image.
        config: how poses are aligned.
    """

    def __init__(self, mesh: TriangleMesh, mirrored: MirrorImage, config: AlignmentConfig) -> None:
        self._aligner = Aligner(mirrored.mesh, config)
        self._beside = _BESIDE[0] * mesh.diameter, _BESIDE[1]

    def forget(self) -> None:
        """The object was lost: nothing is known of it."""

    def judge(
        self, aligner: Aligner, image: np.ndarray, camera: Camera, one: Alignment, anew: bool = True
    ) -> Alignment:
        """The aligned pose; not supported where half of it is shown, and more of its mirror image.

        Arguments as :meth:`pnp_ros.pipeline.second_look.SecondLook.judge`.
        """
        seen = one.evidence
        if not anew or not seen.supported or math.isnan(seen.texture) or seen.explained >= _PLAINLY:
            return one
        other = self._aligner.compare(image, camera, start_at(one.estimate.pose, *self._beside)).evidence
        return refused(one) if other.supported and other.explained > seen.explained else one


def refused(one: Alignment) -> Alignment:
    """A pose that the image does not support, as it shows the object's mirror image."""
    reason = "the object's mirror image explains it better"
    return dataclasses.replace(one, evidence=dataclasses.replace(one.evidence, supported=False, reason=reason))


def mirror_of(mesh: TriangleMesh, config: AlignmentConfig) -> Mirror | None:
    """None for an object that is its own mirror image."""
    mirrored = mirror_image(mesh)
    return None if mirrored is None else Mirror(mesh, mirrored, config)
