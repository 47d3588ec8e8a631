"""Goes through a source image by image: runs the estimator, or takes recorded poses, and sets the truth beside."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pnp_ros.evaluation.frames import Frame, Time, by_stamp
from pnp_ros.evaluation.overlap import normalised_cross_correlation
from pnp_ros.evaluation.truth import Truth, TruthOf
from pnp_ros.io.bop import BopResult
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import FrameResult, ObjectState
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose

logger = logging.getLogger(__name__)
_GAP = 10.0  # times the median interval: a jump of time
PoseOf = Callable[[Frame], FrameResult]
Watch = Callable[[Frame, FrameResult], None]


@dataclass
class Evaluation:
    """What came of all images, in their order.

    Args:
        records: one an image.
        results: rows of BOP's CSV, of every image with an estimate.
        stamps_ns: of the images.
        warnings: about the source, in words.
    """

    records: list[FrameResult] = field(default_factory=list)
    results: list[BopResult] = field(default_factory=list)
    stamps_ns: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, frame: Frame, record: FrameResult, object_id: int = 1) -> None:
        """Take in the record of the next image."""
        self.records.append(record)
        self.stamps_ns.append(frame.stamp_ns)
        if record.pose is not None:
            seconds = record.latency.get("total", -1.0)
            row = BopResult(frame.scene_id, frame.image_id, object_id, record.score, record.pose, seconds)
            self.results.append(row)

    def close(self) -> None:
        """After the last image.

        Raises:
            ValueError: if there was none.
        """
        if not self.records:
            raise ValueError("the source holds no image")
        self.warnings += time_warnings(self.stamps_ns)


def running(estimator: PoseEstimator) -> PoseOf:
    """Poses from the estimator; it begins anew where the time of the images jumps back."""
    images = Time()

    def pose_of(frame: Frame) -> FrameResult:
        if images.jumps_back(frame.stamp_ns):
            estimator.reset()
        stamp = 1e-9 * frame.stamp_ns
        return FrameResult.of(estimator.estimate(frame.rgb, frame.camera, stamp)[0], stamp, frame.camera)

    return pose_of


def recorded(poses: Mapping[int, FrameResult], tolerance_ns: int = 1_000_000) -> PoseOf:
    """Poses by stamp; an image without one counts as dropped."""
    told = by_stamp(poses, tolerance_ns)
    dropped = FrameResult(ObjectState.DROPPED, score=0.0, reason="no pose was recorded for this image")

    def pose_of(frame: Frame) -> FrameResult:
        found = told(frame)
        return dropped if found is None else found

    return pose_of


def evaluate(
    frames: Iterable[Frame],
    package: ObjectPackage,
    pose_of: PoseOf,
    truth_of: TruthOf | None = None,
    overlap: OverlapMeter | None = None,
    object_id: int = 1,
    watch: Watch | None = None,
) -> Evaluation:
    """Go through the images: the one loop behind ``run``, ``evaluate``, ``replay``, ``demo`` and the validation.

    Args:
        frames: in order of time.
        package: of the object.
        pose_of: :func:`running` or :func:`recorded`.
        truth_of: truth from outside of the source; the frames' own truth is used without it.
        overlap: renders the object at its poses and compares; None leaves that out.
        object_id: for BOP's CSV.
        watch: is shown each image with its record, to draw it, say.

    Raises:
        ValueError: if there is no image.
    """
    done = Evaluation()
    for frame in frames:
        found = pose_of(frame)
        truth = truth_of(frame) if truth_of is not None else _own_truth(frame, found.pose)
        record = record_of(frame, found, truth, package, overlap)
        done.add(frame, record, object_id)
        if watch is not None:
            watch(frame, record)
    done.close()
    for warning in done.warnings:
        logger.warning(warning)
    return done


def _own_truth(frame: Frame, estimate: Pose | None) -> Truth:
    """Of several instances the one nearest to the estimate; the most visible one without an estimate."""
    if frame.truths is None:
        return Truth()
    if not frame.truths:
        return Truth(visible=False)
    if estimate is None:
        return Truth(frame.truths[0], True)
    distances = [float((estimate.translation.double() - t.translation).norm()) for t in frame.truths]
    return Truth(frame.truths[int(np.argmin(distances))], True)


def record_of(
    frame: Frame, found: FrameResult, truth: Truth, package: ObjectPackage, overlap: OverlapMeter | None
) -> FrameResult:
    """What was found in an image, with the truth and the overlap beside it."""
    true_pose = truth.pose
    if true_pose is not None and found.pose is not None:
        true_pose = package.symmetry.canonicalise(true_pose, found.pose)  # the alike pose that NEES is measured from
    ncc = overlap(frame, found.pose) if overlap is not None and found.pose is not None else None
    stamp = 1e-9 * frame.stamp_ns
    return replace(found, truth=true_pose, visible=truth.visible, ncc=ncc, stamp=stamp, camera=frame.camera)


class OverlapMeter:
    """Correlation of image and object re-rendered at a pose; owns a renderer, to be used by one thread."""

    def __init__(self, package: ObjectPackage) -> None:
        self._renderer = Renderer()
        self._mesh = self._renderer.add(package.mesh)

    def __call__(self, frame: Frame, pose: Pose) -> float:
        """The normalised cross-correlation, -1 to 1."""
        rendering = self._renderer.render([(self._mesh, pose)], frame.camera)
        return normalised_cross_correlation(frame.rgb, rendering.rgb, rendering.mask)


def time_warnings(stamps_ns: list[int]) -> list[str]:
    """What is wrong with the stamps of successive images, in words: jumps back, repeats, gaps."""
    stamps: NDArray[np.int64] = np.array(stamps_ns, dtype=np.int64)
    steps = np.diff(stamps)
    if not len(steps):
        return []
    found = []
    if (back := np.flatnonzero(steps < 0)).size:
        found.append(
            f"time jumps back {len(back)} times, first by {-1e-9 * steps[back[0]]:.3f} s at image {back[0] + 1}"
        )
    if (same := np.flatnonzero(steps == 0)).size:
        found.append(f"{len(same)} images have the stamp of the one before, first image {same[0] + 1}")
    if (forward := steps[steps > 0]).size:
        median = float(np.median(forward))
        if (gaps := np.flatnonzero(steps > _GAP * median)).size:
            found.append(
                f"{len(gaps)} times more than {_GAP:.0f} intervals pass between images, "
                f"first {1e-9 * steps[gaps[0]]:.3f} s at image {gaps[0] + 1}"
            )
    return found
