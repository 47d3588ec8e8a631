"""Places where a crop network sees the object: its presence, slid over the whole image.

Presence is a linear map of the mean of the coarsest features, so one pass over an image gives it for all windows of the
crop's size, a quarter of a window apart; images of several sizes give windows of several sizes (a sliding window in the
way of OverFeat, arXiv 1312.6229). It costs as much as thirty crops, and knows what the network knows about the object,
which is more than a detector learns in the same minutes: that one shall be quick.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch

from pnp_ros.detection.box import Box
from pnp_ros.detection.detector import Detection, image_tensor
from pnp_ros.networks.backbone import COARSEST
from pnp_ros.networks.dense_network import DenseNetwork
from pnp_ros.networks.keypoint_network import KeypointNetwork

_LARGEST, _SIZES = 0.9, 5  # longer side of the object's box, as a share of the image's shorter one; each 1 / sqrt(2) of
_LEAST = 0.5  # probability; by less, the network would take the object for absent
_OVERLAP = 0.3  # intersection over union with a better window from which on one tells nothing new
_PLACES = 6  # a place that is looked at in vain costs an alignment


class Windows:
    """Looks for the object in windows of five sizes all over the image.

    Args:
        network: in ``eval()`` mode, on ``device``, calculated by torch.
        device: where it runs.
    """

    def __init__(self, network: KeypointNetwork | DenseNetwork, device: torch.device | str = "cpu") -> None:
        self._network, self._device = network, torch.device(device)

    @torch.inference_mode()
    def detect(self, image: np.ndarray, count: int) -> list[Detection]:
        """The places in an image (H, W, 3) uint8 RGB where the object is likelier than not, best first, in its pixels.

        At most ``count`` and six; boxes are square.
        """
        found: list[Detection] = []
        for level in range(_SIZES):
            found += self._of_size(image, max(2.0, _LARGEST * min(image.shape[:2]) * 0.5 ** (0.5 * level)))
        found.sort(key=lambda each: -each.score)
        kept: list[Detection] = []
        for each in found:
            if len(kept) < min(count, _PLACES) and all(each.box.overlap(better.box) < _OVERLAP for better in kept):
                kept.append(each)
        return kept

    def _of_size(self, image: np.ndarray, side: float) -> list[Detection]:
        """Where a box of this side, which fills the crop as in training, has the object, one a quarter of a crop."""
        config = self._network.config
        scale = config.crop_size / (side * config.crop_margin)
        height, width = (max(1, round(scale * length)) for length in image.shape[:2])
        inner = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR)
        border = config.crop_size // 4 // COARSEST * COARSEST  # for what the image's edge cuts
        below, right = (
            max(config.crop_size, math.ceil((length + 2 * border) / COARSEST) * COARSEST) - length - border
            for length in (height, width)
        )
        padded = cv2.copyMakeBorder(inner, border, below, border, right, cv2.BORDER_REPLICATE)
        presence = self._network.window_presence(image_tensor(padded, self._device))[0].sigmoid().cpu().numpy()
        first = 0.5 * config.crop_size - border  # the centre of the first window
        return [
            Detection(
                Box((first + COARSEST * x) / scale - side / 2, (first + COARSEST * y) / scale - side / 2, side, side),
                float(presence[y, x]),
            )
            for y, x in np.argwhere(presence >= _LEAST)
        ]
