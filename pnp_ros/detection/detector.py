"""Full image to candidate boxes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from pnp_ros.detection.box import Box
from pnp_ros.detection.detector_network import DETECTOR_STRIDE, DetectorNetwork, DetectorPrediction


@dataclass(frozen=True)
class Detection:
    """A candidate: ``box`` in the full image; ``score`` 0 to 1."""

    box: Box
    score: float


@dataclass(frozen=True)
class LetterBox:
    """How an image was fitted into the detector's input: ``input = scale * image + offset`` (outer-edge pixels)."""

    scale: float
    offset_x: float
    offset_y: float

    def to_image(self, box: Box) -> Box:
        """A box of the detector's input in the image."""
        x, y = (box.x - self.offset_x) / self.scale, (box.y - self.offset_y) / self.scale
        return Box(x, y, box.width / self.scale, box.height / self.scale)


def letter_box(image: np.ndarray, width: int, height: int) -> tuple[np.ndarray, LetterBox]:
    """Scale an image (H, W, 3) to fit (height, width, 3), keeping its proportions; the rest is grey."""
    scale = min(width / image.shape[1], height / image.shape[0])
    inner_width = min(width, max(1, round(image.shape[1] * scale)))
    inner_height = min(height, max(1, round(image.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    inner = cv2.resize(image, (inner_width, inner_height), interpolation=interpolation)
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    canvas = np.full((height, width, 3), 128, np.uint8)
    canvas[top : top + inner_height, left : left + inner_width] = inner
    return canvas, LetterBox(scale, float(left), float(top))


def decode_detections(prediction: DetectorPrediction, count: int) -> list[list[Detection]]:
    """The ``count`` highest local maxima (3x3) of each image of a batch, best first, in input pixels."""
    probability = prediction.heat.sigmoid()
    maximum = torch.nn.functional.max_pool2d(probability[:, None], 3, 1, 1)[:, 0]
    peaks = torch.where(probability >= maximum, probability, torch.zeros_like(probability)).flatten(1)
    width = prediction.heat.shape[-1]
    scores, cells = peaks.topk(min(count, peaks.shape[1]), dim=1)
    maps = torch.cat([prediction.offset, prediction.log_size], dim=1).flatten(2)
    values = maps.gather(2, cells[:, None].expand(-1, 4, -1))
    centre_x = (cells % width + values[:, 0]) * DETECTOR_STRIDE
    centre_y = (torch.div(cells, width, rounding_mode="floor") + values[:, 1]) * DETECTOR_STRIDE
    size = values[:, 2:].exp()
    rows = torch.stack([centre_x - size[:, 0] / 2, centre_y - size[:, 1] / 2, size[:, 0], size[:, 1], scores], dim=-1)
    return [
        [Detection(Box(x, y, w, h), score) for x, y, w, h, score in found if score > 0.0] for found in rows.tolist()
    ]


class Detector:
    """Runs a :class:`DetectorNetwork` on full images.

    Args:
        network: trained, in ``eval()`` mode; or a module that has its ``config`` and answers as it does.
        device: where it runs.
    """

    def __init__(self, network: DetectorNetwork, device: torch.device | str = "cpu") -> None:
        self._network = network.to(device)
        self._device = torch.device(device)

    @torch.inference_mode()
    def detect(self, image: np.ndarray, count: int = 3) -> list[Detection]:
        """Candidates of an image (H, W, 3) uint8 RGB, best first, in its pixels."""
        config = self._network.config
        boxed, fit = letter_box(image, config.width, config.height)
        found = decode_detections(self._network(image_tensor(boxed, self._device)), count)[0]
        return [Detection(fit.to_image(item.box), item.score) for item in found]


def image_tensor(image: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """An image (H, W, 3) uint8 as (1, 3, H, W) float32 in [0, 1], channels last in memory."""
    return torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float().div_(255.0)
