"""``pnp-ros adapt BAG|SCENE|VIDEO|FOLDER --object objects/NAME --reference tf:FRAME|topic:/NAME|board:FILE|self``."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from pnp_ros.adaptation.config import AdaptationConfig, Objective
from pnp_ros.adaptation.offline import AdaptationResult, Budget, Progress, adapt
from pnp_ros.adaptation.references.reference import KnownReference, Reference, board_reference
from pnp_ros.adaptation.references.self_supervision import SelfReference
from pnp_ros.adaptation.status import Gate
from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.cli.progress import images
from pnp_ros.cli.reports import write_report
from pnp_ros.evaluation.adaptation_plot import HISTORY_NAME, adaptation_plots, load_history, write_adaptation_image
from pnp_ros.evaluation.evaluator import OverlapMeter, evaluate_one
from pnp_ros.evaluation.frames import Frame, FrameSource, open_bag, open_source
from pnp_ros.evaluation.pose_source import PoseSource, PoseSourceKind
from pnp_ros.evaluation.report import figure_text
from pnp_ros.evaluation.time_blocks import TimeBlocks
from pnp_ros.evaluation.told import running
from pnp_ros.evaluation.truth import Truth, TruthOf, load_truth
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.config import NETWORKS_ALONE, EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator

_OBJECTS = "pnp_ros/msg/ObjectPoseArray"
_REASONS_SHOWN = 5
_FIGURES = (  # of a report's summary: what it is called, and where it stands
    ("recall at 10 % of the diameter", ("accuracy", "recall_10_percent")),
    ("recall, 5 cm and 5 deg", ("accuracy", "recall_5cm_5deg")),
    ("median rotation error, deg", ("accuracy", "rotation_deg", "median")),
    ("median translation error, mm", ("accuracy", "translation_mm", "median")),
    ("90 % of the errors below, % of the diameter", ("accuracy", "add_percent", "p90")),
    ("mean NEES (6 is ideal)", ("consistency", "mean_nees")),
    ("valid poses off by more than 10 %", ("false_poses", "valid_beyond_10_percent")),
    ("valid poses without the object", ("false_poses", "valid_while_not_visible")),
    ("correlation with the re-rendered object, median", ("overlap", "median")),
    ("all images that correlate above 0.6", ("overlap", "share_of_all_frames")),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    config = AdaptationConfig()
    parser.add_argument("input", type=Path, help="bag, BOP scene folder, video, or folder of images")
    parser.add_argument("--object", type=Path, required=True, help="object package")
    parser.add_argument(
        "--reference",
        help="true poses: tf:FRAME, topic:/NAME, file:FILE (JSON, CSV), board:FILE (YAML of an ArUco or ChArUco board) "
        "or self, the estimator's own poses where they are confirmed (a BOP scene has its own)",
    )
    parser.add_argument("--out", type=Path, default=Path("out/adapt"), help="default %(default)s")
    parser.add_argument("--versions", type=Path, help="folder of the adapted weights (default: versions in --out)")
    parser.add_argument("--camera", type=Path, help="camera_info YAML, where the source has no calibration")
    parser.add_argument("--image-topic", help="of a bag with several image topics")
    parser.add_argument("--camera-info-topic", help="where it is not beside the image topic")
    parser.add_argument("--rectified", action="store_true", help="P of the CameraInfo holds, not K and D")
    parser.add_argument("--object-id", type=int, help="of a BOP scene with several objects")
    parser.add_argument("--steps", type=int, help="of the optimiser, at most")
    parser.add_argument("--minutes", type=float, help="by the clock, at most; not reproducible")
    parser.add_argument("--epochs", type=int, help="times through the images (default: 1, or until the limits)")
    parser.add_argument("--steps-per-image", type=int, default=1, help="default %(default)s")
    parser.add_argument("--blocks", type=int, default=9, help="of time; every third is held out (default %(default)s)")
    parser.add_argument("--objective", choices=get_args(Objective), default=config.objective, help="(%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=config.learning_rate, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=config.seed)
    parser.add_argument("--device", default="cpu", help="of the networks: cpu or cuda (default cpu)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the networks (default %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Measure, adapt, measure again, say what came of it.

    Raises:
        ValueError: if an argument is wrong, or the source or the reference cannot be read.
    """
    config = AdaptationConfig(objective=arguments.objective, learning_rate=arguments.learning_rate, seed=arguments.seed)
    budget = Budget(arguments.steps, arguments.minutes, arguments.epochs)
    package = load_object_package(arguments.object)
    source = open_source(
        arguments.input,
        camera=arguments.camera,
        image_topic=arguments.image_topic,
        camera_info_topic=arguments.camera_info_topic,
        object_id=arguments.object_id,
        rectified=arguments.rectified,
    )
    reference, truth_of = _reference(arguments.reference, source)
    stamps = [frame.stamp_ns for frame in images(source, description="reading")]
    blocks = TimeBlocks.of(stamps, arguments.blocks)
    count_out = sum(map(blocks.is_held_out, stamps))
    learnt = partial(_frames, source, lambda frame: not blocks.is_held_out(frame.stamp_ns))
    shown = partial(_frames, source, lambda frame: blocks.is_held_out(frame.stamp_ns))
    held_out = FrameSource(source.path, source.kind, shown, lambda: count_out)
    store = VersionStore(arguments.versions or arguments.out / "versions", package)
    overlap = not reference.supervision.independent
    measured = partial(_measured, package, store, held_out, truth_of, overlap, arguments.device, arguments.out)

    arguments.out.mkdir(parents=True, exist_ok=True)
    before = measured("before")
    with (arguments.out / HISTORY_NAME).open("w") as file:
        result = adapt(
            lambda: tqdm(learnt(), "adapting", total=len(stamps) - count_out, unit=" images"),
            package,
            store,
            config,
            reference,
            budget=budget,
            steps_per_image=arguments.steps_per_image,
            device=arguments.device,
            on_progress=lambda progress: _note(file, progress),
        )
    history = load_history(arguments.out)
    write_adaptation_image(arguments.out / "adaptation.png", history)
    after = measured("after", adaptation_plots(history))
    print(_table(before, after))
    print(_outcome(result, store, arguments))
    return 0


