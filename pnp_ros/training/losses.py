"""Losses of the keypoint network, of the dense network and of the detector, each in its own output."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from pnp_ros.detection.detector_network import DETECTOR_STRIDE, DetectorPrediction
from pnp_ros.networks.decode import heat_map_peaks, local_soft_argmax, pixels_to_cells
from pnp_ros.networks.dense_network import RawDense
from pnp_ros.networks.keypoint_network import DECODE_RADIUS, STRIDE, RawPrediction, sigma_at

_TARGET_SIGMA = 0.8  # cells; narrower targets train slower, wider ones blur the peak
_LOCATION_WEIGHT = 0.2
_SIGMA_WEIGHT = 0.1
_PRESENCE_WEIGHT = 0.3
_FOCAL_POWER, _FOCAL_FALLOFF = 2.0, 4.0  # "Objects as Points", eq. 1
_COORDINATE_WEIGHT, _LIKELIHOOD_WEIGHT = 5.0, 0.2
_LARGEST_RESIDUAL = 64.0  # crop pixels, half of a crop: farther off is no worse
_OFFSET_WEIGHT, _SIZE_WEIGHT = 1.0, 1.0


def gaussian_target(cells: Tensor, height: int, width: int, sigma: float) -> Tensor:
    """(..., height, width) Gaussian of ``sigma`` cells around fractional cells (..., 2), 1 at its centre."""
    x = torch.arange(width, device=cells.device, dtype=cells.dtype)
    y = torch.arange(height, device=cells.device, dtype=cells.dtype)
    along_x = torch.exp(-((x - cells[..., 0:1]) ** 2) / (2.0 * sigma**2))
    along_y = torch.exp(-((y - cells[..., 1:2]) ** 2) / (2.0 * sigma**2))
    return along_y[..., :, None] * along_x[..., None, :]


def keypoint_loss(raw: RawPrediction, keypoints: Tensor, present: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Heat map cross-entropy, soft-argmax L1, Laplace likelihood of sigma, presence.

    Args:
        raw: of a batch of crops.
        keypoints: (B, K, 2) true crop pixels; may lie outside the crop, where only sigma learns from them.
        present: (B,) bool; crops without the object train the presence alone.

    Returns:
        The scalar loss and figures to show (scalars, detached): ``error`` is the median keypoint error in crop pixels.
    """
    height, width = raw.heat.shape[-2:]
    cells = pixels_to_cells(keypoints, STRIDE)
    limit = torch.tensor([width - 0.5, height - 0.5], device=cells.device)
    inside = ((cells > -0.5) & (cells < limit)).all(-1) & present[:, None]
    shown = present[:, None].expand_as(inside)

    target = gaussian_target(cells, height, width, _TARGET_SIGMA).flatten(-2)
    target = target / target.sum(-1, keepdim=True).clamp_min(1e-6)
    cross_entropy = -(target * raw.heat.flatten(-2).log_softmax(-1)).sum(-1)

    nearest = torch.minimum(cells.round().clamp_min(0.0), limit.floor()).long()
    location = local_soft_argmax(raw.heat, nearest, DECODE_RADIUS, STRIDE)
    location_error = (location - keypoints).abs().sum(-1) / STRIDE

    with torch.no_grad():
        peak = heat_map_peaks(raw.heat)
        decoded = local_soft_argmax(raw.heat, peak, DECODE_RADIUS, STRIDE)
        error = (decoded - keypoints).abs()
    sigma = sigma_at(raw, decoded, peak)
    likelihood = (math.sqrt(2.0) * error / sigma + sigma.log()).sum(-1)

    presence = functional.binary_cross_entropy_with_logits(raw.presence, present.to(raw.presence.dtype))
    loss = (
        _masked_mean(cross_entropy + _LOCATION_WEIGHT * location_error, inside)
        + _SIGMA_WEIGHT * _masked_mean(likelihood, shown)
        + _PRESENCE_WEIGHT * presence
    )
    distances = error.norm(dim=-1)[inside]
    median = distances.median() if distances.numel() else loss.new_zeros(())
    return loss, {"loss": loss.detach(), "error": median, "presence": presence.detach()}


