"""Which images may be learnt from: those in which the object really is where the reference says."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.observation import Observation
from pnp_ros.adaptation.reference_bias import ReferenceBias, parts
from pnp_ros.adaptation.refinement import Refiner
from pnp_ros.adaptation.registration import Registrar, Registration, is_flat
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import Crop, CropError, box_from_pose, crop_from_box, crop_from_pose
from pnp_ros.detection.detector import letter_box
from pnp_ros.detection.detector_network import DetectorConfig
from pnp_ros.networks.keypoint_network import KeypointNetworkConfig
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.types import Pose

WINDOW = 208  # pixels of the stored window's side
WINDOW_MARGIN = 2.0  # window over the object's box: room to shift and turn the crops that are cut from it
_SMALLEST = 20.0  # pixels of the object's size in the image
_INSIDE = 0.7  # share of the object's box that must lie in the image
_LARGEST_TURN = math.radians(12.0)  # between a valid estimate and the reference
_DEPTH_FREEDOM = 2.0  # the image tells the distance less well than the place
_OWN_INTERVAL_NS = 200_000_000  # between poses of the estimator's own, whose refinement takes its time
_RECENT = 40  # references that a bias is told from
_FEWEST = 10
_SIZE_BIAS = 0.04  # median log of the object's size beside its rendering; a focal length is seldom so wrong


class Refusal(ValueError):
    """An image that is not learnt from; the message says why."""


@dataclass(frozen=True, eq=False)
class Example:
    """What is kept of an image.

    Args:
        stamp_ns: of the image.
        window: (S, S, 3) uint8 around the object.
        coverage: (S, S) uint8, how much of each of its pixels the object covers; what is before it is not known.
        camera: projects to pixels of the window.
        pose: of the reference, float32, the one of a symmetric object's equivalent poses that the network learns.
        keypoints: (K, 2) window pixels.
        beside: (S', S', 3) uint8, a crop of another place of the image, without the object; None where there is no
            room.
        frame: (H, W, 3) uint8, the whole image as the detector sees it.
        box: (4,) x, y, width, height of the object in ``frame``, (x, y) the outer corner.
        to_window: (scale, x, y): a pixel of ``frame`` times scale plus (x, y) is one of the window, both counted from
            the outer edge.
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


