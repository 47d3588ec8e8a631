"""Settings of the online fine-tuning: what is learnt from, how, and what new weights must prove."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, get_args

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
        min_overlap: smallest correlation of the image with the object rendered at its reference.
        self_overlap: the same where the reference is the estimator's own pose.
        max_offset: largest distance between the reference and the place where the image fits the rendering best, as
            a share of the object's size in the image.
        max_disagreement: largest distance from a valid estimate, in diameters.
        max_bias: largest median offset of the references from the valid estimates along one axis, in diameters.
        seed: of everything random.

    Raises:
        ValueError: naming the field and what it expects.
    """

    objective: Objective = "bpnp"
    learning_rate: float = 6e-4
    batch: int = 32
    capacity: int = 320
    held_back: int = 64
    min_images: int = 40
    min_held_back: int = 12
    check_steps: int = 200
    max_tries: int = 4
    anchors: int = 240
    anchor_margin: float = 0.01
    min_gain: float = 0.03
    max_nees: float = 12.0
    min_overlap: float = 0.3
    self_overlap: float = 0.6
    max_offset: float = 0.15
    max_disagreement: float = 0.5
    max_bias: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in (choices := get_args(Objective)):
            raise ValueError(f"objective: expected one of {', '.join(choices)}, got {self.objective!r}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) and not math.isfinite(value):
                raise ValueError(f"{field.name}: expected a finite number, got {value!r}")
        for name in ("learning_rate", "max_nees", "max_offset", "max_disagreement", "max_bias"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")
        for name in ("anchor_margin", "min_gain", "min_overlap", "self_overlap"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}: expected 0 to 1, got {getattr(self, name)}")
        for name, least in (("batch", 4), ("check_steps", 1), ("max_tries", 1), ("anchors", 20), ("min_held_back", 4)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if not 8 <= self.min_images <= self.capacity:
            raise ValueError(f"min_images: expected 8 to capacity ({self.capacity}), got {self.min_images}")
        if not self.min_held_back <= self.held_back:
            raise ValueError(f"held_back: expected at least min_held_back, got {self.held_back}")
        if self.seed < 0:
            raise ValueError(f"seed: expected 0 or more, got {self.seed}")
