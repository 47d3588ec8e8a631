"""``pnp-ros demo``: a simulated camera, the estimator and a recorder as ROS 2 processes, and what came of it."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from pnp_ros.cli.demo_report import write_images
from pnp_ros.cli.evaluate import write_report
from pnp_ros.cli.node_processes import run_nodes
from pnp_ros.cli.recorded_run import DIAGNOSTICS, OBJECTS, POSE, evaluate_run
from pnp_ros.cli.requirements import need_ros
from pnp_ros.evaluation.frames import open_bag, open_source
from pnp_ros.evaluation.report import table
from pnp_ros.evaluation.truth import load_truth
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import load_object_package

IMAGE, CAMERA_INFO, TRUTH = "/camera/image_raw", "/camera/camera_info", "/camera/simulated_camera/truth"
TOPICS = [IMAGE, CAMERA_INFO, TRUTH, POSE, OBJECTS, "/tf", DIAGNOSTICS]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--object", type=Path, help="object package (default: the demo's own)")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="default %(default)s")
    parser.add_argument("--frames", type=int, default=300, help="images (default %(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, help="images a second (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the object's path (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="of the networks: cpu or cuda (default cpu)")


def run(arguments: argparse.Namespace) -> int:
    """Run the nodes, evaluate their bag, leave bag, video, contact sheet and report.

    Returns:
        0; 1 if no pose was published.

    Raises:
        ValueError: if ROS is absent, an argument is wrong, or a node failed.
    """
    need_ros()
    if arguments.frames < 1 or arguments.rate <= 0:
        raise ValueError("--frames, --rate: expected more than 0")
    folder = arguments.object or resource("config/objects/demo")
    package = load_object_package(folder)
    out: Path = arguments.out
    bag = out / "bag"
    shutil.rmtree(bag, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    print(f"object {package.name}: {package.mesh.describe()}")
    _run_nodes(arguments, folder.resolve(), bag.resolve())

    print("evaluating the bag", flush=True)
    source = open_source(bag, image_topic=IMAGE)
    done, figures = evaluate_run(source, IMAGE, package, load_truth(TRUTH, bag))
    with open_bag(bag) as reader:
        figures["run"] = {"images_published": reader.counts[TRUTH], **figures["run"]}
    summary = write_report(out, package, source, done, figures)
    write_images(source, done.records, package, arguments.rate, out)
    print(f"\n{table(summary)}\n")
    print(f"{out}: bag/, overlay.mp4, contact_sheet.png, report.html, report.json")
    return 0 if figures["run"]["poses_published"] else 1


def _run_nodes(arguments: argparse.Namespace, folder: Path, bag: Path) -> None:
    """The three processes, from start to a finished bag."""
    parameters: dict[str, dict[str, Any]] = {
        "pose_estimator": {"object": str(folder), "device": arguments.device, "threads": 1},
        "bag_recorder": {"output": str(bag), "topics": TOPICS},
        "simulated_camera": {
            "object": str(folder),
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
    run_nodes(parameters, remappings, "simulated_camera", seconds, bag.parent / "parameters.yaml")
