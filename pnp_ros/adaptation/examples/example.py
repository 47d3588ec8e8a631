"""What is kept of an image to learn from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.adaptation.examples.witness import Witness
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import Crop, box_from_pose, crop_from_box, crop_from_pose
from pnp_ros.detection.detector import letter_box
from pnp_ros.detection.detector_network import DetectorConfig
from pnp_ros.networks.keypoint_network import KeypointNetworkConfig
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.types import Pose

WINDOW = 208  # pixels of the stored window's side
WINDOW_MARGIN = 2.0  # window over the object's box: room to shift and turn the crops that are cut from it


@dataclass(frozen=True, eq=False)
class Example:
    """What is kept of an image.

    Args:
        stamp_ns: of the image.
        window: (S, S, 3) uint8 around the object.
        coverage: (S, S) uint8, how much of each of its pixels the object covers; what is before it is not known.
        camera: projects to pixels of the window.
        pose: where the object is, float32, the one of a symmetric object's equivalent poses that the network learns:
            where the image shows it, ``focal_error`` further.
        keypoints: (K, 2) window pixels.
        beside: (S', S', 3) uint8, a crop of another place of the image, without the object; None where there is no
            room.
        frame: (H, W, 3) uint8, the whole image as the detector sees it.
        box: (4,) x, y, width, height of the object in ``frame``, (x, y) the outer corner.
        to_window: (scale, x, y): a pixel of ``frame`` times scale plus (x, y) is one of the window, both counted from
            the outer edge.
        focal_error: share of the distance by which the object is further than the image shows it.
    """

    stamp_ns: int
    window: NDArray[np.uint8]
    coverage: NDArray[np.uint8]
    camera: Camera
    pose: Pose
    keypoints: Tensor
    beside: NDArray[np.uint8] | None
    frame: NDArray[np.uint8]
    box: Tensor
    to_window: tuple[float, float, float]
    focal_error: float = 0.0


class ExampleCutter:
    """Cuts examples of one object out of images.

    Args:
        package: of the object.
        witness: draws it.
    """

    def __init__(self, package: ObjectPackage, witness: Witness) -> None:
        self._package, self._witness = package, witness
        self._extent = torch.from_numpy(package.mesh.extreme_points)
        self._keypoints = torch.from_numpy(np.ascontiguousarray(package.keypoints, np.float32))
        detector = DetectorConfig.from_plain(package.detector)
        self._frame_size = detector.width, detector.height
        self._network = KeypointNetworkConfig.from_plain(package.network)

    def cut(self, stamp_ns: int, rgb: NDArray[np.uint8], camera: Camera, pose: Pose) -> Example:
        """The example of an image (H, W, 3) uint8 that shows the object at ``pose``.

        Raises:
            CropError: if the pose does not put the object into the image.
        """
        pose = self._package.symmetry.canonicalise(pose)
        pose = Pose(pose.rotation.float(), pose.translation.float())
        crop = crop_from_pose(rgb, camera, pose, self._extent, WINDOW, WINDOW_MARGIN)
        width, height = self._frame_size
        frame, fit = letter_box(rgb, width, height)
        x, y, box_width, box_height = box_from_pose(camera, pose, self._extent)
        box = [fit.scale * value for value in (x, y, box_width, box_height)]
        box[0], box[1] = box[0] + fit.offset_x, box[1] + fit.offset_y
        left, top, _ = crop.window
        scale = 1.0 / (fit.scale * crop.scale)
        corners = ((fit.offset_x, left), (fit.offset_y, top))
        shift = [-(offset / fit.scale + corner) / crop.scale for offset, corner in corners]
        return Example(
            stamp_ns,
            crop.image,
            self._witness.coverage(crop.camera, pose),
            crop.camera,
            pose,
            crop.camera.project(pose.transform(self._keypoints)),
            self._beside(rgb, camera, crop),
            frame,
            torch.tensor(box),
            (scale, shift[0], shift[1]),
        )

    def corrected(self, example: Example, focal_error: float) -> Example:
        """The example with another focal error."""
        factor = (1.0 + focal_error) / (1.0 + example.focal_error)
        pose = Pose(example.pose.rotation, factor * example.pose.translation)
        keypoints = example.camera.project(pose.transform(self._keypoints))
        return replace(example, pose=pose, keypoints=keypoints, focal_error=focal_error)

    def _beside(self, rgb: NDArray[np.uint8], camera: Camera, crop: Crop) -> NDArray[np.uint8] | None:
        """A crop as the network gets them, on the side of the object where there is most room."""
        left, top, side = crop.window
        length = side / WINDOW_MARGIN  # of the object's box
        x, y = left + side / 2, top + side / 2
        room = {(-1, 0): x, (1, 0): camera.width - x, (0, -1): y, (0, 1): camera.height - y}
        (dx, dy), space = max(room.items(), key=lambda item: item[1])
        margin = self._network.crop_margin
        away = length * (1.0 + margin) / 2.0
        if space < away + length / 4.0:
            return None
        box = Box(x + dx * away - length / 2, y + dy * away - length / 2, length, length)
        return crop_from_box(rgb, camera, box, self._network.crop_size, margin).image
