"""What comes of one image: the estimator's word, and the record of it that is logged, scored and drawn."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.pipeline.calibration import Doubt
from pnp_ros.types import Correspondences, Pose, PoseEstimate
from pnp_ros.types.tensors import Values


class ObjectState(str, enum.Enum):
    """What a pose is good for."""

    VALID = "valid"  # use it
    UNCERTAIN = "uncertain"  # a pose, but a check failed
    LOST = "lost"  # no pose
    DROPPED = "dropped"  # an image that a recorded estimator did not look at

    def __str__(self) -> str:
        return self.value

    @property
    def rank(self) -> int:
        """The higher, the better; of states that a message can tell the constant of ObjectPose."""
        return {"dropped": -1, "lost": 0, "uncertain": 1, "valid": 2}[self.value]

    @classmethod
    def of_rank(cls, rank: int) -> ObjectState:
        """The inverse.

        Raises:
            ValueError: if no state has this rank.
        """
        for state in cls:
            if state.rank == rank:
                return state
        raise ValueError(f"objects.state: expected {', '.join(f'{each.rank} ({each})' for each in cls)}, got {rank}")


@dataclass(frozen=True, eq=False, repr=False)
class Hypothesis(Values):
    """One of several poses of which one is right.

    Args:
        pose: ``T_camera_object``.
        covariance: (6, 6) of ``[dt, dtheta]`` about this pose.
        probability: that it is the right one, 0 to 1.
    """

    pose: Pose
    covariance: Tensor
    probability: float


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Finding(Values):
    """What is said of one object in one image, whoever says it.

    Args:
        state: valid, uncertain or lost; of a recording also dropped.
        name: of the object; empty where it was not recorded.
        score: probability that the object is there, 0 to 1.
        reason: why the state is not valid; of a valid pose what is hidden of the object, if much is; else empty.
        correspondences: that the pose was solved from, in image pixels; None when nothing was looked at or they were
            not recorded.
        latency: seconds by stage; ``total`` is all of them.
        source: what the correspondences came from, such as ``keypoints``; empty when nothing was looked at.
        doubt: how sure the correspondences are and how well they fit the pose; None without a pose.
        explained: share of the object that the image shows where the pose says; None where nobody looked.
        hypotheses: the poses that the images so far leave open: that of the estimate, then the others, the likeliest
            first; their probabilities sum to one. Empty unless there are several.
    """

    state: ObjectState = field(kw_only=False)
    name: str = ""
    score: float = 1.0
    reason: str = ""
    correspondences: Correspondences | None = None
    latency: Mapping[str, float] = field(default_factory=dict, repr=False)
    source: str = ""
    doubt: Doubt | None = None
    explained: float | None = None
    hypotheses: tuple[Hypothesis, ...] = ()

    def numpy(self) -> dict[str, NDArray[np.generic]]:
        """As of every result; of several hypotheses ``poses``, ``covariances`` and ``probabilities``.

        Their shapes are (K, 4, 4), (K, 6, 6) and (K).
        """
        told = super().numpy()
        told.pop("hypotheses", None)
        if not self.hypotheses:
            return told
        return told | {
            "poses": np.stack([each.pose.numpy() for each in self.hypotheses]),
            "covariances": np.stack([each.covariance.detach().cpu().numpy() for each in self.hypotheses]),
            "probabilities": np.array([each.probability for each in self.hypotheses]),
        }


@dataclass(frozen=True, eq=False, repr=False)
class ObjectEstimate(Finding):
    """What the estimator knows of one object after an image.

    Args:
        estimate: pose and calibrated covariance; None when lost.
        box: of the projected object, or of the place looked at; None when no place was found.
        systematic: (6, M) part of the estimate's error that all images of this camera have in common; see
            :class:`~pnp_ros.alignment.aligner.Alignment`. None where the pose was not aligned.
    """

    estimate: PoseEstimate | None = None
    box: Box | None = None
    systematic: Tensor | None = None

    @classmethod
    def lost(cls, name: str, reason: str, box: Box | None = None, score: float = 0.0) -> ObjectEstimate:
        """What is known of an object that was not found."""
        return cls(ObjectState.LOST, None, box, name=name, score=score, reason=reason)

    @property
    def is_followed(self) -> bool:
        """Whether the next image is compared with this pose: it is valid, or one of several that may be right."""
        return self.estimate is not None and (self.state is ObjectState.VALID or bool(self.hypotheses))


@dataclass(frozen=True, eq=False, repr=False)
class FrameResult(Finding):
    """The record of one object in one image, estimated now or earlier; and the truth beside it where it is known.

    Args:
        pose: the estimated one, without batch dimensions; None if lost or dropped.
        covariance: (6, 6) of the pose; None where it was not recorded.
        truth: the true pose; None if not known.
        visible: whether the object is to be seen; None if not known. A true pose alone means: yes.
        ncc: correlation of the re-rendered object with the image; None if not computed.
        stamp: of the image, seconds; None if not known.
        camera: that took the image; None if not known.
    """

    pose: Pose | None = None
    covariance: Tensor | None = None
    truth: Pose | None = None
    visible: bool | None = None
    ncc: float | None = None
    stamp: float | None = None
    camera: Camera | None = None

    @classmethod
    def of(cls, found: ObjectEstimate, stamp: float | None = None, camera: Camera | None = None) -> FrameResult:
        """The record of what the estimator said of an image."""
        return cls(
            **{each.name: getattr(found, each.name) for each in dataclasses.fields(Finding)},
            pose=found.estimate.pose if found.estimate else None,
            covariance=found.estimate.covariance if found.estimate else None,
            stamp=stamp,
            camera=camera,
        )

    @property
    def is_valid(self) -> bool:
        """Whether the pose was given out for use."""
        return self.state is ObjectState.VALID and self.pose is not None

    @property
    def is_visible(self) -> bool:
        """Whether the object is known to be there to be found."""
        return self.truth is not None if self.visible is None else self.visible

    @property
    def is_false(self) -> bool:
        """Whether a pose was given out for an object that is known not to be there."""
        return self.is_valid and self.visible is False
