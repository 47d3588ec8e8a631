"""Settings of the estimator: how it searches, and when it calls a pose valid, uncertain or lost."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class EstimatorConfig:
    """Thresholds and counts.

    Args:
        detector_threshold: lowest detector score that is looked at, 0 to 1.
        max_candidates: detections tried per picture, best first.
        lost_presence: presence probability below which the object is absent.
        valid_presence: presence probability below which a pose is uncertain.
        min_inliers: fewer inlier keypoints: lost.
        valid_inliers: smallest share of inlier keypoints of a valid pose, 0 to 1.
        max_chi_square: largest reduced chi-square of a valid pose's inliers.
        max_rotation_sigma: largest standard deviation about the worst axis of a valid pose, radians.
        max_translation_sigma: the same of the position, as a share of the distance.
        min_distance, max_distance: plausible distance from the camera, in diameters of the object.
        recrop_shift: a tracked object that moved by more than this share of the crop is looked at a second time.
        robust_scale: scale of the robust loss, in standard deviations.
        track: follow the last pose; off, every picture is searched anew.

    Raises:
        ValueError: naming the field and what it expects.
    """

    detector_threshold: float = 0.1
    max_candidates: int = 3
    lost_presence: float = 0.2
    valid_presence: float = 0.5
    min_inliers: int = 5
    valid_inliers: float = 0.5
    max_chi_square: float = 4.0
    max_rotation_sigma: float = 0.2
    max_translation_sigma: float = 0.1
    min_distance: float = 0.6
    max_distance: float = 100.0
    recrop_shift: float = 0.1
    robust_scale: float = 2.0
    track: bool = True

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, bool) and not (isinstance(value, (int, float)) and math.isfinite(value)):
                raise ValueError(f"{field.name}: expected a finite number, got {value!r}")
        for name in ("detector_threshold", "lost_presence", "valid_presence", "valid_inliers", "recrop_shift"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}: expected 0 to 1, got {getattr(self, name)}")
        for name in ("max_chi_square", "max_rotation_sigma", "max_translation_sigma", "min_distance", "robust_scale"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if self.max_candidates < 1:
            raise ValueError(f"max_candidates: expected at least 1, got {self.max_candidates}")
        if self.min_inliers < 4:
            raise ValueError(f"min_inliers: expected at least 4, got {self.min_inliers}")
        if not self.max_distance > self.min_distance:
            raise ValueError(f"max_distance: expected more than min_distance, got {self.max_distance}")
        if not self.valid_presence >= self.lost_presence:
            raise ValueError(f"valid_presence: expected at least lost_presence, got {self.valid_presence}")
