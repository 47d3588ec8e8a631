"""Settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Views = Literal["all", "upper"]


@dataclass(frozen=True)
class TrainingConfig:
    """How an object is trained.

    Args:
        minutes: wall-clock budget of both networks and the validation together.
        num_keypoints: on the object's surface.
        views: ``all`` orientations, or those that show the ``upper`` side (+z) of the object.
        max_roll: largest turn of the camera about its line of sight, degrees; less than 180 where up stays up.
        backgrounds: folder of images to render in front of, beside the procedural ones; None for those alone.
        focal_range: smallest and largest focal length of the rendered images, as a multiple of their width.
        device: ``cpu`` or ``cuda``.
        workers: processes that render; 0 chooses by the number of cores.
        seed: of everything random.
        crop_batch, frame_batch: images per step of the keypoint network and of the detector, per process.
        width: of the keypoint network, see :class:`~pnp_ros.networks.keypoint_network.KeypointNetworkConfig`.
        detector_share: share of the minutes that trains the detector.
        validation_share: share of the minutes kept for validation.
        validation_frames: held-out images, fewer if they do not fit into the time.
        learning_rate: the largest one.
        start_from: object package of the same object whose weights the training starts with; None: random ones.

    Raises:
        ValueError: naming the field and what it expects.
    """

    minutes: float = 40.0
    num_keypoints: int = 16
    views: Views = "all"
    max_roll: float = 180.0
    backgrounds: Path | None = None
    focal_range: tuple[float, float] = (0.7, 1.6)
    device: str = "cpu"
    workers: int = 0
    seed: int = 0
    crop_batch: int = 48
    frame_batch: int = 24
    width: int = 32
    detector_share: float = 0.15
    validation_share: float = 0.06
    validation_frames: int = 400
    learning_rate: float = 2e-3
    start_from: Path | None = None

    def __post_init__(self) -> None:
        for name in ("minutes", "learning_rate"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")
        for name, low in (("num_keypoints", 6), ("crop_batch", 2), ("frame_batch", 2), ("validation_frames", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name}: expected at least {low}, got {getattr(self, name)}")
        for name in ("workers", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if self.views not in ("all", "upper"):
            raise ValueError(f"views: expected all or upper, got {self.views!r}")
        if not 0.0 <= self.max_roll <= 180.0:
            raise ValueError(f"max_roll: expected 0 to 180 degrees, got {self.max_roll}")
        if self.backgrounds is not None and not self.backgrounds.is_dir():
            raise ValueError(f"backgrounds: no such folder: {self.backgrounds}")
        if not 0.2 <= self.focal_range[0] <= self.focal_range[1] <= 10.0:
            raise ValueError(f"focal_range: expected 0.2 <= smallest <= largest <= 10, got {self.focal_range}")
        if not (0.0 < self.detector_share < 0.9 and 0.0 < self.validation_share < 0.5):
            raise ValueError("detector_share, validation_share: expected shares that leave time for the keypoints")

    @property
    def detector_seconds(self) -> float:
        """Wall-clock budget of the detector."""
        return self.minutes * 60.0 * self.detector_share

    @property
    def keypoint_seconds(self) -> float:
        """Wall-clock budget of the keypoint network."""
        return self.minutes * 60.0 * (1.0 - self.detector_share - self.validation_share)
