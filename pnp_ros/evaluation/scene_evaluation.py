"""Goes through a source with many objects: what came of each instance, and whether it kept its name."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pnp_ros.evaluation.association import Association
from pnp_ros.evaluation.evaluator import Evaluation, OverlapMeter, record_of
from pnp_ros.evaluation.frames import Frame, Time, by_stamp
from pnp_ros.evaluation.truth import Truth, TruthsOf
from pnp_ros.objects.instance_names import object_of
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.result import FrameResult, ObjectState
from pnp_ros.pipeline.scene import Scene

logger = logging.getLogger(__name__)
IMAGE = "image"  # the stage that is the whole image, all objects together
PosesOf = Callable[[Frame], Mapping[str, FrameResult]]
Watch = Callable[[Frame, Mapping[str, FrameResult]], None]


@dataclass
class SceneEvaluation:
    """What came of all images.

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


def running_scene(scene: Scene) -> PosesOf:
    """Poses from a scene; it begins anew where the time of the images jumps back."""
    images = Time()

    def poses_of(frame: Frame) -> Mapping[str, FrameResult]:
        if images.jumps_back(frame.stamp_ns):
            scene.reset()
        stamp = 1e-9 * frame.stamp_ns
        begin = time.perf_counter()
        found = scene.estimate(frame.rgb, frame.camera, stamp)
        seconds = time.perf_counter() - begin
        return {
            name: replace(
                FrameResult.of(item, stamp, frame.camera), name=name, latency={**item.latency, IMAGE: seconds}
            )
            for name, item in found.items()
        }

    return poses_of


def recorded_scene(poses: Mapping[int, Mapping[str, FrameResult]], tolerance_ns: int = 1_000_000) -> PosesOf:
    """Poses by stamp; an image without any counts as dropped, for each instance that is told at any time."""
    told = by_stamp(poses, tolerance_ns)
    dropped = FrameResult(ObjectState.DROPPED, score=0.0, reason="no pose was recorded for this image")
    names = dict.fromkeys(name for each in poses.values() for name in each)

    def poses_of(frame: Frame) -> Mapping[str, FrameResult]:
        found = told(frame)
        return {name: replace(dropped, name=name) for name in names} if found is None else found

    return poses_of


def evaluate_scene(
    frames: Iterable[Frame],
    packages: Sequence[ObjectPackage],
    poses_of: PosesOf,
    truths_of: TruthsOf | None = None,
    overlaps: Mapping[str, OverlapMeter] | None = None,
    watch: Watch | None = None,
    named: bool = True,
) -> SceneEvaluation:
    """Go through the images with many objects.

    Args:
        frames: in order of time.
        packages: of the objects; what is told or true of others is left out.
        poses_of: :func:`running_scene` or :func:`recorded_scene`.
        truths_of: the true instances of an image by name; None where nothing is known of it.
        overlaps: by the object's name; see :func:`~pnp_ros.evaluation.evaluator.evaluate`.
        watch: is shown each image with what was told.
        named: whether a true instance has the same name in all images; else swaps are not counted.

    Raises:
        ValueError: if there is no image, or no image has a truth though there should be some.
    """
    by_name = {package.name: package for package in packages}
    known = {name: Association(package) for name, package in by_name.items()}
    done, unknown = SceneEvaluation(), 0
    for frame in frames:
        told = {name: record for name, record in poses_of(frame).items() if object_of(name, by_name)}
        done.poses.append(
            {
                name: record_of(frame, record, Truth(), *_seen_by(name, by_name, overlaps))
                for name, record in told.items()
            }
        )
        if watch is not None:
            watch(frame, done.poses[-1])
        truths = truths_of(frame) if truths_of is not None else None
        if truths_of is None:
            for name, record in done.poses[-1].items():
                done.instances.setdefault(name, Evaluation()).add(frame, record)
        elif truths is None:
            unknown += 1
        else:
            if not named:
                known = {name: Association(package) for name, package in by_name.items()}
            _add_paired(frame, done, known, truths)
    if not done.poses:
        raise ValueError("the source holds no image")
    if truths_of is not None and not done.instances:
        raise ValueError(f"truth: holds no instance of {', '.join(by_name)} at the time of any image")
    for evaluation in done.instances.values():
        evaluation.close()
    done.warnings = list(next(iter(done.instances.values())).warnings) if done.instances else []
    if unknown:
        done.warnings.append(f"{unknown} of {len(done.poses)} images have no truth and are left out")
    if truths_of is not None and named:
        done.swaps = {name: association.swaps for name, association in known.items()}
    for warning in done.warnings:
        logger.warning(warning)
    return done


def _add_paired(
    frame: Frame, done: SceneEvaluation, known: Mapping[str, Association], truths: Mapping[str, Truth]
) -> None:
    """What was told in the last image beside the truth."""
    told = done.poses[-1]
    for kind, association in known.items():
        own = {name: record for name, record in told.items() if object_of(name, known) == kind}
        paired, strays = association.pair(own, {n: t for n, t in truths.items() if object_of(n, known) == kind})
        for name, record in paired.items():
            done.instances.setdefault(name, Evaluation()).add(
                frame, replace(record, stamp=1e-9 * frame.stamp_ns, camera=frame.camera)
            )
        done.strays.setdefault(kind, []).extend(strays)


def _seen_by(
    name: str, packages: Mapping[str, ObjectPackage], overlaps: Mapping[str, OverlapMeter] | None
) -> tuple[ObjectPackage, OverlapMeter | None]:
    kind = object_of(name, packages) or ""
    return packages[kind], (overlaps or {}).get(kind)
