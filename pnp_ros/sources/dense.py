"""The dense network as a source: a detector says where, the network which object point each cell of the crop shows."""

from __future__ import annotations

import numpy as np

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.detector import image_tensor
from pnp_ros.networks.dense_network import DenseNetwork
from pnp_ros.networks.onnx_runtime import OnnxDenseNetwork
from pnp_ros.sources.crop_network import CropNetworkSource
from pnp_ros.sources.source import Sighting
from pnp_ros.types import Correspondences, Pose


class DenseSource(CropNetworkSource[DenseNetwork | OnnxDenseNetwork]):
    """A detector and a dense network; see :class:`~pnp_ros.sources.crop_network.CropNetworkSource`."""

    name = "dense"

    def look(self, image: np.ndarray, camera: Camera, where: Box | Pose) -> Sighting:
        """The cells of the largest weight around a box or pose; see :class:`~pnp_ros.sources.source.Source`."""
        crop = self._crop(image, camera, where)
        prediction = self.network.predict(image_tensor(crop.image, self._device))
        found = prediction.correspondences.to("cpu")
        correspondences = Correspondences(
            crop.to_image(found.image_points[0]), found.object_points[0], found.weights[0] / crop.scale
        )
        return Sighting(correspondences, float(prediction.presence[0]), crop.box, dense=True)
