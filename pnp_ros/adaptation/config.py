"""Settings of the online fine-tuning: what is learnt from, how, and what new weights must prove."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pnp_ros import settings
from pnp_ros.settings import bounded, chosen

Objective = Literal["correspondence", "bpnp", "epropnp"]


@dataclass(frozen=True)
class AdaptationConfig:
    """Limits and rates.

    Args:
        objective: loss beside presence and detection: ``bpnp`` (the correspondence term and, through BPnP, the error of
            the pose in the image and in space), ``correspondence`` (that term alone), ``epropnp`` (that term and
            EPro-PnP's KL loss).
        learning_rate: of AdamW, at most; it falls to zero before each check.
        batch: crops per step; two thirds of them are renders, so that nothing learnt before is forgotten.
        capacity: most images that are kept to learn from.
        held_back: most images that are kept to check new weights with; they are never learnt from.
        min_images: images to learn from before the first step.
        min_held_back: images to check with before the first check.
        check_steps: steps between two checks of the shadow network.
        max_tries: checks without success after which the shadow network starts again from the active weights.
        anchors: renders that new weights are checked with beside the held-back images.
        anchor_margin: how much smaller than with the package's own weights the AUC on the anchors may be (all is 1).
        min_gain: how much better the mean error on held-back images must be, as a share of the active weights'.
        max_nees: largest mean NEES of the valid held-back poses, 6 is perfect, unless the active weights' is larger.
        min_overlap: smallest correlation of the image with the object drawn where the image shows it.
        self_overlap: the same where the reference is the estimator's own pose.
        max_disagreement: largest distance across the view between a reference and where the image shows the object,
            in diameters.
        max_depth_disagreement: the same along the view, as a share of the distance; a wrong focal length adds to it.
        max_turn_disagreement: largest angle between the two, radians.
        max_bias: largest median offset across the view, along one axis of the camera or the object, in diameters.
        max_depth_bias: largest median offset along the view, as a share of the distance: a focal length may be so
            wrong, and the image cannot tell.
        max_turn_bias: largest median turn about one axis of the camera or the object, radians.
        max_delay: by how much references may be late or early, seconds.
        seed: of everything random.

    Raises:
        ValueError: naming the field and what it expects.
    """

    objective: Objective = chosen("bpnp", get_args(Objective))
    learning_rate: float = bounded(6e-4, 1e-9, 1.0)
    batch: int = bounded(32, 4, 4096)
    capacity: int = bounded(320, 8, 100_000)
    held_back: int = bounded(64, 4, 100_000)
    min_images: int = bounded(40, 8, 100_000)
    min_held_back: int = bounded(12, 4, 100_000)
    check_steps: int = bounded(200, 1, 1_000_000)
    max_tries: int = bounded(4, 1, 1000)
    anchors: int = bounded(240, 20, 100_000)
    anchor_margin: float = bounded(0.01, 0.0, 1.0)
    min_gain: float = bounded(0.03, 0.0, 1.0)
    max_nees: float = bounded(12.0, 1e-3, 1e12)
    min_overlap: float = bounded(0.3, 0.0, 1.0)
    self_overlap: float = bounded(0.6, 0.0, 1.0)
    max_disagreement: float = bounded(0.08, 1e-6, 1e6)
    max_depth_disagreement: float = bounded(0.05, 1e-6, 1e6)
    max_turn_disagreement: float = bounded(0.09, 1e-6, 4.0)
    max_bias: float = bounded(0.04, 1e-6, 1e6)
    max_depth_bias: float = bounded(0.02, 1e-6, 1e6)
    max_turn_bias: float = bounded(0.04, 1e-6, 4.0)
    max_delay: float = bounded(0.03, 1e-6, 1e6)
    seed: int = bounded(0, 0, 2**31 - 1)

    def __post_init__(self) -> None:
        settings.check(self)
        if not self.min_images <= self.capacity:
            raise ValueError(f"min_images: expected at most capacity ({self.capacity}), got {self.min_images}")
        if not self.min_held_back <= self.held_back:
            raise ValueError(f"held_back: expected at least min_held_back, got {self.held_back}")
