"""``pnp-ros doctor OBJECT VIDEO --camera ...``: why the object is not found or its pose is off, in words and images."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from pnp_ros.cli.evaluate import load_adapted
from pnp_ros.cli.progress import add_part, part_of
from pnp_ros.evaluation.depth_source import depths_of
from pnp_ros.evaluation.diagnosis import Diagnosis, Seen, diagnose
from pnp_ros.evaluation.frames import Frame, FrameSource, open_source
from pnp_ros.evaluation.mesh_size import Measured
from pnp_ros.evaluation.overlay import GREEN, ORANGE, MeshOverlay, RgbImage, contact_sheet
from pnp_ros.evaluation.truth import load_truth
from pnp_ros.io.images import write_image
from pnp_ros.io.window import ALL, Window
from pnp_ros.objects.object_package import ObjectPackage

_IMAGES, _COLUMNS, _WIDTH = 12, 3, 480
_SHEET = "doctor.jpg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("object", type=Path, help="object package, or a mesh")
    parser.add_argument("input", type=Path, help="images that show the object: video, bag, folder, or image")
    parser.add_argument("--camera", type=Path, help="camera_info YAML of the images; a bag has its own")
    parser.add_argument("--image-topic", help="of a bag with several image topics")
    parser.add_argument("--rectified", action="store_true", help="P of the CameraInfo holds, not K and D")
    parser.add_argument("--distance", type=float, metavar="METRES", help="camera to object, roughly: judges the size")
    parser.add_argument(
        "--depth",
        metavar="TOPIC|FOLDER|FILE",
        help="depth registered to the images: a topic of the bag, or a file an image, in their order: judges the size",
    )
    parser.add_argument(
        "--depth-scale",
        type=float,
        default=0.001,
        metavar="METRES",
        help="of one step of depth in integers (default %(default)s)",
    )
    parser.add_argument(
        "--still-in", metavar="FRAME", help="of the bag's TF, in which the object stands and the camera moves: size"
    )
    parser.add_argument("--images", type=int, default=_IMAGES, metavar="N", help="to look at (default %(default)s)")
    parser.add_argument("--versions", type=Path, help="use the newest of these adapted weights")
    parser.add_argument("--out", type=Path, default=Path("out/doctor"), help="default %(default)s")
    parser.add_argument("--device", default="cpu", help="of the networks: cpu or cuda (default cpu)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the networks (default %(default)s)")
    add_part(parser)


def run(arguments: argparse.Namespace) -> int:
    """Look, say what was found, leave the images; the status is 1 where something is wrong.

    Raises:
        ValueError: if an argument is wrong, or the source cannot be read.
    """
    if arguments.images < 1:
        raise ValueError(f"--images: expected 1 or more, got {arguments.images}")
    if arguments.distance is not None and not 0.0 < arguments.distance < float("inf"):
        raise ValueError(f"--distance: expected metres, more than 0, got {arguments.distance}")
    if not 0.0 < arguments.depth_scale < float("inf"):
        raise ValueError(f"--depth-scale: expected metres, more than 0, got {arguments.depth_scale}")
    window = part_of(arguments)
    source = open_source(
        arguments.input,
        camera=arguments.camera,
        image_topic=arguments.image_topic,
        window=window,
        rectified=arguments.rectified,
    )
    frames = list(some(source, arguments.images, arguments.max_frames))
    measured = measurements(frames, source, window, arguments)
    package = load_adapted(arguments.object, arguments.versions, arguments.out / "object")
    with tqdm(total=len(frames), unit=" images") as bar:
        found = diagnose(frames, package, arguments.device, measured, bar.update)
    arguments.out.mkdir(parents=True, exist_ok=True)
    content = {"images": len(found.seen), "valid": found.valid, "findings": [asdict(each) for each in found.findings]}
    (arguments.out / "doctor.json").write_text(json.dumps(content, indent=1))
    print("\n".join(words(found)))
    if found.seen:
        leave_images(found, package, arguments.out / _SHEET)
        print(f"{arguments.out / _SHEET}: green valid, orange where it would be if the sources were believed")
    return 1 if found.findings else 0


def measurements(
    frames: Sequence[Frame], source: FrameSource, window: Window, arguments: argparse.Namespace
) -> Measured:
    """What tells the mesh's size: distance, depth, the camera's way.

    Raises:
        ValueError: if one of them is not there, or does not belong to the images.
    """
    depths, cameras = None, None
    if arguments.depth is not None and frames:
        if source.kind != "bag" and window != ALL:
            raise ValueError("--depth: files belong to all images; expected no --start, --end or --every beside it")
        depths = depths_of(frames, source, arguments.depth, arguments.depth_scale)
    if arguments.still_in is not None:
        fixed_of = load_truth(f"tf:{arguments.still_in}", source.path if source.kind == "bag" else None)
        fixed = [fixed_of(frame).pose for frame in frames]
        if fixed and all(pose is None for pose in fixed):
            raise ValueError(f"--still-in: TF leads from {arguments.still_in} to the camera at the time of no image")
        cameras = [None if pose is None else pose.inverse() for pose in fixed]
    return Measured(arguments.distance, depths, cameras)


def leave_images(found: Diagnosis, package: ObjectPackage, path: Path) -> None:
    """One sheet of all images that were looked at, with the object drawn and what is said of it."""
    overlay = MeshOverlay(package.mesh)
    images = [draw(overlay, each) for each in found.seen]
    captions = [f"{each.frame.image_id} {each.result.state} {each.result.reason}".strip() for each in found.seen]
    write_image(path, contact_sheet(images, _COLUMNS, _WIDTH, captions))


def some(source: FrameSource, count: int, limit: int | None) -> Iterator[Frame]:
    """So many of the source's images, evenly spread."""
    total = source.count()
    if limit is not None:
        total = limit if total is None else min(total, limit)
    every = max(1, (total or count) // count)
    chosen = (frame for index, frame in enumerate(source.frames()) if index % every == 0)
    return itertools.islice(chosen, count if limit is None else min(count, -(-limit // every)))


def words(found: Diagnosis) -> list[str]:
    """What is wrong, and what to do; one finding below the other."""
    lines = [f"{found.valid} of {len(found.seen)} images have a valid pose"] if found.seen else []
    for finding in found.findings:
        lines += [f"- {finding.subject}: {finding.text}", f"  {finding.cure}"]
    return lines if found.findings else [*lines, "nothing wrong was found"]


def draw(overlay: MeshOverlay, seen: Seen) -> RgbImage:
    """The image with the object at its pose, or at the one that is believed."""
    if seen.pose is None:
        return seen.frame.rgb
    return overlay.draw(seen.frame.rgb, seen.pose, seen.frame.camera, GREEN if seen.result.is_valid else ORANGE)