def _frames(source: FrameSource, chosen: Callable[[Frame], bool]) -> Iterator[Frame]:
    return (frame for frame in source.frames() if chosen(frame))


def _note(file: Any, progress: Progress) -> None:
    file.write(json.dumps(progress.to_plain(), allow_nan=False) + "\n")
    file.flush()


def _reference(text: str | None, source: FrameSource) -> tuple[Reference, TruthOf | None]:
    """What to learn from, and what to measure with: None leaves it to the frames, or there is nothing."""
    bag = source.path if source.kind == "bag" else None
    if text is None:
        if source.kind != "bop":
            raise ValueError(f"expected --reference: {', '.join(kind.value for kind in PoseSourceKind)}")
        return KnownReference(lambda frame: frame.truths[0] if frame.truths else None), None
    try:
        spec = PoseSource.parse(text)
        if spec.kind is PoseSourceKind.SELF:
            return SelfReference(), None
        if spec.kind is PoseSourceKind.BOARD:
            board = board_reference(Path(spec.name))
            return board, lambda frame: Truth.seen(board.pose_of(frame))
        if bag is not None and spec.kind is PoseSourceKind.TF and spec.name in _estimated_frames(bag):
            raise ValueError(f"{spec}: an estimator published it; use the reference self")
        truth_of = load_truth(spec, bag)
    except ValueError as error:
        raise ValueError(f"--reference {error}") from error
    return KnownReference(lambda frame: truth_of(frame).pose), truth_of


def _estimated_frames(bag: Path) -> set[str]:
    """The frames of the objects that an estimator saw when the bag was recorded, and also sent to ``/tf``."""
    with open_bag(bag) as reader:
        topics = [topic for topic, kind in reader.topics.items() if kind == _OBJECTS]
        messages = reader.messages(*topics) if topics else ()
        return {seen.object_id for _, _, message in messages for seen in message.objects}


def _measured(
    package: ObjectPackage,
    store: VersionStore,
    held_out: FrameSource,
    truth_of: TruthOf | None,
    overlap: bool,
    device: str,
    out: Path,
    name: str,
    more_plots: Sequence[tuple[str, str]] = (),
) -> list[dict[str, Any]]:
    """Reports of the held-out images with the newest good weights: of the estimator, and of the networks alone."""
    newest = store.newest()
    adapted = newest.applied_to(package) if newest else package
    as_used = EstimatorConfig(track=held_out.kind != "bop")
    alone = dataclasses.replace(NETWORKS_ALONE, track=as_used.track)
    meter = OverlapMeter(package) if overlap else None
    reports = []
    for folder, config in ((name, as_used), (f"{name}_networks_alone", alone)):
        pose_of = running(PoseEstimator(adapted, config, device))
        done = evaluate_one(images(held_out, description=folder.replace("_", " ")), package, pose_of, truth_of, meter)
        reports.append(write_report(out / folder, package, held_out, done, more_plots=more_plots))
    return reports


def _table(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> str:
    """The figures that tell, side by side; what learns are the networks, and alignment may hide what they gained."""
    reports = [report for pair in zip(before, after) for report in pair]
    rows: list[tuple[str, ...]] = [("on the images that were held out", "before", "after", "networks alone", "after")]
    rows.append(("images with a valid pose", *(f"{r['frames']['valid']} of {r['frames']['total']}" for r in reports)))
    for name, path in _FIGURES:
        values = [_figure(summary, path) for summary in reports]
        if any(value is not None for value in values):
            rows.append((name, *map(figure_text, values)))
    return _aligned(rows)


def _figure(summary: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = summary
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _outcome(result: AdaptationResult, store: VersionStore, arguments: argparse.Namespace) -> str:
    """What was done, why, and how to use it."""
    lines = [f"\n{result.images} images shown, {result.steps} steps, {len(result.promoted)} versions promoted"]
    refused = sorted(result.refusals.items(), key=lambda item: -item[1])
    lines += [f"  refused {count} times: {reason}" for reason, count in refused[:_REASONS_SHOWN]]
    checks = [entry.status for entry in result.history if entry.status.gates]
    accepted = [status for status in checks if all(gate.passed for gate in status.gates)]
    if checks:
        shown = (accepted or checks)[-1]
        lines += ["", _gates(shown.gates)]
    elif result.history:
        lines.append(f"no check was made: {result.history[-1].status.reason}")
    lines.append("")
    newest = store.newest()
    if newest is None:
        lines.append("nothing was promoted: the object package's own weights stay in use")
    else:
        lines += [
            f"version {newest.number}: {newest.path}",
            f"use it: pnp-ros run ... --object {arguments.object} --versions {store.folder}",
            f"        pose_estimator_node with the parameter versions:={store.folder.resolve()}",
        ]
    lines.append(f"{arguments.out}: {HISTORY_NAME}, adaptation.png, before/report.html, after/report.html")
    return "\n".join(lines)


def _gates(gates: Sequence[Gate]) -> str:
    rows: list[tuple[str, ...]] = [("gate", "in use", "candidate", "bound", "")]
    for gate in gates:
        values = (figure_text(round(value, 2)) for value in (gate.active, gate.candidate, gate.bound))
        rows.append((gate.name, *values, "passed" if gate.passed else "failed"))
    return _aligned(rows)
