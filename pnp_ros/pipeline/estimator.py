"""Image to pose: detect or follow, crop, find keypoints, solve, crop again, judge."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import Box, Crop, CropError, box_from_pose, crop_from_box, crop_from_pose
from pnp_ros.detection.detector import Detection, image_tensor
from pnp_ros.networks.keypoint_network import KeypointPrediction
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.calibration import CovarianceCalibration, relative_sigma
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.gates import judge
from pnp_ros.pipeline.models import Models, load_models
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.pipeline.tracking import Track
from pnp_ros.solvers.classical import Classical
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.types import Correspondences, Pose

_RANK = {ObjectState.VALID: 2, ObjectState.UNCERTAIN: 1, ObjectState.LOST: 0}


class PoseEstimator:
    """Estimates the pose of one object, image after image.

    The same images in the same order give the same bytes.

    Args:
        package: with weights.
        config: thresholds.
        device: of the networks; the solver runs on the CPU for a single image.

    Raises:
        ObjectPackageError: if the package has no weights, or they do not fit.
    """

    def __init__(
        self, package: ObjectPackage, config: EstimatorConfig | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.package = package
        self.config = config or EstimatorConfig()
        self._device = torch.device(device)
        self._next: deque[Models] = deque(maxlen=1)  # taken up by the next image
        self._adopt(load_models(package, self._device))
        self._keypoints = torch.from_numpy(np.ascontiguousarray(package.keypoints, np.float32))
        self._extent = torch.from_numpy(package.mesh.extreme_points)
        self._track = Track(package.symmetry)
        self._latency: dict[str, float] = {}

    def reset(self) -> None:
        """Forget the last pose: the next image is searched."""
        self._track.lose()

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return self._device

    @property
    def models(self) -> Models:
        """The weights of the last image."""
        return Models(self._network, self._detector)

    def use(self, models: Models) -> None:
        """Go on with other weights of the same object from the next image on; the track is kept.

        Takes no time, and may be called by any thread, also during :meth:`estimate`.

        Args:
            models: on the estimator's device, by :func:`pnp_ros.pipeline.models.load_models`.

        Raises:
            ValueError: if they find another number of keypoints.
        """
        if models.network.config.num_keypoints != len(self.package.keypoints):
            raise ValueError(
                f"models: expected {len(self.package.keypoints)} keypoints, got {models.network.config.num_keypoints}"
            )
        self._next.append(models)

    def _adopt(self, models: Models) -> None:
        self._network, self._detector = models.network, models.detector
        learnt = models.network.config
        self._calibration = CovarianceCalibration(learnt.covariance_scale, learnt.covariance_growth)

    def estimate(
        self, image: np.ndarray, camera: Camera, stamp: float | None = None, roi: Box | None = None
    ) -> list[ObjectEstimate]:
        """Estimate the object's pose in one image.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: of the image, with its width and height.
            stamp: seconds; for the caller's own use, the estimate does not depend on it.
            roi: (x, y, width, height) in image pixels where an external detector saw the object: looked at instead
                of searching or following.

        Returns:
            One estimate, in the state lost if the object was not found.

        Raises:
            ValueError: if the image is not (H, W, 3) uint8 or has another size than the camera.
        """
        _check_image(image, camera)
        if self._next:
            self._adopt(self._next.popleft())
        begin = time.perf_counter()
        self._latency = {"detect": 0.0, "crop": 0.0, "network": 0.0, "solve": 0.0}
        best = self._find(image, camera, roi)
        if best.estimate is not None and best.state is not ObjectState.LOST:
            best = dataclasses.replace(best, box=_box_or(best.box, camera, best.estimate.pose, self._extent))
        if best.state is ObjectState.VALID and best.estimate is not None:
            self._track.follow(best.estimate.pose)
        elif best.state is ObjectState.LOST:
            self._track.lose()
        self._latency["total"] = time.perf_counter() - begin
        return [dataclasses.replace(best, latency=dict(self._latency))]

    def _find(self, image: np.ndarray, camera: Camera, roi: Box | None) -> ObjectEstimate:
        tried: list[ObjectEstimate] = []
        if roi is not None:
            return self._look(image, camera, roi)
        if self.config.track and self._track.pose is not None:
            tried.append(self._follow(image, camera, self._track.pose))
            if tried[0].state is ObjectState.VALID:
                return tried[0]
        with self._timed("detect"):
            detections = self._detector.detect(image, self.config.max_candidates)
        for detection in detections:
            if detection.score < self.config.detector_threshold:
                break
            tried.append(self._look(image, camera, detection.box))
            if tried[-1].state is ObjectState.VALID:
                return tried[-1]
        if not tried:
            return self._nothing(detections)
        return max(tried, key=lambda item: (_RANK[item.state], item.score))  # the first of equals

    def _nothing(self, detections: list[Detection]) -> ObjectEstimate:
        score = detections[0].score if detections else 0.0
        reason = f"object not found: best detector score {score:.2f} is below {self.config.detector_threshold:.2f}"
        return ObjectEstimate(self.package.name, ObjectState.LOST, None, None, None, score, reason)

    def _look(self, image: np.ndarray, camera: Camera, box: Box) -> ObjectEstimate:
        """Start from a box."""
        config = self._network.config
        try:
            with self._timed("crop"):
                crop = crop_from_box(image, camera, box, config.crop_size, config.crop_margin)
        except CropError as error:
            return self._lost(str(error), box)
        return self._settle(image, camera, crop, None)

    def _follow(self, image: np.ndarray, camera: Camera, pose: Pose) -> ObjectEstimate:
        """Start from a known pose."""
        crop = self._crop_around(image, camera, pose)
        return self._settle(image, camera, crop, pose) if isinstance(crop, Crop) else self._lost(crop, None)

    def _settle(self, image: np.ndarray, camera: Camera, crop: Crop, pose: Pose | None) -> ObjectEstimate:
        """Crop again around each pose that is found, until a crop gives the pose that asks for that very crop.

        The network is best where the object fills the crop as in training. A pose that does not settle is a fit to
        something that hides the object, and not to be trusted.
        """
        found = self._solve(crop, camera, pose)
        for _ in range(self.config.max_passes - 1):
            if found.estimate is None or self._fits(crop, camera, found.estimate.pose):
                return found
            pose = found.estimate.pose
            again = self._crop_around(image, camera, pose)
            if not isinstance(again, Crop):
                return self._lost(again, found.box)
            crop = again
            found = self._solve(crop, camera, pose)
        if found.estimate is None or self._fits(crop, camera, found.estimate.pose):
            return found
        reason = f"the pose does not settle within {self.config.max_passes} passes"
        return dataclasses.replace(found, state=ObjectState.UNCERTAIN, reason=found.reason or reason)

    def _crop_around(self, image: np.ndarray, camera: Camera, pose: Pose) -> Crop | str:
        """The crop around a pose, or why there is none."""
        config = self._network.config
        try:
            with self._timed("crop"):
                return crop_from_pose(image, camera, pose, self._extent, config.crop_size, config.crop_margin)
        except CropError as error:
            return str(error)

    def _fits(self, crop: Crop, camera: Camera, pose: Pose) -> bool:
        """Whether the crop around ``pose`` would be nearly the same as ``crop``."""
        try:
            x, y, width, height = box_from_pose(camera, pose, self._extent)
        except CropError:
            return False
        left, top, side = crop.window
        shift = max(abs(x + width / 2 - left - side / 2), abs(y + height / 2 - top - side / 2)) / side
        growth = abs(max(width, height) * self._network.config.crop_margin / side - 1.0)
        return max(shift, growth) <= self.config.settled

    def _solve(self, crop: Crop, camera: Camera, start: Pose | None) -> ObjectEstimate:
        """Keypoints of one crop to a judged pose."""
        with self._timed("network"):
            prediction = self._network.predict(image_tensor(crop.image, self._device))
            correspondences = self._correspondences(crop, prediction)
            presence = float(prediction.presence[0])
        with self._timed("solve"):
            loss = Cauchy(self.config.robust_scale)
            solved = solve_pnp(
                correspondences, camera, init=start if start is not None else Classical("ransac"), loss=loss
            )
            sigma = float(relative_sigma(solved.pose, correspondences, camera, self.package.diameter))
            solved = dataclasses.replace(
                solved,
                pose=self._track.choose(solved.pose),
                covariance=solved.covariance * self._calibration.factor(sigma),
            )
            verdict = judge(solved, correspondences, camera, presence, self.package.diameter, self.config)
        kept = None if verdict.state is ObjectState.LOST else solved
        x, y, side = map(float, crop.window)
        return ObjectEstimate(
            self.package.name,
            verdict.state,
            kept,
            correspondences,
            (x, y, side, side),
            presence,
            verdict.reason,
            source="keypoints",
            sigma=sigma,
        )

    def _correspondences(self, crop: Crop, prediction: KeypointPrediction) -> Correspondences:
        points = crop.to_image(prediction.image_points[0].cpu())
        weights = 1.0 / (prediction.sigma[0].cpu() * crop.scale)
        return Correspondences(points, self._keypoints, weights)

    def _lost(self, reason: str, box: Box | None) -> ObjectEstimate:
        return ObjectEstimate(self.package.name, ObjectState.LOST, None, None, box, 0.0, reason)

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self._latency[stage] += time.perf_counter() - begin


def _check_image(image: np.ndarray, camera: Camera) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"image: expected (H, W, 3) uint8 with pixels in it, got {image.shape} {image.dtype}")
    if (camera.width, camera.height) != (image.shape[1], image.shape[0]):
        raise ValueError(
            f"image: expected {camera.width}x{camera.height} pixels as the camera has, "
            f"got {image.shape[1]}x{image.shape[0]}"
        )


def _box_or(box: Box | None, camera: Camera, pose: Pose, extent: Tensor) -> Box | None:
    try:
        return box_from_pose(camera, pose, extent)
    except CropError:
        return box
