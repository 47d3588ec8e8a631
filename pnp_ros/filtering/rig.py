"""Several cameras that see one object, each at its own times: one pose, for the newest time that any of them told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pnp_ros.filtering.fusion import Fused, fuse
from pnp_ros.filtering.pose_filter import FilterConfig, PoseFilter
from pnp_ros.types import PoseEstimate


@dataclass(frozen=True, eq=False)
class RigPose:
    """What all cameras say of the object at one time.

    Args:
        stamp: seconds.
        fused: of the cameras that know of the object at this time.
        first: what the first of them says alone.
    """

    stamp: float
    fused: Fused
    first: PoseEstimate

    @property
    def anchor(self) -> PoseEstimate:
        """Where the object is about, also where two cameras contradict each other."""
        return self.first if self.fused.estimate is None else self.fused.estimate


class Rig:
    """One filter for each camera; what they tell for one time is fused.

    Args:
        cameras: their names.
        config: of each camera's filter.
        gate: see :func:`pnp_ros.filtering.fusion.fuse`.
    """

    def __init__(self, cameras: Sequence[str], config: FilterConfig | None = None, gate: float = 22.5) -> None:
        self._filters = {name: PoseFilter(config) for name in cameras}
        self._gate, self._newest = gate, float("-inf")

    def update(self, camera: str, estimate: PoseEstimate, stamp: float) -> RigPose | None:
        """Take in a camera's pose of the object in the common frame; what is known then, None where nothing is.

        Args:
            camera: one of the names.
            estimate: in a frame that all cameras share.
            stamp: of the image, seconds.
        """
        self._filters[camera].update(estimate, stamp)
        if stamp < self._newest - self._filters[camera].config.patience:
            self._newest = stamp  # time jumped back, as where a bag begins again
        self._newest = max(self._newest, stamp)
        return self.predict(self._newest)

    def predict(self, stamp: float) -> RigPose | None:
        """What all cameras say together for a time in seconds; None where none of them knows."""
        known = {name: motion.predict(stamp) for name, motion in self._filters.items()}
        seen = {name: PoseEstimate.of(m.pose, m.covariance) for name, m in known.items() if m is not None}
        return RigPose(stamp, fuse(seen, self._gate), next(iter(seen.values()))) if seen else None
