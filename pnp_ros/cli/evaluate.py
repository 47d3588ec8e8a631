"""``pnp-ros evaluate BAG|SCENE|VIDEO|FOLDER --object objects/NAME [--truth TOPIC|FILE|TF]``.

With several objects, or several instances of each, who is who is found by place; see ``cli.evaluate_many``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.cli.evaluate_many import evaluate_many
from pnp_ros.cli.onboard import object_at
from pnp_ros.cli.progress import add_part, images, part_of
from pnp_ros.cli.reports import bop_name, overlap_meter, write_report
from pnp_ros.evaluation.adaptation_plot import adaptation_plots, history_of_bag, load_history
from pnp_ros.evaluation.comparison import compare, comparison_table
from pnp_ros.evaluation.evaluator import Evaluation, check_truth, evaluate_one
from pnp_ros.evaluation.frames import FrameSource, open_source
from pnp_ros.evaluation.report import table
from pnp_ros.evaluation.told import recorded, running
from pnp_ros.evaluation.truth import load_recorded, load_truth
from pnp_ros.networks.onnx_runtime import BACKENDS
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import SOLVERS, EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("input", type=Path, nargs="?", help="bag, BOP scene folder, video, or folder of images")
    parser.add_argument("--object", type=Path, nargs="+", help="object package, or a mesh; or several of them")
    parser.add_argument("--instances", type=int, default=1, help="of each object that there may be (default 1)")
    parser.add_argument("--truth", help="true poses: topic:/NAME, file:FILE, tf:FRAME, or tf (a BOP scene has its own)")
    parser.add_argument("--poses", help="take these poses, topic:/NAME or file:FILE, in place of running the estimator")
    parser.add_argument("--out", type=Path, default=Path("out/evaluate"), help="default %(default)s")
    parser.add_argument("--camera", type=Path, help="camera_info YAML, where the source has no calibration")
    parser.add_argument("--image-topic", help="of a bag with several image topics")
    parser.add_argument("--camera-info-topic", help="where it is not beside the image topic")
    parser.add_argument("--rectified", action="store_true", help="P of the CameraInfo holds, not K and D")
    parser.add_argument("--object-id", type=int, help="of a BOP scene with several objects; also in the BOP CSV")
    parser.add_argument("--overlap", action=argparse.BooleanOptionalAction, help="default: where there is no truth")
    parser.add_argument("--solver", choices=SOLVERS, default=SOLVERS[0], help="default %(default)s")
    parser.add_argument("--no-tracking", action="store_true", help="search every image, without tracking")
    add_part(parser)
    parser.add_argument("--device", default="cpu", help="of the networks: cpu or cuda (default cpu)")
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="of the networks (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the networks (default %(default)s)")
    parser.add_argument("--versions", type=Path, help="use the newest of these adapted weights")
    parser.add_argument(
        "--adaptation", type=Path, help="draw this one: out of pnp-ros adapt, or a bag (default: input)"
    )
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A", "B"), help="compare two reports instead")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and write the report, or compare two.

    Raises:
        ValueError: if an argument is missing or wrong, or the source cannot be read.
    """
    if arguments.compare:
        compared = compare(*arguments.compare)
        print(comparison_table(compared))
        return 0
    if arguments.input is None or arguments.object is None:
        raise ValueError("expected an input and --object, or --compare A B")
    packages = [load_adapted(each, arguments.versions, arguments.out / "object") for each in arguments.object]
    source = open_source(
        arguments.input,
        camera=arguments.camera,
        image_topic=arguments.image_topic,
        camera_info_topic=arguments.camera_info_topic,
        object_id=arguments.object_id,
        rectified=arguments.rectified,
        window=part_of(arguments),
    )
    if len(packages) > 1 or arguments.instances > 1:
        return evaluate_many(arguments, packages, source)
    (package,) = packages
    done = _evaluate(arguments, package, source)
    summary = write_report(arguments.out, package, source, done, more_plots=_adaptation(arguments.adaptation, source))
    print(table({key: value for key, value in summary.items() if value is not None}))
    print(f"{arguments.out}: report.html, report.json, poses.json, poses.csv, poses.tum, {bop_name(source, package)}")
    return 0


def _evaluate(arguments: argparse.Namespace, package: ObjectPackage, source: FrameSource) -> Evaluation:
    bag = source.path if source.kind == "bag" else None
    truth_of = load_truth(arguments.truth, bag) if arguments.truth else None
    if arguments.poses:
        pose_of = recorded(load_recorded(arguments.poses, bag), package.name)
    else:
        config = EstimatorConfig(solver=arguments.solver, track=not arguments.no_tracking and source.kind != "bop")
        pose_of = running(PoseEstimator(package, config, arguments.device, backend=arguments.backend))
    has_truth = truth_of is not None or source.kind == "bop"
    wanted = arguments.overlap or (arguments.overlap is None and not has_truth)
    overlap = overlap_meter(package, arguments.overlap is not None) if wanted else None
    frames = images(source, arguments.max_frames)
    done = evaluate_one(frames, package, pose_of, truth_of, overlap, arguments.object_id or 1)
    if truth_of is not None:
        check_truth(done.records)
    return done


def load_adapted(folder: Path, versions: Path | None, out: Path) -> ObjectPackage:
    """The object package, with the newest of its adapted weights where a folder of versions is given.

    Of a mesh file a package is made on the way, in the folder ``out``.

    Raises:
        ValueError: if the package cannot be used, or the folder does not exist.
    """
    package = object_at(folder, out)
    if versions is None:
        return package
    if not versions.is_dir():
        raise ValueError(f"--versions {versions}: no such folder")
    newest = VersionStore(versions, package).newest()
    print(f"weights: version {newest.number} of {versions}" if newest else "weights: the object package's own")
    return newest.applied_to(package) if newest else package


def _adaptation(given: Path | None, source: FrameSource) -> list[tuple[str, str]]:
    """Plots of the adaptation that is given, or that was recorded in the bag."""
    if given is not None:
        return adaptation_plots(load_history(given))
    return adaptation_plots(history_of_bag(source.path)) if source.kind == "bag" else []
