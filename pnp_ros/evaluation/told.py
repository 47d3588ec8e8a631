"""Where the poses that are evaluated come from: the estimator, which looks at each image, or a recording."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from pnp_ros.evaluation.frames import Frame, Time, by_stamp
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import FrameResult, ObjectState
from pnp_ros.pipeline.scene import Scene

IMAGE = "image"  # the stage that is the whole image, all objects together
PoseOf = Callable[[Frame], FrameResult]
PosesOf = Callable[[Frame], Mapping[str, FrameResult]]  # by name
_TOLERANCE_NS = 1_000_000  # stamps in files are decimal seconds
_DROPPED = FrameResult(ObjectState.DROPPED, score=0.0, reason="no pose was recorded for this image")


def running(estimator: PoseEstimator) -> PoseOf:
    """Poses from the estimator; it begins anew where the time of the images jumps back."""
    images = Time()

    def pose_of(frame: Frame) -> FrameResult:
        if images.jumps_back(frame.stamp_ns):
            estimator.reset()
        stamp = 1e-9 * frame.stamp_ns
        return FrameResult.of(estimator.estimate(frame.rgb, frame.camera, stamp), stamp, frame.camera)

    return pose_of


def running_scene(scene: Scene) -> PosesOf:
    """The same of many; the time that an image took is told of each."""
    images = Time()

    def poses_of(frame: Frame) -> Mapping[str, FrameResult]:
        if images.jumps_back(frame.stamp_ns):
            scene.reset()
        stamp = 1e-9 * frame.stamp_ns
        begin = time.perf_counter()
        found = scene.estimate(frame.rgb, frame.camera, stamp)
        seconds = time.perf_counter() - begin
        told = {name: FrameResult.of(item, stamp, frame.camera) for name, item in found.items()}
        return {name: replace(each, name=name, latency={**each.latency, IMAGE: seconds}) for name, each in told.items()}

    return poses_of


def recorded(poses: Mapping[int, Mapping[str, FrameResult]], name: str) -> PoseOf:
    """The poses of one object by stamp; an image without one counts as dropped.

    Args:
        poses: see :func:`pnp_ros.evaluation.truth.load_recorded`.
        name: of the object. A recording that names others, or none, is taken for this one's: the first in each image.
    """
    told = by_stamp(poses, _TOLERANCE_NS)

    def pose_of(frame: Frame) -> FrameResult:
        found = told(frame)
        return _DROPPED if not found else found.get(name) or next(iter(found.values()))

    return pose_of


def recorded_scene(poses: Mapping[int, Mapping[str, FrameResult]]) -> PosesOf:
    """Poses by stamp and name; an image without any counts as dropped, for each instance that is told at any time.

    What was recorded of the time that an image took is told of each, as :func:`running_scene` does.

    Raises:
        ValueError: if no instance has a name.
    """
    told = by_stamp(poses, _TOLERANCE_NS)
    names = dict.fromkeys(name for each in poses.values() for name in each)
    if not any(names):
        raise ValueError("poses: expected named instances, as ObjectPoseArray and the files of pnp-ros run hold them")

    def poses_of(frame: Frame) -> Mapping[str, FrameResult]:
        found = told(frame)
        if found is None:
            return {name: replace(_DROPPED, name=name) for name in names}
        return {name: replace(record, name=name, latency=_whole(record.latency)) for name, record in found.items()}

    return poses_of


def _whole(latency: Mapping[str, float]) -> Mapping[str, float]:
    """Of the stages that a message tells, which are all objects' together, their sum."""
    return {IMAGE: latency["total"]} if "total" in latency else {}
