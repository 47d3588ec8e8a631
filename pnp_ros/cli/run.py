"""``pnp-ros run VIDEO|FOLDER|IMAGE --object objects/NAME --camera camera_info.yaml``."""

from __future__ import annotations

import argparse
import json
from itertools import count
from pathlib import Path

from pnp_ros.cli.evaluate import load_adapted, overlap_meter
from pnp_ros.cli.pose_log import PoseLog
from pnp_ros.cli.progress import images
from pnp_ros.evaluation.evaluator import evaluate, running
from pnp_ros.evaluation.frames import Frame, open_source
from pnp_ros.evaluation.overlay import GREEN, ORANGE, MeshOverlay, RgbImage, draw_points, write_caption
from pnp_ros.evaluation.report import measure, table
from pnp_ros.io.images import VideoWriter
from pnp_ros.networks.onnx_runtime import BACKENDS
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import FrameResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("input", type=Path, help="video file, folder of images, or image")
    parser.add_argument("--object", type=Path, required=True, help="object package, or a mesh")
    parser.add_argument("--camera", type=Path, required=True, help="camera_info YAML of the images")
    parser.add_argument("--out", type=Path, default=Path("out/run"), help="default %(default)s")
    parser.add_argument("--device", default="cpu", help="of the networks: cpu or cuda (default cpu)")
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="of the networks (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the networks (default %(default)s)")
    parser.add_argument("--no-tracking", action="store_true", help="search every image, without tracking")
    parser.add_argument("--no-video", action="store_true", help="poses and figures alone")
    parser.add_argument("--versions", type=Path, help="use the newest of these adapted weights")
    parser.add_argument("--max-frames", type=int, help="stop after this many images")


def run(arguments: argparse.Namespace) -> int:
    """Estimate, write, print the figures."""
    package = load_adapted(arguments.object, arguments.versions, arguments.out / "object")
    source = open_source(arguments.input, camera=arguments.camera)
    config = EstimatorConfig(track=not arguments.no_tracking)
    estimator = PoseEstimator(package, config, arguments.device, backend=arguments.backend)
    arguments.out.mkdir(parents=True, exist_ok=True)
    log, numbers, overlay = PoseLog(), count(), MeshOverlay(package.mesh)
    video = None if arguments.no_video else VideoWriter(arguments.out / "overlay.mp4")

    def watch(frame: Frame, record: FrameResult) -> None:
        number = next(numbers)
        log.add(number, record, package.name)
        if video is not None:
            video.write(draw(overlay, frame, number, record), 1e-9 * frame.stamp_ns)

    frames = images(source, arguments.max_frames)
    try:
        done = evaluate(frames, package, running(estimator), overlap=overlap_meter(package), watch=watch)
    finally:
        if video is not None:
            video.close()
    log.write(arguments.out)
    figures, _ = measure(done.records, package)
    (arguments.out / "report.json").write_text(json.dumps(figures, indent=1))
    print(table({key: value for key, value in figures.items() if value is not None}))
    print(f"poses, overlay and report are in {arguments.out}")
    return 0


def draw(overlay: MeshOverlay, frame: Frame, number: int, record: FrameResult) -> RgbImage:
    """The image with the mesh at the pose, what was found of it in the image as dots, and a caption."""
    drawn = frame.rgb
    if record.pose is not None:
        if record.correspondences is not None:
            drawn = draw_points(drawn, record.correspondences.image_points)
        drawn = overlay.draw(drawn, record.pose, frame.camera, GREEN if record.is_valid else ORANGE)
    caption = f"{number} {record.state}" + ("" if record.ncc is None else f" ncc {record.ncc:.2f}")
    return write_caption(drawn, f"{caption} {record.reason}".strip())
