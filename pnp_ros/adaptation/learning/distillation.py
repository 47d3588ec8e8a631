"""Losses that keep a network's answers to images it knows as they were (Li and Hoiem, "Learning without Forgetting").

Unlike labels they have no gradient as long as nothing has changed, so that a network that has converged is not shaken.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pnp_ros.detection.detector_network import DetectorPrediction
from pnp_ros.networks.keypoint_network import RawPrediction, decode

_FACTOR_WEIGHT, _PRESENCE_WEIGHT, _BOX_WEIGHT = 0.1, 0.3, 1.0
_SEEN = 0.3  # probability of a centre from which on the teacher's box counts


def keypoint_distillation(raw: RawPrediction, teacher: RawPrediction) -> Tensor:
    """Divergence of the heat maps from the teacher's, and distances of the rest; 0 where both agree."""
    known = teacher.heat.flatten(-2).log_softmax(-1)
    divergence = (known.exp() * (known - raw.heat.flatten(-2).log_softmax(-1))).sum(-1).mean()
    near = torch.sigmoid(teacher.heat - teacher.heat.amax((-2, -1), keepdim=True) + 4.0)[:, :, None]
    factor = ((raw.log_factor - teacher.log_factor).square() * near).sum() / near.sum().clamp_min(1e-6)
    presence = _divergence(raw.presence, teacher.presence).mean()
    return divergence + _FACTOR_WEIGHT * factor + _PRESENCE_WEIGHT * presence


def certainty_distillation(raw: RawPrediction, teacher: RawPrediction) -> Tensor:
    """Squared distance of the keypoints' log standard deviations from the teacher's on the same crops."""
    ratio = decode(raw).sigma / decode(teacher).sigma
    return ratio.log().square().mean()


def detector_distillation(found: DetectorPrediction, teacher: DetectorPrediction) -> Tensor:
    """Divergence of the centres from the teacher's, and distances of the boxes where it sees one."""
    centres = _divergence(found.heat, teacher.heat).sum() / len(found.heat)
    seen = (teacher.heat.sigmoid() > _SEEN).float()[:, None]
    distance = (found.offset - teacher.offset).abs() + (found.log_size - teacher.log_size).abs()
    return centres + _BOX_WEIGHT * (distance * seen).sum() / seen.sum().clamp_min(1.0)


def _divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence of Bernoulli variables."""
    share = teacher.sigmoid()
    cost = functional.binary_cross_entropy_with_logits(logits, share, reduction="none")
    return cost - functional.binary_cross_entropy_with_logits(teacher, share, reduction="none")
