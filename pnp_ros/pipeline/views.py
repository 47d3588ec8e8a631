"""Poses of an untextured object in places where its networks see it: what they are not sure of, its edges may tell.

A network that has learnt for minutes knows where the object is, and about where its keypoints are; of the side that it
shows it is often wrong. Templates of the edges know the sides, but not the object. So all views that a place may show
are compared by both: the edges of the whole surface, and the keypoints. A pose that is found is compared with other
sides, too: a dark silhouette fits several. Half turns have about its outline; what else may be there, templates tell.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pnp_ros.alignment.aligner import Alignment
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import CropError, box_from_pose
from pnp_ros.geometry.single_pose import difference
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.objects.turns import half_turns
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.pipeline.rival import AHEAD
from pnp_ros.pipeline.solving import solve
from pnp_ros.rendering.materials import MESH, likely_colours
from pnp_ros.sources.edge_likeness import EdgeLikeness
from pnp_ros.sources.source import Source
from pnp_ros.sources.templates import TemplateSource
from pnp_ros.types import Correspondences, Pose

_PLACES, _SAME = 2, 0.5  # looked at in an image, and intersection over union from which on two are one
_GUESSES, _RIVALS = 4, 3  # views that are aligned, and beside a pose that was found
_PLAINLY = 0.9  # share of the object shown from which a pose is not compared with other views
_APART = 0.5  # rad, between poses that show other sides
_SCALE = 3.0  # standard deviations of a keypoint from which it speaks less


class Views:
    """All sides of one object, compared with a place of an image. For one thread.

    Args:
        mesh: in metres.
        symmetry: of the object.
        templates: of it; its edges are drawn when a place is first looked at, which takes seconds.
    """

    def __init__(self, mesh: TriangleMesh, symmetry: Symmetry, templates: TemplateSource) -> None:
        self._templates, self._edges, self._symmetry = templates, EdgeLikeness(mesh), symmetry
        self._extent, self._half_turns = torch.from_numpy(mesh.extreme_points), half_turns(mesh)

    def guesses(
        self, image: np.ndarray, camera: Camera, looked: Sequence[tuple[Box, ObjectEstimate]]
    ) -> list[tuple[Pose, Box]]:
        """The likeliest views, each with its place, where the networks see the object best.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: of the image.
            looked: places, and what the networks made of them.
        """
        places: list[tuple[Box, ObjectEstimate]] = []
        for box, found in sorted(looked, key=lambda each: -each[1].score):
            if all(box.overlap(other) < _SAME for other, _ in places):
                places.append((box, found))
        told = [
            (likely, pose, box)
            for box, found in places[:_PLACES]
            for likely, pose in self.poses(image, camera, box, found.correspondences)
        ]
        told.sort(key=lambda each: -each[0])
        return [(pose, box) for _, pose, box in told[:_GUESSES]]

    def others(self, image: np.ndarray, camera: Camera, pose: Pose) -> list[Pose]:
        """Other sides in the place of a pose: those with about its outline, and the likeliest views."""
        try:
            box = box_from_pose(camera, pose, self._extent)
        except CropError:
            return []
        likely = [other for _, other in self.poses(image, camera, box) if self.apart(other, pose)]
        return [*self._turned(pose), *likely[:_RIVALS]]

    def _turned(self, pose: Pose) -> list[Pose]:
        """A pose after each half turn that shows another side."""
        kept: list[Pose] = []
        for turn in self._half_turns:
            other = Pose.from_matrix(pose.matrix() @ turn)
            if all(self.apart(other, each) for each in (pose, *kept)):
                kept.append(other)
        return kept

    def apart(self, one: Pose, other: Pose) -> bool:
        """Whether two poses show the object from other sides."""
        return float(np.linalg.norm(difference(other, self._symmetry.canonicalise(one, other))[3:])) > _APART

    def poses(
        self, image: np.ndarray, camera: Camera, box: Box, keypoints: Correspondences | None = None
    ) -> list[tuple[float, Pose]]:
        """Log-likelihoods, but for a constant, and poses that a place may show, right to some ten degrees; best first.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: of the image.
            box: of the place.
            keypoints: that the networks see there.
        """
        try:
            sightings = self._templates.look_for_all(image, box)
        except CropError:
            return []
        solved = [solve("robust", sighting, camera, None, _SCALE) for sighting in sightings]
        poses = [estimate.pose for estimate in solved if bool(estimate.usable)]
        if not poses:
            return []
        likely = torch.cat([self._edges.log_likelihoods(image, camera, [pose]) for pose in poses])
        if keypoints is not None:
            likely = likely + torch.stack([_agreement(keypoints, camera, pose) for pose in poses])
        order = likely.argsort(descending=True).tolist()
        return [(float(likely[k]), poses[k]) for k in order]

    def likeliest(
        self,
        image: np.ndarray,
        camera: Camera,
        found: ObjectEstimate,
        guess: Callable[[Pose], tuple[ObjectEstimate, Alignment | None]],
    ) -> tuple[ObjectEstimate, Alignment | None]:
        """A valid pose, or a view from another side in its place if the image's edges are likelier there.

        Uncertain where they are as likely. A pose of which nearly all is shown is not compared.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: of the image.
            found: the pose.
            guess: aligns and judges a view.

        Returns:
            With it the alignment of another view, if it is one.
        """
        if found.estimate is None or (found.explained or 0.0) >= _PLAINLY:
            return found, None
        pose, poses, told = found.estimate.pose, [], []
        for other in self.others(image, camera, pose):
            rival = guess(other)
            estimate = rival[0].estimate if rival[0].state is ObjectState.VALID else None
            if estimate is not None and self.apart(estimate.pose, pose):
                poses.append(estimate.pose)
                told.append(rival)
        if not poses:
            return found, None
        try:
            where = functools.reduce(Box.joined, (self._edges.box(camera, each) for each in (pose, *poses)))
        except CropError:
            return found, None
        odds = self.likelihoods(image, camera, [pose, *poses], where)
        best = int(odds[1:].argmax())
        ahead = float(odds[1 + best] - odds[0])
        if ahead > AHEAD:
            return told[best]
        if ahead > -AHEAD:
            reason = "ambiguous: another view of the object fits the image as well"
            return dataclasses.replace(found, state=ObjectState.UNCERTAIN, reason=reason), None
        return found, None

    def likelihoods(self, image: np.ndarray, camera: Camera, poses: Sequence[Pose], where: Box) -> Tensor:
        """(K,) float64 of poses by the edges of a part of the image, but for a constant.

        In a window of its own, the smaller of two poses would count by a larger scale.
        """
        return self._edges.log_likelihoods(image, camera, poses, where)


def _agreement(keypoints: Correspondences, camera: Camera, pose: Pose) -> Tensor:
    missed = camera.project(pose.transform(keypoints.object_points)) - keypoints.image_points
    return -(keypoints.whiten(missed).square().sum(-1) / _SCALE**2).log1p().sum().double().nan_to_num(-1e3)


def views_of(package: ObjectPackage, sources: Sequence[Source]) -> Views | None:
    """Those of an object without texture that is searched for by these sources; None for any other."""
    if not sources or likely_colours(package.mesh) == (MESH,):
        return None
    own = next((source for source in sources if isinstance(source, TemplateSource)), None)
    return Views(package.mesh, package.symmetry, own or TemplateSource(package.mesh, package.views))
