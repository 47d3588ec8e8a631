"""Goes through images one by one: takes what is told of the objects in each, and sets the truth beside."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pnp_ros.evaluation.frames import Frame
from pnp_ros.evaluation.overlap import normalised_cross_correlation
from pnp_ros.evaluation.pairing import Alone, AsTold, ByPlace, Pairing
from pnp_ros.evaluation.told import PoseOf, PosesOf
from pnp_ros.evaluation.truth import TruthOf
from pnp_ros.io.bop import BopResult
from pnp_ros.objects.instance_names import object_of
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.result import FrameResult
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose

logger = logging.getLogger(__name__)
_GAP = 10.0  # times the median interval: a jump of time
Watch = Callable[[Frame, Mapping[str, FrameResult]], None]


@dataclass(eq=False)
class Evaluation:
    """What came of one instance in all images, in their order.

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


@dataclass(eq=False)
class SceneEvaluation:
    """What came of all images with many objects.

    Args:
        instances: of each true instance by its name; without truths, of each estimate by its name.
        strays: valid poses that are of no true instance, by object.
        swaps: how often a true instance got another name, by object; None where that is not known.
        poses: what was told in each image, by the estimate's name.
        warnings: about the source, in words.
    """

    instances: dict[str, Evaluation] = field(default_factory=dict)
    strays: dict[str, list[FrameResult]] = field(default_factory=dict)
    swaps: dict[str, int] | None = None
    poses: list[Mapping[str, FrameResult]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def records(self, package: ObjectPackage, names: Sequence[str]) -> list[FrameResult]:
        """All that came of an object: its instances, and the poses that are of none.

        Args:
            package: of the object.
            names: of all objects.
        """
        own = [done.records for name, done in self.instances.items() if object_of(name, names) == package.name]
        return [record for records in own for record in records] + self.strays.get(package.name, [])


def evaluate(
    frames: Iterable[Frame],
    packages: Sequence[ObjectPackage],
    poses_of: PosesOf,
    pairing: Pairing | None = None,
    overlaps: Mapping[str, OverlapMeter] | None = None,
    object_id: int = 1,
    watch: Watch | None = None,
) -> SceneEvaluation:
    """Go through the images: the one loop behind every command that measures poses, and the validation.

    Args:
        frames: in order of time.
        packages: of the objects; what is told of others is left out.
        poses_of: see :mod:`pnp_ros.evaluation.told`.
        pairing: which pose is of which instance, and what is true of it; None: nothing is known to be true.
        overlaps: render the objects, by name, at their poses and compare; what is absent is left out.
        object_id: for BOP's CSV.
        watch: is shown each image with what was told, to draw it, say.

    Raises:
        ValueError: if there is no image, nothing of the objects in any, or the truth that they are paired with is known
            in none.
    """
    pairing, by_name, done, unknown = pairing or AsTold(), {each.name: each for each in packages}, SceneEvaluation(), 0
    for frame in frames:
        told = {
            name: _seen(frame, record, (overlaps or {}).get(kind))
            for name, record in poses_of(frame).items()
            if (kind := object_of(name, by_name)) is not None
        }
        done.poses.append(told)
        if watch is not None:
            watch(frame, told)
        paired = pairing.pair(frame, told)
        if paired is None:
            unknown += 1
            continue
        for name, record in paired.records.items():
            placed = replace(record, stamp=1e-9 * frame.stamp_ns, camera=frame.camera)
            done.instances.setdefault(name, Evaluation()).add(frame, placed, object_id)
        for kind, strays in paired.strays.items():
            done.strays.setdefault(kind, []).extend(strays)
    if not done.poses:
        raise ValueError("the source holds no image")
    if not done.instances:
        what = "poses" if isinstance(pairing, AsTold) else "truth"
        raise ValueError(f"{what}: expected an instance of {', '.join(by_name)} at the time of an image, found none")
    if isinstance(pairing, ByPlace):
        check_truth([record for evaluation in done.instances.values() for record in evaluation.records])
    for evaluation in done.instances.values():
        evaluation.warnings += time_warnings(evaluation.stamps_ns)
    done.warnings = list(next(iter(done.instances.values())).warnings)
    if unknown:
        done.warnings.append(f"{unknown} of {len(done.poses)} images have no truth and are left out")
    done.swaps = pairing.swaps
    for warning in done.warnings:
        logger.warning(warning)
    return done


def evaluate_one(
    frames: Iterable[Frame],
    package: ObjectPackage,
    pose_of: PoseOf,
    truth_of: TruthOf | None = None,
    overlap: OverlapMeter | None = None,
    object_id: int = 1,
    watch: Callable[[Frame, FrameResult], None] | None = None,
) -> Evaluation:
    """:func:`evaluate` of one object of which there is one; see there.

    Args:
        frames, object_id: as there.
        package: of the object.
        pose_of: see :mod:`pnp_ros.evaluation.told`.
        truth_of: truth from outside of the source; the frames' own truth is used without it.
        overlap: renders the object; None leaves that out.
        watch: is shown each image with its record.

    Raises:
        ValueError: if there is no image.
    """
    name = package.name
    done = evaluate(
        frames,
        [package],
        lambda frame: {name: pose_of(frame)},
        Alone(package, truth_of),
        {} if overlap is None else {name: overlap},
        object_id,
        None if watch is None else lambda frame, told: watch(frame, told[name]),
    )
    return done.instances[name]


def check_truth(records: Sequence[FrameResult]) -> None:
    """For where there is nothing to report without a truth.

    Raises:
        ValueError: if the truth is known at the time of no image.
    """
    if all(record.truth is None and record.visible is None for record in records):
        raise ValueError("truth: is known at the time of no image: expected the images' stamps, and TF to their frame")


def _seen(frame: Frame, record: FrameResult, overlap: OverlapMeter | None) -> FrameResult:
    """What was told of an image, with the overlap, and with the image's time and camera."""
    ncc = overlap(frame, record.pose) if overlap is not None and record.pose is not None else None
    return replace(record, ncc=ncc, stamp=1e-9 * frame.stamp_ns, camera=frame.camera)


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
