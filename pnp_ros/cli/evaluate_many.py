"""``pnp-ros evaluate`` with several objects, or several instances of each."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from pnp_ros.cli.progress import images
from pnp_ros.cli.reports import overlap_meters
from pnp_ros.cli.scene_report import scene_table, write_scene_report
from pnp_ros.evaluation.evaluator import evaluate
from pnp_ros.evaluation.frames import Frame, FrameSource
from pnp_ros.evaluation.pairing import ByPlace
from pnp_ros.evaluation.told import recorded_scene, running_scene
from pnp_ros.evaluation.truth import Truth, TruthsOf, load_recorded, load_truths
from pnp_ros.objects.instance_names import instance_names
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.scene import Scene


def evaluate_many(arguments: argparse.Namespace, packages: Sequence[ObjectPackage], source: FrameSource) -> int:
    """Evaluate, write the reports, print a line for each instance.

    Raises:
        ValueError: if an argument is wrong.
    """
    bag = source.path if source.kind == "bag" else None
    truths_of: TruthsOf | None = None
    if arguments.truth:
        names = [name for package in packages for name in instance_names(package.name, arguments.instances)]
        truths_of = load_truths(arguments.truth, bag, names)
    elif source.kind == "bop":
        if len(packages) > 1:
            raise ValueError(
                "--object: expected one of a BOP scene, whose truth is of one object, with its --instances"
            )
        truths_of = _of_the_scene(packages[0].name)
    if arguments.poses:
        poses_of = recorded_scene(load_recorded(arguments.poses, bag))
    else:
        config = EstimatorConfig(solver=arguments.solver, track=not arguments.no_tracking and source.kind != "bop")
        poses_of = running_scene(Scene(packages, config, arguments.instances, arguments.device, arguments.backend))
    meters = {}
    if arguments.overlap or (arguments.overlap is None and truths_of is None):
        asked = arguments.overlap is not None
        meters = overlap_meters(packages, asked)
    pairing = None if truths_of is None else ByPlace(packages, truths_of, named=source.kind != "bop")
    done = evaluate(images(source, arguments.max_frames), packages, poses_of, pairing, meters)
    summary = write_scene_report(arguments.out, packages, source, done)
    print(scene_table(summary))
    print(f"{arguments.out}: report.html, report.json, poses.json, poses.csv, a folder for each")
    return 0


def _of_the_scene(name: str) -> TruthsOf:
    """The instances that a BOP scene knows, the most visible first: it does not say which is which in another image."""

    def truths_of(frame: Frame) -> Mapping[str, Truth]:
        truths = frame.truths or ()
        return {f"{name}_{index}": Truth(pose, True) for index, pose in enumerate(truths)}

    return truths_of
