"""What networks that look at crops have in common as sources: a detector says where, and the crop is cut there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import Crop, crop_around
from pnp_ros.detection.detector import Detection, Detector
from pnp_ros.networks.dense_network import DenseNetwork
from pnp_ros.networks.keypoint_network import KeypointNetwork
from pnp_ros.networks.onnx_runtime import OnnxDenseNetwork, OnnxKeypointNetwork
from pnp_ros.sources.windows import Windows
from pnp_ros.types import Pose

Network = TypeVar("Network", bound=KeypointNetwork | OnnxKeypointNetwork | DenseNetwork | OnnxDenseNetwork)


class CropNetworkSource(Generic[Network]):
    """A detector and a network that looks at crops; subclasses say what it sees there.

    Args:
        network: in ``eval()`` mode, on ``device``; or its layers in ONNX Runtime.
        detector: that finds the object in a full image.
        extent: (E, 3) outermost points of the mesh, metres.
        device: of the networks.
        windows: of this network, searched where no place of the detector's gave a pose; None: that is all.
    """

    def __init__(
        self,
        network: Network,
        detector: Detector,
        extent: Tensor,
        device: torch.device | str = "cpu",
        windows: Windows | None = None,
    ) -> None:
        self.network, self.detector, self.windows = network, detector, windows
        self._extent, self._device = extent, torch.device(device)

    @property
    def crop_margin(self) -> float:
        """The network is best where the object fills the crop as in training."""
        return self.network.config.crop_margin

    def places(self, image: np.ndarray, count: int) -> Iterator[Detection]:
        """What the detector finds, then what the windows show; see :class:`~pnp_ros.sources.source.Source`."""
        yield from self.detector.detect(image, count)
        if self.windows is not None:
            yield from self.windows.detect(image, count)

    def _crop(self, image: np.ndarray, camera: Camera, where: Box | Pose) -> Crop:
        config = self.network.config
        return crop_around(image, camera, where, self._extent, config.crop_size, config.crop_margin)
