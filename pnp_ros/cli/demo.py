"""``pnp-ros demo``: a simulated camera, the estimator and a recorder as ROS 2 processes, and what came of it.

Without ROS 2 the same images go through the same estimator in this process.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pnp_ros.cli.demo_report import write_images
from pnp_ros.cli.node_processes import run_nodes
from pnp_ros.cli.onboard import object_at
from pnp_ros.cli.progress import images
from pnp_ros.cli.recorded_run import DIAGNOSTICS, OBJECTS, POSE, evaluate_run
from pnp_ros.cli.recording import check_place, new_recording
from pnp_ros.cli.reports import write_report
from pnp_ros.cli.requirements import MissingRequirement, has_ros, need_renderer
from pnp_ros.cli.run import draw, draw_many
from pnp_ros.cli.scene_report import scene_table, write_scene_report
from pnp_ros.cli.simulated_bag import (
    CAMERA_INFO,
    IMAGE,
    RECORDED_RATE,
    TRUTH,
    crowd_frames,
    recorded_frames,
    rendered_frames,
    write_bag,
)
from pnp_ros.evaluation.evaluator import Evaluation, evaluate, evaluate_one
from pnp_ros.evaluation.frames import FrameSource, open_bag, open_source
from pnp_ros.evaluation.overlay import MeshOverlay
from pnp_ros.evaluation.pairing import ByPlace
from pnp_ros.evaluation.report import table
from pnp_ros.evaluation.told import recorded_scene, running, running_scene
from pnp_ros.evaluation.truth import load_recorded, load_truth, load_truths
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.scene import Scene
from pnp_ros.rendering.crowd import CrowdFrame

TOPICS = [IMAGE, CAMERA_INFO, TRUTH, POSE, OBJECTS, "/tf", DIAGNOSTICS]

# the simulated camera and the mesh it renders are just what the estimator believes
EXACT: dict[str, Any] = {"focal_sigma": 0.0, "centre_sigma": 0.0, "size_sigma": 0.0, "shape_sigma": 0.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--object", type=Path, nargs="+", help="object package or mesh, or several of them (default: the demo's own)"
    )
    parser.add_argument("--instances", type=int, default=1, help="of each object (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="default %(default)s")
    parser.add_argument("--frames", type=int, default=300, help="images (default %(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, help="images a second (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the object's path (default %(default)s)")
    parser.add_argument("--no-ros", action="store_true", help="in this process, even where ROS 2 is installed")
    parser.add_argument("--device", default="cpu", help="of the networks: cpu or cuda (default cpu)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the networks (default %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Estimate, evaluate, leave bag, video, contact sheet and report.

    Returns:
        0; 1 if there was no valid pose.

    Raises:
        ValueError: if an argument is wrong, the bag would replace something of the user's, or a node failed.
    """
    if arguments.frames < 1 or not 0.0 < arguments.rate < math.inf:
        raise ValueError("--frames, --rate: expected more than 0")
    out: Path = arguments.out
    bag = out / "bag"
    check_place(bag)
    wanted = arguments.object or [resource("config/objects/demo")]
    packages = [object_at(path, out / "object") for path in wanted]
    for package in packages:
        print(f"object {package.name}: {package.mesh.describe()}")
    nodes = has_ros() and not arguments.no_ros
    with new_recording(bag) as new:
        if nodes:
            _run_nodes(arguments, packages, new.resolve())
        else:
            print("without ROS 2: the images go through the estimator in this process", flush=True)
            _simulate(arguments, packages, new)
    if len(packages) > 1 or arguments.instances > 1:
        return _of_many(arguments, packages, bag, nodes)
    (package,) = packages
    done, source, figures = _evaluate_nodes(bag, package) if nodes else _estimate(arguments, bag, package)
    summary = write_report(out, package, source, done, figures)
    overlay = MeshOverlay(package.mesh)
    write_images(
        source, lambda k, frame: draw(overlay, frame, k, done.records[k]), len(done.records), arguments.rate, out
    )
    print(f"\n{table({key: value for key, value in summary.items() if value is not None})}\n")
    print(f"{out}: bag/, overlay.mp4, contact_sheet.png, report.html, report.json")
    return 0 if any(record.is_valid for record in done.records) else 1


