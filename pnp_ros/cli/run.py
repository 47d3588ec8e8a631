"""``pnp-ros run VIDEO|BAG|FOLDER|IMAGE|WEBCAM|URL --object objects/NAME --camera camera_info.yaml``.

With several objects, or several instances of each, all are looked for in each image; every instance has a folder of its
own in the output.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from types import FrameType

from pnp_ros.cli.evaluate import load_adapted
from pnp_ros.cli.progress import add_part, images, part_of
from pnp_ros.cli.reports import overlap_meter, overlap_meters, write_report
from pnp_ros.cli.scene_report import scene_table, write_scene_report
from pnp_ros.evaluation.evaluator import evaluate, evaluate_one
from pnp_ros.evaluation.frames import Frame, FrameSource, open_source
from pnp_ros.evaluation.overlay import GREEN, ORANGE, MeshOverlay, RgbImage, draw_points, write_caption
from pnp_ros.evaluation.report import table
from pnp_ros.evaluation.told import running, running_scene
from pnp_ros.io.images import IMAGE_SUFFIXES, VideoWriter, write_image
from pnp_ros.networks.onnx_runtime import BACKENDS
from pnp_ros.objects.instance_names import object_of
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import SOLVERS, EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import FrameResult
from pnp_ros.pipeline.scene import Scene


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "input", help="video, bag, folder of images, image, webcam (0, /dev/video0) or address (rtsp://..., http://...)"
    )
    parser.add_argument(
        "--object", type=Path, nargs="+", required=True, help="object package, or a mesh; or several of them"
    )
    parser.add_argument("--instances", type=int, default=1, help="of each object that there may be (default 1)")
    parser.add_argument("--camera", type=Path, help="camera_info YAML of the images; a bag has its own")
    parser.add_argument("--image-topic", help="of a bag with several image topics")
    parser.add_argument("--rectified", action="store_true", help="P of the CameraInfo holds, not K and D")
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
        arguments.input,
        camera=arguments.camera,
        image_topic=arguments.image_topic,
        window=part_of(arguments),
        rectified=arguments.rectified,
    )
    packages = [load_adapted(each, arguments.versions, arguments.out / "object") for each in arguments.object]
    several = len(packages) > 1 or arguments.instances > 1
    config = EstimatorConfig(solver=arguments.solver, track=not arguments.no_tracking)
    arguments.out.mkdir(parents=True, exist_ok=True)
    one_image = source.path.suffix.lower() in IMAGE_SUFFIXES
    shown = "" if arguments.no_video else f"overlay.{'png' if one_image else 'mp4'}"
    frames = until_interrupted(images(source, arguments.max_frames))
    with _Overlay(arguments.out / shown if shown else None) as overlay:
        if several:
            _run_many(arguments, config, packages, source, frames, overlay)
        else:
            _run_one(arguments, config, packages[0], source, frames, overlay)
    files = "poses.csv, poses.json, report.html, report.json, " + ("a folder for each" if several else "poses.tum")
    print(f"{arguments.out}: {shown and shown + ', '}{files}")
    return 0


def _run_one(
    arguments: argparse.Namespace,
    config: EstimatorConfig,
    package: ObjectPackage,
    source: FrameSource,
    frames: Iterable[Frame],
    overlay: _Overlay,
) -> None:
    estimator = PoseEstimator(package, config, arguments.device, backend=arguments.backend)
    numbers, mesh = count(), MeshOverlay(package.mesh)

    def watch(frame: Frame, record: FrameResult) -> None:
        overlay.write(frame, lambda: draw(mesh, frame, next(numbers), record))

    done = evaluate_one(frames, package, running(estimator), overlap=overlap_meter(package), watch=watch)
    figures = write_report(arguments.out, package, source, done)
    print(table({key: value for key, value in figures.items() if value is not None}))


def _run_many(
    arguments: argparse.Namespace,
    config: EstimatorConfig,
    packages: Sequence[ObjectPackage],
    source: FrameSource,
    frames: Iterable[Frame],
    overlay: _Overlay,
) -> None:
    scene = Scene(packages, config, arguments.instances, arguments.device, arguments.backend)
    meshes = {package.name: MeshOverlay(package.mesh) for package in packages}
    meters = overlap_meters(packages)
    numbers = count()

    def watch(frame: Frame, records: Mapping[str, FrameResult]) -> None:
        overlay.write(frame, lambda: draw_many(meshes, frame, next(numbers), records))

    done = evaluate(frames, packages, running_scene(scene), overlaps=meters, watch=watch)
    print(scene_table(write_scene_report(arguments.out, packages, source, done)))


class _Overlay:
    """The video or image of what was found; None: nothing is drawn."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._video = VideoWriter(path) if path is not None and path.suffix == ".mp4" else None

    def __enter__(self) -> _Overlay:
        return self

    def __exit__(self, *_: object) -> None:
        if self._video is not None:
            self._video.close()

    def write(self, frame: Frame, drawn: Callable[[], RgbImage]) -> None:
        """The next image, drawn only where it is wanted."""
        if self._video is not None:
            self._video.write(drawn(), 1e-9 * frame.stamp_ns)
        elif self._path is not None:
            write_image(self._path, drawn())


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


def draw_many(
    meshes: Mapping[str, MeshOverlay], frame: Frame, number: int, records: Mapping[str, FrameResult]
) -> RgbImage:
    """The image with the mesh (by the object's name) of each instance at its pose, the far ones first; who is valid."""
    drawn = frame.rgb
    placed = {name: record.pose for name, record in records.items() if record.pose is not None}
    for name in sorted(placed, key=lambda name: -float(placed[name].translation[2])):
        colour = GREEN if records[name].is_valid else ORANGE
        drawn = meshes[object_of(name, meshes) or name].draw(drawn, placed[name], frame.camera, colour)
    valid = [name for name, record in records.items() if record.is_valid]
    return write_caption(drawn, f"{number} {len(valid)} of {len(records)} valid: {', '.join(valid)}".rstrip(": "))
