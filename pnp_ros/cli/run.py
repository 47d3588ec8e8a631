"""``pnp-ros run VIDEO|BAG|FOLDER|IMAGE|WEBCAM|URL --object objects/NAME --camera camera_info.yaml``."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from types import FrameType

from pnp_ros.cli.evaluate import load_adapted, overlap_meter, write_report
from pnp_ros.cli.progress import add_part, images, part_of
from pnp_ros.evaluation.evaluator import evaluate, running
from pnp_ros.evaluation.frames import Frame, open_source
from pnp_ros.evaluation.overlay import GREEN, ORANGE, MeshOverlay, RgbImage, draw_points, write_caption
from pnp_ros.evaluation.report import table
from pnp_ros.io.images import IMAGE_SUFFIXES, VideoWriter, write_image
from pnp_ros.networks.onnx_runtime import BACKENDS
from pnp_ros.pipeline.config import SOLVERS, EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import FrameResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "input", help="video, bag, folder of images, image, webcam (0, /dev/video0) or address (rtsp://..., http://...)"
    )
    parser.add_argument("--object", type=Path, required=True, help="object package, or a mesh")
    parser.add_argument("--camera", type=Path, help="camera_info YAML of the images; a bag has its own")
    parser.add_argument("--image-topic", help="of a bag with several image topics")
    parser.add_argument("--out", type=Path, default=Path("out/run"), help="default %(default)s")
    parser.add_argument("--device", default="cpu", help="of the networks: cpu or cuda (default cpu)")
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="of the networks (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the networks (default %(default)s)")
    parser.add_argument("--solver", choices=SOLVERS, default=SOLVERS[0], help="default %(default)s")
    parser.add_argument("--no-tracking", action="store_true", help="search every image, without tracking")
    parser.add_argument("--no-video", action="store_true", help="poses and figures alone")
    parser.add_argument("--versions", type=Path, help="use the newest of these adapted weights")
    add_part(parser)


def run(arguments: argparse.Namespace) -> int:
    """Estimate, write, print the figures.

    Raises:
        ValueError: if an argument is wrong, or the source cannot be read.
    """
    source = open_source(
        arguments.input, camera=arguments.camera, image_topic=arguments.image_topic, window=part_of(arguments)
    )
    package = load_adapted(arguments.object, arguments.versions, arguments.out / "object")
    config = EstimatorConfig(solver=arguments.solver, track=not arguments.no_tracking)
    estimator = PoseEstimator(package, config, arguments.device, backend=arguments.backend)
    arguments.out.mkdir(parents=True, exist_ok=True)
    numbers, overlay = count(), MeshOverlay(package.mesh)
    one_image = source.path.suffix.lower() in IMAGE_SUFFIXES
    video = None if arguments.no_video or one_image else VideoWriter(arguments.out / "overlay.mp4")

    def watch(frame: Frame, record: FrameResult) -> None:
        drawn = draw(overlay, frame, next(numbers), record)
        if video is not None:
            video.write(drawn, 1e-9 * frame.stamp_ns)
        elif not arguments.no_video:
            write_image(arguments.out / "overlay.png", drawn)

    frames = until_interrupted(images(source, arguments.max_frames))
    try:
        done = evaluate(frames, package, running(estimator), overlap=overlap_meter(package), watch=watch)
    finally:
        if video is not None:
            video.close()
    figures = write_report(arguments.out, package, source, done)
    print(table({key: value for key, value in figures.items() if value is not None}))
    shown = "" if arguments.no_video else f"overlay.{'png' if one_image else 'mp4'}, "
    print(f"{arguments.out}: {shown}poses.csv, poses.json, poses.tum, report.html, report.json")
    return 0


def until_interrupted(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames until ctrl-C: what was done by then is written. A second one interrupts as usual."""
    stopped = False

    def stop(number: int, at: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        for frame in frames:
            yield frame
            if stopped:
                return
    finally:
        signal.signal(signal.SIGINT, before)


def draw(overlay: MeshOverlay, frame: Frame, number: int, record: FrameResult) -> RgbImage:
    """The image with the mesh at the pose, what was found of it in the image as dots, and a caption."""
    drawn = frame.rgb
    if record.pose is not None:
        if record.correspondences is not None:
            drawn = draw_points(drawn, record.correspondences.image_points)
        drawn = overlay.draw(drawn, record.pose, frame.camera, GREEN if record.is_valid else ORANGE)
    caption = f"{number} {record.state}" + ("" if record.ncc is None else f" ncc {record.ncc:.2f}")
    return write_caption(drawn, f"{caption} {record.reason}".strip())