class Intake:
    """Examines images one by one; for one thread, since it renders.

    Args:
        package: of the object.
        config: limits.
        own: the references are the estimator's own poses: they must fit the image better, and are moved to where they
            fit it best, or there would be nothing to learn from them.
    """

    def __init__(self, package: ObjectPackage, config: AdaptationConfig, own: bool) -> None:
        self._package, self._config = package, config
        self._least = config.self_overlap if own else config.min_overlap
        self._extent = torch.from_numpy(package.mesh.extreme_points)
        self._registrar = Registrar(package.mesh)
        self._keypoints = torch.from_numpy(np.ascontiguousarray(package.keypoints, np.float32))
        detector = DetectorConfig.from_plain(package.detector)
        self._frame_size = detector.width, detector.height
        self._network = KeypointNetworkConfig.from_plain(package.network)
        self._refiner = Refiner(package.mesh) if own else None
        self._last_own_ns = -_OWN_INTERVAL_NS
        self._last: bytes = b""
        self._sizes: deque[float] = deque(maxlen=_RECENT)
        self._bias = ReferenceBias(package.diameter, config.max_bias, config.max_turn_bias)

    def examine(self, seen: Observation) -> Example:
        """What to keep of an image.

        Raises:
            Refusal: naming what is wrong.
        """
        pose = _checked(seen.reference)
        if self._refiner is not None and abs(seen.stamp_ns - self._last_own_ns) < _OWN_INTERVAL_NS:
            raise Refusal("the image is too soon after the last one that was kept")
        self._check_image(seen.rgb)
        self._check_place(seen, pose)
        self._check_estimate(seen, pose)
        self._check_fit(seen, pose)
        if problem := self.bias:
            raise Refusal(problem)
        if self._refiner is not None:
            pose = self._refiner.refine(seen.rgb, seen.camera, pose)[0]
            self._last_own_ns = seen.stamp_ns
        return self._example(seen, pose)

    @property
    def bias(self) -> str:
        """What all recent references have wrong, in words; empty if nothing."""
        if len(self._sizes) >= _FEWEST and abs(median := float(np.median(self._sizes))) > _SIZE_BIAS:
            word = "small" if median > 0 else "large"
            return f"references put the object too far or too near: it looks {abs(median):.0%} too {word} there"
        return self._bias.problem

    def _check_image(self, rgb: NDArray[np.uint8]) -> None:
        if is_flat(rgb):
            raise Refusal("the image shows nothing")
        sample = rgb[::8, ::8].tobytes()
        if sample == self._last:
            raise Refusal("the image is the same as the one before")
        self._last = sample

    def _check_place(self, seen: Observation, pose: Pose) -> None:
        try:
            x, y, width, height = box_from_pose(seen.camera, pose, self._extent)
        except CropError as error:
            raise Refusal(f"reference: {error}") from error
        if max(width, height) < _SMALLEST:
            raise Refusal(f"reference: the object is only {max(width, height):.0f} px large")
        across = min(x + width, seen.camera.width) - max(x, 0.0)
        down = min(y + height, seen.camera.height) - max(y, 0.0)
        if max(across, 0.0) * max(down, 0.0) < _INSIDE * width * height:
            raise Refusal("reference: the object is not wholly in the image")

    def _check_estimate(self, seen: Observation, pose: Pose) -> None:
        """A valid estimate, which the image confirmed, and the reference may differ a little, not always alike."""
        if seen.state is not ObjectState.VALID or seen.estimate is None:
            return
        estimate = Pose(seen.estimate.rotation.float(), seen.estimate.translation.float())
        nearest = self._package.symmetry.canonicalise(pose, estimate)
        self._bias.add(estimate, nearest)
        side, depth, turn = parts(estimate, nearest)
        across, angle = float(side.norm()) / self._package.diameter, float(turn.norm())
        along = abs(float(depth)) * float(estimate.translation.norm()) / self._package.diameter
        limit = self._config.max_disagreement
        if across > limit or along > _DEPTH_FREEDOM * limit or angle > _LARGEST_TURN:
            distance = math.hypot(across, along)
            raise Refusal(
                f"reference: {distance:.2f} diameters and {math.degrees(angle):.0f} deg from a valid estimate"
            )

    def _check_fit(self, seen: Observation, pose: Pose) -> None:
        found: Registration = self._registrar.register(seen.rgb, seen.camera, pose)
        if found.best < self._least:
            raise Refusal(f"the image does not show the object there: correlation {found.best:.2f}")
        if found.offset > self._config.max_offset:
            raise Refusal(f"reference: the image shows the object {found.offset:.0%} of its size beside it")
        self._sizes.append(math.log(found.size))

    def _example(self, seen: Observation, pose: Pose) -> Example:
        pose = self._package.symmetry.canonicalise(pose)
        pose = Pose(pose.rotation.float(), pose.translation.float())
        crop = crop_from_pose(seen.rgb, seen.camera, pose, self._extent, WINDOW, WINDOW_MARGIN)
        width, height = self._frame_size
        frame, fit = letter_box(seen.rgb, width, height)
        x, y, box_width, box_height = box_from_pose(seen.camera, pose, self._extent)
        box = [fit.scale * value for value in (x, y, box_width, box_height)]
        box[0], box[1] = box[0] + fit.offset_x, box[1] + fit.offset_y
        left, top, _ = crop.window
        scale = 1.0 / (fit.scale * crop.scale)
        corners = ((fit.offset_x, left), (fit.offset_y, top))
        shift = [-(offset / fit.scale + corner) / crop.scale for offset, corner in corners]
        return Example(
            seen.stamp_ns,
            crop.image,
            self._registrar.coverage(crop.image, crop.camera, pose),
            crop.camera,
            pose,
            crop.camera.project(pose.transform(self._keypoints)),
            self._beside(seen, crop),
            frame,
            torch.tensor(box),
            (scale, shift[0], shift[1]),
        )

    def _beside(self, seen: Observation, crop: Crop) -> NDArray[np.uint8] | None:
        """A crop as the network gets them, on the side of the object where there is most room."""
        left, top, side = crop.window
        length = side / WINDOW_MARGIN  # of the object's box
        x, y = left + side / 2, top + side / 2
        room = {(-1, 0): x, (1, 0): seen.camera.width - x, (0, -1): y, (0, 1): seen.camera.height - y}
        (dx, dy), space = max(room.items(), key=lambda item: item[1])
        margin = self._network.crop_margin
        away = length * (1.0 + margin) / 2.0
        if space < away + length / 4.0:
            return None
        box = (x + dx * away - length / 2, y + dy * away - length / 2, length, length)
        return crop_from_box(seen.rgb, seen.camera, box, self._network.crop_size, margin).image


def _checked(pose: Pose | None) -> Pose:
    """A reference as float32, if it is one at all."""
    if pose is None:
        raise Refusal("no reference at the time of the image")
    if not (bool(torch.isfinite(pose.rotation).all()) and bool(torch.isfinite(pose.translation).all())):
        raise Refusal("reference: not finite")
    rotation = pose.rotation.double()
    if float((rotation @ rotation.mT - torch.eye(3, dtype=torch.float64)).abs().max()) > 1e-3:
        raise Refusal("reference: its rotation is none")
    return Pose(pose.rotation.float(), pose.translation.float())
