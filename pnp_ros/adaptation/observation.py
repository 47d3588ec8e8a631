"""What the fine-tuning sees of one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.types import Pose


@dataclass(frozen=True, eq=False)
class Observation:
    """One image with what the estimator said of it and what the reference says.

    Args:
        stamp_ns: of the image.
        rgb: (H, W, 3) uint8.
        camera: that took it.
        state: of the estimate.
        estimate: ``T_camera_object`` of the estimator; None when it was lost.
        reference: ``T_camera_object`` of the reference; None where it does not know.
    """

    stamp_ns: int
    rgb: NDArray[np.uint8]
    camera: Camera
    state: ObjectState
    estimate: Pose | None
    reference: Pose | None
