"""The trained networks as a source: a detector says where, the keypoint network which pixel shows which keypoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import Box, crop_around
from pnp_ros.detection.detector import Detection, Detector, image_tensor
from pnp_ros.networks.keypoint_network import KeypointNetwork
from pnp_ros.networks.onnx_runtime import OnnxKeypointNetwork
from pnp_ros.sources.source import Sighting
from pnp_ros.types import Correspondences, Pose


class KeypointSource:
    """A detector and a keypoint network.

    Args:
        network: in ``eval()`` mode, on ``device``; or its layers in ONNX Runtime.
        detector: that finds the object in a full image.
        keypoints: (K, 3) float32 metres, object frame, in the network's order.
        extent: (E, 3) outermost points of the mesh, metres.
        device: of the networks.
    """

    name = "keypoints"

    def __init__(
        self,
        network: KeypointNetwork | OnnxKeypointNetwork,
        detector: Detector,
        keypoints: Tensor,
        extent: Tensor,
        device: torch.device | str = "cpu",
    ) -> None:
        self.network, self.detector = network, detector
        self._keypoints, self._extent, self._device = keypoints, extent, torch.device(device)

    @property
    def crop_margin(self) -> float:
        """The network is best where the object fills the crop as in training."""
        return self.network.config.crop_margin

    def places(self, image: np.ndarray, count: int) -> Sequence[Detection]:
        """What the detector finds; see :class:`~pnp_ros.sources.source.Source`."""
        return self.detector.detect(image, count)

    def look(self, image: np.ndarray, camera: Camera, where: Box | Pose) -> Sighting:
        """All keypoints in the crop around a box or pose; see :class:`~pnp_ros.sources.source.Source`."""
        config = self.network.config
        crop = crop_around(image, camera, where, self._extent, config.crop_size, config.crop_margin)
        prediction = self.network.predict(image_tensor(crop.image, self._device))
        weights = 1.0 / (prediction.sigma[0].cpu() * crop.scale)
        correspondences = Correspondences(crop.to_image(prediction.image_points[0].cpu()), self._keypoints, weights)
        x, y, side = map(float, crop.window)
        return Sighting(correspondences, float(prediction.presence[0]), (x, y, side, side))
