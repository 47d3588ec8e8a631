"""Whether an image shows the object where a pose says: the rendered object is sought around its place.

The correlation at the pose alone does not tell a good pose from a bad one where light, blur and wear lower it for all.
Where in its neighbourhood, and at which size, the rendering fits best does: only a true pose is the best place itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.adaptation.relative_size import relative_size
from pnp_ros.adaptation.template import Template
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import crop_from_pose
from pnp_ros.evaluation.overlap import MIN_PIXELS
from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose

_SIDE = 160  # pixels of the window
_MARGIN = 2.0  # window over the object's box: it is sought half its size to each side
_SCALES = (0.85, 0.92, 1.0, 1.09, 1.18)
_NEAR = 6  # pixels of a window that an image may show the object beside a reference that is right
_FLAT = 2.0  # standard deviation of 255 below which an image shows nothing


@dataclass(frozen=True)
class Registration:
    """How the rendered object fits into the image.

    Args:
        overlap: normalised cross-correlation at the pose, -1 to 1; 0 where the image is flat.
        best: the highest one nearby.
        offset: from the pose's place to the best one, as a share of the object's size in the image.
        size: of the object in the image, relative to that at the pose.
    """

    overlap: float
    best: float
    offset: float
    size: float


class Registrar:
    """Renders one object and seeks it; owns a renderer, to be used by one thread.

    Args:
        mesh: in metres.
    """

    def __init__(self, mesh: TriangleMesh) -> None:
        self._renderer = Renderer()
        self._mesh = self._renderer.add(mesh)
        self._extent = torch.from_numpy(mesh.extreme_points)

    def register(self, rgb: NDArray[np.uint8], camera: Camera, pose: Pose) -> Registration:
        """Seek the object in an image (H, W, 3) uint8 around ``pose``.

        Raises:
            CropError: if the pose does not put the object into the image.
        """
        pose = Pose(pose.rotation.float(), pose.translation.float())
        crop = crop_from_pose(rgb, camera, pose, self._extent, _SIDE, _MARGIN)
        if float(crop.image.std()) < _FLAT:
            return Registration(0.0, 0.0, 0.0, 1.0)
        rendering = self._renderer.render([(self._mesh, pose)], crop.camera)
        return seek(crop.image, rendering.rgb, rendering.mask > 0)

    def coverage(self, window: NDArray[np.uint8], camera: Camera, pose: Pose) -> NDArray[np.uint8]:
        """(S, S) how much of each pixel of a window (S, S, 3) the object covers, 255 is all of it.

        It is moved by the few pixels by which a slightly wrong calibration puts the rendering beside the object.

        Args:
            window: of an image in which the object was found to be at the pose.
            camera: projects to pixels of the window.
            pose: float32.
        """
        rendering = self._renderer.render([(self._mesh, pose)], camera)
        if not rendering.mask.any():
            return rendering.coverage
        template = Template.cut(rendering.rgb, rendering.mask > 0)
        scene = np.pad(window, ((_NEAR, _NEAR), (_NEAR, _NEAR), (0, 0)), mode="edge").astype(np.float32)
        (left, top), (width, height) = template.corner, template.size
        scores = template.correlations(scene[top : top + height + 2 * _NEAR, left : left + width + 2 * _NEAR])
        y, x = np.unravel_index(int(scores.argmax()), scores.shape)
        move = np.array([[1.0, 0.0, x - _NEAR], [0.0, 1.0, y - _NEAR]])
        return np.asarray(cv2.warpAffine(rendering.coverage, move, window.shape[1::-1]), np.uint8)


def seek(window: NDArray[np.uint8], rendering: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Registration:
    """Seek the masked part of ``rendering`` in ``window``, both (S, S, 3), at several sizes."""
    if int(mask.sum()) < MIN_PIXELS:
        return Registration(0.0, 0.0, 0.0, 1.0)
    template = Template.cut(rendering, mask)
    scene = window.astype(np.float32)
    overlap, best, offset = 0.0, -2.0, 0.0
    for scale in _SCALES:
        scaled = template.scaled(scale)
        scores = scaled.correlations(scene)
        if not scores.size:
            continue
        corner = np.array(scaled.corner).clip(0, np.array(scores.shape[::-1]) - 1)
        if scale == 1.0:
            overlap = float(scores[corner[1], corner[0]])
        y, x = np.unravel_index(int(scores.argmax()), scores.shape)
        if scores[y, x] > best:
            best = float(scores[y, x])
            offset = float(np.hypot(x - corner[0], y - corner[1])) / max(template.size)
    return Registration(overlap, best, offset, relative_size(window, rendering, mask))


def is_flat(rgb: NDArray[np.uint8]) -> bool:
    """Whether an image shows nothing: a covered lens, a dead sensor."""
    return float(rgb[::4, ::4].std()) < _FLAT


def displacement(a: Pose, b: Pose) -> tuple[Tensor, float]:
    """(3,) metres from the position of ``a`` to that of ``b``, and the angle between them in radians."""
    turn = so3.angle_between(a.rotation.double(), b.rotation.double())
    return b.translation.double() - a.translation.double(), float(turn)
