"""What an image itself says of a pose: where the object really is there, and how well it looks like it.

A reference only says about where the object is. The pose aligned with the image is right to millimetres, so it is what
a reference is held against, and what is learnt.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.alignment.aligner import Aligner
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import CropError, crop_from_pose
from pnp_ros.evaluation.overlap import normalised_cross_correlation
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.types import Pose, PoseEstimate, SolveStatus

_SIDE, _MARGIN = 120, 1.2  # pixels of the window that is correlated, and its size over the object's box
_SMOOTH = 1.5  # pixels of it: a camera is less sharp than a rendering
# 1 sigma of a reference: diameters across the view, share of the distance along it, rad. The image tells least there:
# were the reference taken to be better there, a wrong depth would be learnt in part.
_ACROSS, _ALONG, _TURN = 0.045, 0.045, 0.04
_TEXTURED = 6.0  # standard deviation of the object's grey from which it correlates
_SUPERSAMPLING = 3


@dataclass(frozen=True, eq=False)
class Sight:
    """What was seen.

    Args:
        pose: ``T_camera_object``, float32, where the image shows the object.
        overlap: correlation of image and mesh there, -1 to 1; of an object of one colour, the share of its outline
            that is found.
    """

    pose: Pose
    overlap: float


class Witness:
    """Looks at images of one object; for one thread.

    Args:
        mesh: in metres.
    """

    def __init__(self, mesh: TriangleMesh) -> None:
        self._aligner, self._rays = Aligner(mesh), RayMesh(mesh)
        self._extent = torch.from_numpy(mesh.extreme_points)
        self._across = _ACROSS * mesh.diameter

    def look(self, rgb: NDArray[np.uint8], camera: Camera, pose: Pose) -> Sight | None:
        """Where the image (H, W, 3) uint8 shows the object near ``pose``; None where it shows nothing of it."""
        sigmas = [self._across] * 2 + [_ALONG * float(pose.translation[2])] + [_TURN] * 3
        found = self._aligner.align(rgb, camera, PoseEstimate.of(pose, np.diag(np.square(sigmas))))
        if int(found.estimate.status) != SolveStatus.CONVERGED:
            return None
        return Sight(found.estimate.pose, self.overlap(rgb, camera, found.estimate.pose))

    def overlap(self, rgb: NDArray[np.uint8], camera: Camera, pose: Pose) -> float:
        """How well the image fits the object at a pose, as in :class:`Sight`; 0 where the pose is outside of it."""
        pose = Pose(pose.rotation.float(), pose.translation.float())
        try:
            crop = crop_from_pose(rgb, camera, pose, self._extent, _SIDE, _MARGIN)
        except CropError:
            return 0.0
        view = self._rays.view(pose, crop.camera, with_grey=True)
        inside = view.mask > 0
        assert view.grey is not None
        if not inside.any() or float(view.grey[inside].std()) < _TEXTURED:
            contour = self._aligner.judge(rgb, camera, pose).contour
            return 0.0 if np.isnan(contour) else contour
        grey = np.where(inside, view.grey, view.grey[inside].mean()).round().astype(np.uint8)
        image, drawn = (cv2.GaussianBlur(each, (0, 0), _SMOOTH) for each in (crop.image, cv2.merge([grey] * 3)))
        shown = np.asarray(image, np.uint8), np.asarray(drawn, np.uint8)
        return normalised_cross_correlation(*shown, view.mask, per_channel=False)

    def coverage(self, camera: Camera, pose: Pose) -> NDArray[np.uint8]:
        """(H, W) how much of each pixel of a camera's image the object covers at a pose, 255 is all of it."""
        width, height = camera.width, camera.height
        fine = camera.crop(0, 0, width, height, _SUPERSAMPLING * width, _SUPERSAMPLING * height)
        mask = 255 * self._rays.view(pose, fine).mask
        return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
