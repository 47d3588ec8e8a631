"""``pnp-ros replay BAG --object objects/NAME``: a bag's images through the nodes, and what became of each of them.

Of one object, or of several objects and instances, as ``evaluate`` has them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pnp_ros.cli.node_processes import run_nodes
from pnp_ros.cli.recorded_run import DIAGNOSTICS, OBJECTS, POSE, counted_by_the_node, evaluate_run
from pnp_ros.cli.recording import check_place, new_recording
from pnp_ros.cli.reports import write_report
from pnp_ros.cli.requirements import need_ros
from pnp_ros.cli.scene_report import scene_table, write_scene_report
from pnp_ros.evaluation.evaluator import evaluate
from pnp_ros.evaluation.frames import FrameSource, open_bag, open_source
from pnp_ros.evaluation.pairing import ByPlace
from pnp_ros.evaluation.report import table
from pnp_ros.evaluation.told import recorded_scene
from pnp_ros.evaluation.truth import TruthsOf, load_recorded, load_truth, load_truths
from pnp_ros.io.bag_messages import COMPRESSED_IMAGE
from pnp_ros.objects.instance_names import instance_names
from pnp_ros.objects.object_package import ObjectPackage, load_object_package

_CLOCK_HZ = 100.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bag", type=Path, help="bag of ROS 2 or ROS 1, with images and their CameraInfo")
    parser.add_argument("--object", type=Path, nargs="+", required=True, help="object package, or several of them")
    parser.add_argument("--instances", type=int, default=1, help="of each object that there may be (default 1)")
    parser.add_argument("--out", type=Path, default=Path("out/replay"), help="default %(default)s")
    parser.add_argument("--rate", type=float, default=1.0, help="speed (default %(default)s: as recorded)")
    parser.add_argument("--keep-all", action="store_true", help="process every image in order, however late")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the networks (default %(default)s)")
    parser.add_argument("--image-topic", help="of a bag with several image topics")
    parser.add_argument("--camera-info-topic", help="where it is not beside the image topic")
    parser.add_argument("--rectified", action="store_true", help="P of the CameraInfo holds, not K and D")
    parser.add_argument(
        "--truth", help="true poses: topic:/NAME, file:FILE, tf:FRAME, or tf, of the bag that is played"
    )
    parser.add_argument("--device", default="cpu", help="of the networks: cpu or cuda (default cpu)")


def run(arguments: argparse.Namespace) -> int:
    """Play, estimate and record as three processes; then say what was recorded.

    Returns:
        0; 1 if images are in none of the counts.

    Raises:
        ValueError: if ROS is absent, the bag cannot be read or has no CameraInfo, the recording would replace something
            of the user's, or a node failed.
    """
    if not 0.0 < arguments.rate < math.inf:
        raise ValueError(f"--rate: expected more than 0, got {arguments.rate:g}")
    out: Path = arguments.out
    recording = out / "bag"
    check_place(recording, arguments.bag)
    need_ros()
    packages = [load_object_package(folder) for folder in arguments.object]
    many = len(packages) > 1 or arguments.instances > 1
    with open_bag(arguments.bag) as reader:
        image, info = reader.camera_topics(arguments.image_topic, arguments.camera_info_topic)
        if info is None:
            raise ValueError(f"{arguments.bag}: no CameraInfo beside {image}; name it with --camera-info-topic")
        compressed, played = reader.topics[image] == COMPRESSED_IMAGE, reader.counts[image]
        begin_ns, end_ns = reader.span_ns
    truth_of = truths_of = None
    if arguments.truth and many:
        names = [name for package in packages for name in instance_names(package.name, arguments.instances)]
        truths_of = load_truths(arguments.truth, arguments.bag, names)
    elif arguments.truth:
        truth_of = load_truth(arguments.truth, arguments.bag)
    remappings = {"pose_estimator": [f"image:={image.removesuffix('/compressed')}", f"camera_info:={info}"]}
    seconds = 1e-9 * (end_ns - begin_ns) / arguments.rate
    with new_recording(recording, arguments.bag) as new:
        parameters = _parameters(arguments, new, image, info, compressed)
        run_nodes(parameters, remappings, "bag_player", seconds, out / "parameters.yaml")

    print("evaluating the recording", flush=True)
    source = open_source(recording, image_topic=image, camera_info_topic=info, rectified=arguments.rectified)
    if many:
        return _of_many(out, packages, source, image, played, truths_of)
    (package,) = packages
    done, figures = evaluate_run(source, image, package, truth_of)
    figures["run"] = _accounted(played, figures)
    summary = write_report(out, package, source, done, figures)
    print(f"\n{table({key: value for key, value in summary.items() if value is not None})}\n")
    print(f"{out}: bag/, report.html, report.json")
    return 1 if figures["run"]["images_unaccounted_for"] else 0


def _parameters(
    arguments: argparse.Namespace, recording: Path, image: str, info: str, compressed: bool
) -> dict[str, dict[str, Any]]:
    """Of each node, by its name."""
    return {
        "pose_estimator": {
            "objects": [str(folder.resolve()) for folder in arguments.object],
            "max_instances": arguments.instances,
            "rectified": arguments.rectified,
            "image_transport": "compressed" if compressed else "raw",
            "device": arguments.device,
            "threads": arguments.threads,
            "keep_all": arguments.keep_all,
            "use_sim_time": True,
        },
        "bag_recorder": {"output": str(recording.resolve()), "topics": [image, info, POSE, OBJECTS, DIAGNOSTICS]},
        "bag_player": {
            "bag": str(arguments.bag.resolve()),
            "topics": [image, info],
            "rate": arguments.rate,
            "clock": _CLOCK_HZ,
            "wait_for_subscribers": 2,
        },
    }


def _of_many(
    out: Path,
    packages: Sequence[ObjectPackage],
    source: FrameSource,
    image: str,
    played: int,
    truths_of: TruthsOf | None,
) -> int:
    """Evaluate what was recorded of many; returns what :func:`run` does."""
    found = load_recorded(OBJECTS, source.path, since=image)
    pairing = None if truths_of is None else ByPlace(packages, truths_of)
    done = evaluate(source.frames(), packages, recorded_scene(found), pairing)
    told = counted_by_the_node(source.path)
    run = _accounted(played, {"run": {"images_processed": len(found)}, "in_diagnostics": told})
    summary = write_scene_report(out, packages, source, done, {"run": run, "in_diagnostics": told})
    print(f"\n{scene_table(summary)}\n{table({'run': run})}\n")
    print(f"{out}: bag/, report.html, report.json, poses.json, poses.csv, a folder for each instance")
    return 1 if run["images_unaccounted_for"] else 0


def _accounted(played: int, figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What became of the images, with those that were played and that are in none of the counts."""
    run, told = figures["run"], figures["in_diagnostics"]
    unaccounted = _unaccounted(played, run["images_processed"], told)
    return {"images_played": played, **run, "images_unaccounted_for": unaccounted}


def _unaccounted(played: int, processed: int, told: Mapping[str, Any]) -> int:
    """Images that were played and neither processed nor counted as dropped, unpaired, failed or lost."""
    names = ("dropped_for_newer_ones", "skipped", "without_camera_info", "reported_lost_on_the_way", "errors")
    return played - processed - sum(told.get(name, 0) for name in names)
