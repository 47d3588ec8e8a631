"""What the fine-tuning sees of one image."""

from __future__ import annotations

from dataclasses import dataclass

from pnp_ros.evaluation.frames import Frame
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.types import Pose


@dataclass(frozen=True, eq=False, kw_only=True)
class Observation(Frame):
    """One image with what the estimator said of it and what the reference says.

    Args:
        state: of the estimate.
        estimate: ``T_camera_object`` of the estimator; None when it was lost.
        object_id: TF frame that the estimator publishes its poses under; empty where it does not.
        reference: ``T_camera_object`` of the reference; None where it does not know, or was not asked yet.
    """

    state: ObjectState
    estimate: Pose | None
    object_id: str = ""
    reference: Pose | None = None
