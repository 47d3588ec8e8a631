"""Settings of the estimator: how it searches, and when it calls a pose valid, uncertain or lost."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

SOURCES = ("keypoints", "features")


@dataclass(frozen=True)
class EstimatorConfig:
    """Thresholds and counts.

    Args:
        sources: where correspondences come from, asked in this order; those that the package does not have are left
            out. ``keypoints``: the trained networks; ``features``: local features of the mesh.
        align: compare the object rendered at the pose with the image, align the pose to it, and give out as valid only
            what the image supports; needs OpenGL.
        detector_threshold: lowest score of a place that is looked at, 0 to 1.
        max_candidates: places tried per source and image, best first.
        lost_presence: presence probability below which the object is absent.
        valid_presence: presence probability below which a pose is uncertain.
        min_inliers: fewer inlier keypoints: lost.
        valid_inliers: smallest share of inlier keypoints of a valid pose, 0 to 1.
        min_matches: fewer matches of features that agree: lost.
        valid_matches: fewest matches that agree on a valid pose.
        max_chi_square: largest reduced chi-square of a valid pose's inliers.
        max_keypoint_sigma: largest median standard deviation of a valid pose's keypoints, as a share of the object's
            projected diameter.
        max_rotation_sigma: largest standard deviation about the worst axis of a valid pose, radians.
        max_translation_sigma: the same of the position, as a share of the distance.
        min_distance, max_distance: plausible distance from the camera, in diameters of the object.
        settled: a crop whose window differs from the one its pose asks for by at most this share is the right one.
        max_passes: crops per candidate until the pose settles.
        robust_scale: scale of the robust loss, in standard deviations.
        track: follow the last pose; off, every image is searched anew.

    Raises:
        ValueError: naming the field and what it expects.
    """

    sources: tuple[str, ...] = ("keypoints", "features")
    align: bool = True
    detector_threshold: float = 0.1
    max_candidates: int = 3
    lost_presence: float = 0.2
    valid_presence: float = 0.5
    min_inliers: int = 5
    valid_inliers: float = 0.5
    min_matches: int = 8
    valid_matches: int = 12
    max_chi_square: float = 4.0
    max_keypoint_sigma: float = 0.06
    max_rotation_sigma: float = 0.12
    max_translation_sigma: float = 0.05
    min_distance: float = 0.6
    max_distance: float = 100.0
    settled: float = 0.06
    max_passes: int = 4
    robust_scale: float = 2.0
    track: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))  # a list, where it came from a file or a ROS parameter
        for name in self.sources:
            if name not in SOURCES:
                raise ValueError(f"sources: expected some of {', '.join(SOURCES)}, got {name!r}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "sources":
                continue
            if not isinstance(value, bool) and not (isinstance(value, (int, float)) and math.isfinite(value)):
                raise ValueError(f"{field.name}: expected a finite number, got {value!r}")
        for name in ("detector_threshold", "lost_presence", "valid_presence", "valid_inliers", "settled"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}: expected 0 to 1, got {getattr(self, name)}")
        for name in (
            "max_chi_square",
            "max_keypoint_sigma",
            "max_rotation_sigma",
            "max_translation_sigma",
            "min_distance",
        ):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if not self.robust_scale > 0.0:
            raise ValueError(f"robust_scale: expected more than 0, got {self.robust_scale}")
        for name in ("max_candidates", "max_passes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("min_inliers", "min_matches"):
            if getattr(self, name) < 4:
                raise ValueError(f"{name}: expected at least 4, got {getattr(self, name)}")
        if not self.max_distance > self.min_distance:
            raise ValueError(f"max_distance: expected more than min_distance, got {self.max_distance}")
        if not self.valid_presence >= self.lost_presence:
            raise ValueError(f"valid_presence: expected at least lost_presence, got {self.valid_presence}")