def _of_many(arguments: argparse.Namespace, packages: Sequence[ObjectPackage], bag: Path, nodes: bool) -> int:
    """Evaluate and draw many objects; 0, or 1 if there was no valid pose."""
    out, source = arguments.out, open_source(bag, image_topic=IMAGE)
    if nodes:
        poses_of = recorded_scene(load_recorded(OBJECTS, bag))
    else:
        poses_of = running_scene(Scene(packages, EstimatorConfig(**EXACT), arguments.instances, arguments.device))
    frames = images(source, description="evaluating" if nodes else "estimating")
    done = evaluate(frames, packages, poses_of, ByPlace(packages, load_truths(TRUTH, bag, ())))
    summary = write_scene_report(out, packages, source, done)
    meshes = {package.name: MeshOverlay(package.mesh) for package in packages}
    write_images(
        source, lambda k, frame: draw_many(meshes, frame, k, done.poses[k]), len(done.poses), arguments.rate, out
    )
    print(f"\n{scene_table(summary)}\n")
    print(f"{out}: bag/, overlay.mp4, contact_sheet.png, report.html, report.json, a folder for each instance")
    return 0 if any(record.is_valid for told in done.poses for record in told.values()) else 1


def _evaluate_nodes(bag: Path, package: ObjectPackage) -> tuple[Evaluation, FrameSource, dict[str, Any]]:
    """What the nodes left in the bag."""
    print("evaluating the bag", flush=True)
    source = open_source(bag, image_topic=IMAGE)
    done, figures = evaluate_run(source, IMAGE, package, load_truth(TRUTH, bag))
    with open_bag(bag) as reader:
        figures["run"] = {"images_published": reader.counts[TRUTH], **figures["run"]}
    return done, source, figures


def _simulate(arguments: argparse.Namespace, packages: Sequence[ObjectPackage], bag: Path) -> None:
    """The bag with images and truth, rendered or from the recording that comes with the package."""
    frames: Iterator[CrowdFrame] | None = None
    count, (package, *others) = arguments.frames, packages
    several = bool(others) or arguments.instances > 1
    try:
        need_renderer()
    except MissingRequirement as error:
        if several or arguments.object is not None:
            raise
        print(f"nothing can be rendered here, so the recording that comes with the package is used: {error}")
        arguments.rate = RECORDED_RATE
        frames = (CrowdFrame.alone(frame, package.name) for frame in recorded_frames(count))
    if frames is None and several:
        meshes = {package.name: package.mesh for package in packages}
        frames = crowd_frames(meshes, arguments.instances, arguments.seed, arguments.rate, count)
    elif frames is None:
        rendered = rendered_frames(package.mesh, arguments.seed, arguments.rate, count)
        frames = (CrowdFrame.alone(frame, package.name) for frame in rendered)
    write_bag(frames, count, arguments.rate, bag)


def _estimate(
    arguments: argparse.Namespace, bag: Path, package: ObjectPackage
) -> tuple[Evaluation, FrameSource, dict[str, Any]]:
    """The estimator over the images of the bag."""
    source = open_source(bag, image_topic=IMAGE)
    estimator = PoseEstimator(package, EstimatorConfig(**EXACT), arguments.device)
    done = evaluate_one(images(source, description="estimating"), package, running(estimator), load_truth(TRUTH, bag))
    return done, source, {"run": {"images": len(done.records)}}


def _run_nodes(arguments: argparse.Namespace, packages: Sequence[ObjectPackage], bag: Path) -> None:
    """The three processes, from start to a finished bag."""
    folders = [str(package.root.resolve()) for package in packages]
    parameters: dict[str, dict[str, Any]] = {
        "pose_estimator": {
            "objects": folders,
            "max_instances": arguments.instances,
            "device": arguments.device,
            "threads": arguments.threads,
            **{f"estimator.{name}": value for name, value in EXACT.items()},
        },
        "bag_recorder": {"output": str(bag), "topics": TOPICS},
        "simulated_camera": {
            "objects": folders,
            "instances": arguments.instances,
            "frames": arguments.frames,
            "rate": arguments.rate,
            "seed": arguments.seed,
            "wait_for_subscribers": 2,
        },
    }
    remappings = {
        "pose_estimator": [f"image:={IMAGE}", f"camera_info:={CAMERA_INFO}"],
        "simulated_camera": ["__ns:=/camera"],
    }
    seconds = arguments.frames / arguments.rate
    run_nodes(parameters, remappings, "simulated_camera", seconds, arguments.out / "parameters.yaml")