def dense_loss(
    raw: RawDense, coordinates: Tensor, residual: Tensor | None, present: Tensor, size: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """L1 of the object coordinates, Laplace likelihood of the weights, presence.

    Args:
        raw: of a batch of crops.
        coordinates: (B, 3, H, W) true object points in metres, NaN where the object is not seen. All NaN: nothing is
            known of them, and the term is zero.
        residual: (B, H W, 2) crop pixels by which each cell's point misses its cell at the true pose. Also cells
            beside the object have one, a large one: so they learn that they are worth nothing. None: the loss of the
            pose teaches the weights.
        present: (B,) bool; crops without the object train the presence alone.
        size: of the object in metres.

    Returns:
        The scalar loss and figures to show (scalars, detached): ``error`` is the median error of the coordinates as a
        share of the size.
    """
    shown = torch.isfinite(coordinates).all(1) & present[:, None, None]
    offset = torch.where(shown[:, None], raw.coordinates - coordinates, 0.0) / size
    coordinate = _masked_mean(offset.abs().sum(1), shown)
    presence = functional.binary_cross_entropy_with_logits(raw.presence, present.to(raw.presence.dtype))
    loss = _COORDINATE_WEIGHT * coordinate + _PRESENCE_WEIGHT * presence
    if residual is not None:
        error = residual.detach().abs().clamp_max(_LARGEST_RESIDUAL)
        log_weight = raw.log_weight.flatten(-2).mT
        each = (math.sqrt(2.0) * error * log_weight.exp() - log_weight).mean((-2, -1))
        loss = loss + _LIKELIHOOD_WEIGHT * _masked_mean(each, present)
    distances = offset.detach().norm(dim=1)[shown]
    median = distances.median() if distances.numel() else loss.new_zeros(())
    return loss, {"loss": loss.detach(), "error": median, "presence": presence.detach()}


def detector_loss(prediction: DetectorPrediction, boxes: Tensor, present: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Focal loss of the centre heat map, L1 of offset and log size at the centre.

    Args:
        prediction: of a batch of images.
        boxes: (B, 4) true (x, y, width, height) in input pixels, (x, y) the outer corner.
        present: (B,) bool; images without the object train the heat map alone.

    Returns:
        The scalar loss and figures to show (scalars, detached).
    """
    height, width = prediction.heat.shape[-2:]
    size = boxes[:, 2:].clamp_min(1.0)
    centre = (boxes[:, :2] + size / 2.0) / DETECTOR_STRIDE
    limit = torch.tensor([width - 1e-3, height - 1e-3], device=centre.device)
    centre = torch.minimum(centre.clamp_min(0.0), limit)  # an object cut by the edge is found at the edge
    cell = centre.floor()

    nearness = gaussian_target(cell, height, width, 1.0) * present[:, None, None]
    is_centre = nearness > 0.999
    log_yes = functional.logsigmoid(prediction.heat)
    log_no = functional.logsigmoid(-prediction.heat)
    probability = prediction.heat.sigmoid()
    positive = (1.0 - probability) ** _FOCAL_POWER * log_yes
    negative = (1.0 - nearness) ** _FOCAL_FALLOFF * probability**_FOCAL_POWER * log_no
    heat_loss = -torch.where(is_centre, positive, negative).sum() / present.sum().clamp_min(1)

    index = (cell[:, 1] * width + cell[:, 0]).long()[:, None, None].expand(-1, 2, 1)
    offset = prediction.offset.flatten(2).gather(2, index)[..., 0]
    log_size = prediction.log_size.flatten(2).gather(2, index)[..., 0]
    offset_loss = _masked_mean((offset - (centre - cell)).abs().sum(-1), present)
    size_loss = _masked_mean((log_size - size.log()).abs().sum(-1), present)
    loss = heat_loss + _OFFSET_WEIGHT * offset_loss + _SIZE_WEIGHT * size_loss
    return loss, {"loss": loss.detach(), "heat": heat_loss.detach(), "size": size_loss.detach()}


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp_min(1)
