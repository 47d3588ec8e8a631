"""``pnp-ros run VIDEO|FOLDER|IMAGE --object objects/NAME --camera camera_info.yaml``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pnp_ros.cameras.camera import Camera
from pnp_ros.cli.evaluate import load_adapted
from pnp_ros.cli.pose_log import PoseLog
from pnp_ros.evaluation.overlap import normalised_cross_correlation
from pnp_ros.evaluation.overlay import GREEN, ORANGE, MeshOverlay, write_caption
from pnp_ros.evaluation.report import FrameRecord, summarise, table
from pnp_ros.io.camera_info import read_camera_info
from pnp_ros.io.images import VideoWriter, read_images
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import ObjectEstimate, PoseEstimator
from pnp_ros.pipeline.gates import ObjectState
from pnp_ros.rendering.renderer import Renderer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("input", type=Path, help="video file, folder of images, or image")
    parser.add_argument("--object", type=Path, required=True, help="object package")
    parser.add_argument("--camera", type=Path, required=True, help="camera_info YAML of the images")
    parser.add_argument("--out", type=Path, default=Path("out/run"), help="default %(default)s")
    parser.add_argument("--device", default="cpu", help="of the networks: cpu or cuda (default cpu)")
    parser.add_argument("--no-tracking", action="store_true", help="search every image anew")
    parser.add_argument("--no-video", action="store_true", help="poses and figures alone")
    parser.add_argument("--versions", type=Path, help="use the newest of these adapted weights")
    parser.add_argument("--max-frames", type=int, help="stop after this many images")


def run(arguments: argparse.Namespace) -> int:
    """Estimate, write, print the figures."""
    package = load_adapted(arguments.object, arguments.versions)
    camera = read_camera_info(arguments.camera).camera()
    estimator = PoseEstimator(package, EstimatorConfig(track=not arguments.no_tracking), arguments.device)
    arguments.out.mkdir(parents=True, exist_ok=True)
    check = _Check(package, camera)
    log, records = PoseLog(), []
    video = None if arguments.no_video else VideoWriter(arguments.out / "overlay.mp4")
    try:
        for frame, (stamp, image) in enumerate(tqdm(read_images(arguments.input), unit=" images")):
            if arguments.max_frames is not None and frame >= arguments.max_frames:
                break
            found = estimator.estimate(image, camera, stamp)[0]
            log.add(frame, stamp, found)
            records.append(check.record(image, found))
            if video is not None:
                video.write(check.draw(image, frame, found, records[-1].ncc))
    finally:
        if video is not None:
            video.close()
    log.write(arguments.out)
    figures = summarise(records, torch.from_numpy(package.mesh.vertices), package.diameter)
    (arguments.out / "report.json").write_text(json.dumps(figures, indent=1))
    print(table({key: value for key, value in figures.items() if value is not None}))
    print(f"poses, overlay and report are in {arguments.out}")
    return 0


class _Check:
    """Renders the object at its estimated poses: for the correlation with the image, and to look at."""

    def __init__(self, package: ObjectPackage, camera: Camera) -> None:
        self._camera = camera
        self._overlay = MeshOverlay(package.mesh)
        self._renderer = Renderer()
        self._mesh = self._renderer.add(package.mesh)

    def record(self, image: np.ndarray, found: ObjectEstimate) -> FrameRecord:
        """The estimate with its correlation."""
        ncc = None
        if found.estimate is not None:
            rendering = self._renderer.render([(self._mesh, found.estimate.pose)], self._camera)
            ncc = normalised_cross_correlation(image, rendering.rgb, rendering.mask)
        return FrameRecord(
            state=str(found.state),
            estimate=found.estimate.pose if found.estimate else None,
            covariance=found.estimate.covariance if found.estimate else None,
            latency=found.latency,
            ncc=ncc,
        )

    def draw(self, image: np.ndarray, frame: int, found: ObjectEstimate, ncc: float | None) -> np.ndarray:
        """The image with the mesh at the pose and a caption."""
        drawn = image
        if found.estimate is not None:
            colour = GREEN if found.state is ObjectState.VALID else ORANGE
            drawn = self._overlay.draw(image, found.estimate.pose, self._camera, colour)
        caption = f"{frame} {found.state}" + ("" if ncc is None else f" ncc {ncc:.2f}")
        return write_caption(drawn, f"{caption} {found.reason}".strip())
