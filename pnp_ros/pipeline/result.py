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


@dataclass(frozen=True, repr=False)
class ObjectEstimate(Values):
    """What is known of one object in one image.

    Args:
        name: of the object.
        state: valid, uncertain or lost.
        estimate: pose and calibrated covariance; None when lost.
        correspondences: that the pose was solved from, in image pixels; None when nothing was looked at.
        box: of the projected object, or of the place looked at; None when no place was found.
        score: probability that the object is there, 0 to 1.
        reason: why the state is not valid; of a valid pose what is hidden of the object, if much is; else empty.
        latency: seconds by stage; ``total`` is all of them.
        source: what the correspondences came from, such as ``keypoints``; empty when nothing was looked at.
        sigma: median standard deviation of the correspondences as a share of the object's size in the image; None
            without a pose.
        explained: share of the object that the image shows where the pose says; None where nobody looked.
        hypotheses: the poses that the images so far leave open: that of ``estimate``, then the others, the likeliest
            first; their probabilities sum to one. Empty unless there are several.
        systematic: (6, M) part of the estimate's error that all images of this camera have in common; see
            :class:`~pnp_ros.alignment.aligner.Alignment`. None where the pose was not aligned.
    """

    name: str
    state: ObjectState
    estimate: PoseEstimate | None
    correspondences: Correspondences | None
    box: Box | None
    score: float
    reason: str
    latency: Mapping[str, float] = field(default_factory=dict, repr=False)
    source: str = ""
    sigma: float | None = None
    explained: float | None = None
    hypotheses: tuple[Hypothesis, ...] = ()
    systematic: Tensor | None = None

    @property
    def is_followed(self) -> bool:
        """Whether the next image is compared with this pose: it is valid, or one of several that may be right."""
        return self.estimate is not None and (self.state is ObjectState.VALID or bool(self.hypotheses))

    def numpy(self) -> dict[str, NDArray[np.generic]]:
        """What is known of the pose as arrays, by name, as :meth:`PoseEstimate.numpy`; nothing when lost.

        With several ``hypotheses`` also ``poses`` (K, 4, 4), ``covariances`` (K, 6, 6) and ``probabilities`` (K).
        """
        told = {} if self.estimate is None else self.estimate.numpy()
        return told | _arrays_of(self.hypotheses)


@dataclass(frozen=True, repr=False)
class FrameResult(Values):
    """One object in one image, estimated now or recorded earlier; and the truth beside it where it is known.

    Args:
        state: of the pose.
        pose: the estimated one, without batch dimensions; None if lost or dropped.
        covariance: (6, 6) of the pose; None where it was not recorded.
        truth: the true pose; None if not known.
        visible: whether the object is to be seen; None if not known. A true pose alone means: yes.
        latency: seconds by stage.
        ncc: correlation of the re-rendered object with the image; None if not computed.
        stamp: of the image, seconds; None if not known.
        camera: that took the image; None if not known.
        reason: why the state is not valid, or what is hidden of the object, in words.
        score: probability that the object is there, 0 to 1.
        correspondences: that the pose was solved from; None where they were not recorded.
        name, source, sigma, explained, hypotheses: as of :class:`ObjectEstimate`; empty or None where it was not
            recorded.
    """

    state: ObjectState
    pose: Pose | None = None
    covariance: Tensor | None = None
    truth: Pose | None = None
    visible: bool | None = None
    latency: Mapping[str, float] = field(default_factory=dict, repr=False)
    ncc: float | None = None
    stamp: float | None = None
    camera: Camera | None = None
    reason: str = ""
    score: float = 1.0
    correspondences: Correspondences | None = None
    name: str = ""
    source: str = ""
    sigma: float | None = None
    explained: float | None = None
    hypotheses: tuple[Hypothesis, ...] = ()

    @classmethod
    def of(cls, found: ObjectEstimate, stamp: float | None = None, camera: Camera | None = None) -> FrameResult:
        """The record of what the estimator said of an image."""
        shared = {field.name for field in dataclasses.fields(cls)} & {f.name for f in dataclasses.fields(found)}
        return cls(
            pose=found.estimate.pose if found.estimate else None,
            covariance=found.estimate.covariance if found.estimate else None,
            stamp=stamp,
            camera=camera,
            **{name: getattr(found, name) for name in shared},
        )

    def numpy(self) -> dict[str, NDArray[np.generic]]:
        """As of every result; hypotheses as of :class:`ObjectEstimate`."""
        told = super().numpy()
        told.pop("hypotheses", None)
        return told | _arrays_of(self.hypotheses)

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


def _arrays_of(hypotheses: tuple[Hypothesis, ...]) -> dict[str, NDArray[np.generic]]:
    """Nothing unless there are several."""
    if not hypotheses:
        return {}
    return {
        "poses": np.stack([each.pose.numpy() for each in hypotheses]),
        "covariances": np.stack([each.covariance.detach().cpu().numpy() for each in hypotheses]),
        "probabilities": np.array([each.probability for each in hypotheses]),
    }
