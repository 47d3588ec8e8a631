"""The trained networks as a source: a detector says where, the keypoint network which pixel shows which keypoint."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.detector import Detector, image_tensor
from pnp_ros.networks.keypoint_network import KeypointNetwork
from pnp_ros.networks.onnx_runtime import OnnxKeypointNetwork
from pnp_ros.sources.crop_network import CropNetworkSource
from pnp_ros.sources.source import Sighting
from pnp_ros.sources.windows import Windows
from pnp_ros.types import Correspondences, Pose


class KeypointSource(CropNetworkSource[KeypointNetwork | OnnxKeypointNetwork]):
    """A detector and a keypoint network; see :class:`~pnp_ros.sources.crop_network.CropNetworkSource`.

    Args:
        keypoints: (K, 3) float32 metres, object frame, in the network's order.
    """

    name = "keypoints"

    def __init__(
        self,
        network: KeypointNetwork | OnnxKeypointNetwork,
        detector: Detector,
        keypoints: Tensor,
        extent: Tensor,
        device: torch.device | str = "cpu",
        windows: Windows | None = None,
    ) -> None:
        super().__init__(network, detector, extent, device, windows)
        self._keypoints = keypoints

    def look(self, image: np.ndarray, camera: Camera, where: Box | Pose) -> Sighting:
        """All keypoints in the crop around a box or pose; see :class:`~pnp_ros.sources.source.Source`."""
        crop = self._crop(image, camera, where)
        prediction = self.network.predict(image_tensor(crop.image, self._device))
        weights = 1.0 / (prediction.sigma[0].cpu() * crop.scale)
        correspondences = Correspondences(crop.to_image(prediction.image_points[0].cpu()), self._keypoints, weights)
        return Sighting(correspondences, float(prediction.presence[0]), crop.box)
