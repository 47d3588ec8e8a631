"""Whether the image shows an object without texture or its mirror image.

The mirror image has nearly the same outline, and light that fits its shades, so that an image of it bears a pose of the
object out. But what it shows it shows better: drawn in the same place and aligned, its lines and shades miss by less,
and its bends and steps in depth are those of the image.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from pnp_ros.alignment.aligner import Aligner, Alignment, start_at
from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.alignment.evidence import Evidence
from pnp_ros.alignment.rival import log_odds
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import CropError
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mirror_image import MirrorImage, mirror_image
from pnp_ros.pipeline.rival import AHEAD
from pnp_ros.rendering.materials import MESH, likely_colours
from pnp_ros.sources.edge_likeness import EdgeLikeness
from pnp_ros.types import Pose

_PLAINLY = 0.7  # share of the object shown from which the nearest of its reflections is the only one to be asked
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
        self._edges = EdgeLikeness(mesh), EdgeLikeness(mirrored.mesh)
        self._beside = _BESIDE[0] * mesh.diameter, _BESIDE[1]
        self._passed = False

    def forget(self) -> None:
        """The object was lost: what is found next may be another one."""
        self._passed = False

    def heard(self, image: np.ndarray, camera: Camera, one: Alignment, anew: bool = True) -> Evidence:
        """The evidence for an aligned pose: not supported where the mirror image explains the image better.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: of the image.
            one: the pose, and what the image says of it.
            anew: compare even where an earlier image has spoken for the object itself.
        """
        evidence = one.evidence
        if not evidence.supported or not math.isnan(evidence.texture) or (self._passed and not anew):
            return evidence
        lead = self.lead(image, camera, one)
        self._passed = lead < AHEAD
        if self._passed:
            return evidence
        return dataclasses.replace(evidence, supported=False, reason="the object's mirror image explains it better")

    def lead(self, image: np.ndarray, camera: Camera, one: Alignment) -> float:
        """Log odds of the mirror image against an aligned pose; minus infinity where the image shows nothing of it.

        Where little is shown of a pose, it is looked for in other turns, too. One that the image does not bear out
        counts: beside a pose that is borne out barely, in clutter, it may lead.
        """
        odds = -math.inf
        for turn in self._turns if one.evidence.explained < _PLAINLY else self._turns[:1]:
            self._aligner.forget()
            pose = Pose.from_matrix(one.estimate.pose.matrix() @ turn)
            other = self._aligner.compare(image, camera, start_at(pose, *self._beside))
            if bool(other.estimate.usable):
                odds = max(odds, self._odds(image, camera, other, one))
            if odds >= AHEAD:
                break
        return odds

    def _odds(self, image: np.ndarray, camera: Camera, other: Alignment, one: Alignment) -> float:
        odds = log_odds(other, one, camera)
        sides = [(edges, found.estimate.pose) for edges, found in zip(self._edges, (one, other))]
        try:
            mine, its = (edges.box(camera, pose) for edges, pose in sides)
        except CropError:
            return odds
        # from the same pixels: in a window of its own, the smaller of the two would count by a larger scale
        own, others = (edges.log_likelihoods(image, camera, [pose], mine.joined(its)) for edges, pose in sides)
        return odds + float(others - own)


def mirror_of(mesh: TriangleMesh, config: AlignmentConfig) -> Mirror | None:
    """That of an object without texture; None for any other, and for one that is its own mirror image."""
    if likely_colours(mesh) == (MESH,):
        return None
    mirrored = mirror_image(mesh)
    return None if mirrored is None else Mirror(mesh, mirrored, config)
