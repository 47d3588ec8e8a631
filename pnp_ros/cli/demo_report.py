"""What the demo's bag says: each picture beside the pose that came of it and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pnp_ros.evaluation.overlay import GREEN, ORANGE, MeshOverlay, contact_sheet, write_caption
from pnp_ros.evaluation.report import VALID, FrameRecord, summarise
from pnp_ros.geometry import so3
from pnp_ros.io.bags import BagReader, message_types
from pnp_ros.io.images import VideoWriter, write_picture
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.types import Pose

_STATES = ("lost", "uncertain", VALID)  # the constants of ObjectPose, in order
_VISIBLE = 0.1  # share of the object that must be seen for a miss to count, as in BOP
_DROPPED = "dropped"  # a picture that the estimator did not process
_SHEET_CELLS = 24
_METRIC_POINTS = 2000


@dataclass(frozen=True)
class RunResult:
    """The figures, and what is known of each picture by its stamp in nanoseconds."""

    summary: dict[str, Any]
    records: dict[int, FrameRecord]


def evaluate_run(bag: Path, package: ObjectPackage, topics: Sequence[str]) -> RunResult:
    """Figures of a recorded run.

    Args:
        bag: with the truth.
        package: of the object.
        topics: of the pictures, their CameraInfo, the truth, the poses and the objects.
    """
    image, _, truth, pose, objects = topics
    by_topic: dict[str, dict[int, tuple[int, Any]]] = {topic: {} for topic in topics}
    with BagReader(bag, message_types(resource("msg"))) as reader:
        for topic, received_ns, message in reader.messages(*(topic for topic in topics if topic in reader.topics)):
            kept = None if topic == image else message
            by_topic[topic][_stamp_ns(message.header)] = (received_ns, kept)
    records = {
        stamp: _record(received_ns, by_topic[objects].get(stamp), by_topic[truth].get(stamp))
        for stamp, (received_ns, _) in sorted(by_topic[image].items())
    }
    published = by_topic[pose]
    vertices = package.mesh.vertices
    points = torch.from_numpy(vertices[:: max(1, len(vertices) // _METRIC_POINTS)].astype(np.float64))
    symmetries = None if package.symmetry.is_trivial else torch.as_tensor(package.symmetry.transforms())
    figures = summarise(list(records.values()), points, package.diameter, symmetries)
    processed = [record for record in records.values() if record.state != _DROPPED]
    of_processed = summarise(processed, points, package.diameter, symmetries)["accuracy"]
    run = {
        "pictures_published": len(by_topic[truth]),
        "pictures_recorded": len(records),
        "pictures_processed": len(by_topic[objects]),
        "poses_published": len(published),
        "poses_with_the_stamp_of_a_picture": len(published.keys() & by_topic[truth].keys()),
        "recall_10_percent_of_processed": of_processed and of_processed["recall_10_percent"],
    }
    return RunResult({"run": run, **figures}, records)


def _record(picture_ns: int, found: tuple[int, Any] | None, truth: tuple[int, Any] | None) -> FrameRecord:
    true_pose, visible = None, None
    if truth is not None:
        (true_object,) = truth[1].objects
        visible = true_object.state == _STATES.index(VALID) and true_object.score >= _VISIBLE
        true_pose = _pose(true_object.pose.pose) if visible else None
    if found is None:
        return FrameRecord(_DROPPED, truth=true_pose, visible=visible)
    objects_ns, message = found
    latency = {stage.stage: stage.seconds for stage in message.latency}
    latency["picture_to_pose_across_processes"] = 1e-9 * (objects_ns - picture_ns)
    best = message.objects[0]
    state, covariance = _STATES[best.state], torch.from_numpy(best.pose.covariance.reshape(6, 6).copy())
    estimate = None if state == "lost" else _pose(best.pose.pose)
    return FrameRecord(state, estimate, covariance, true_pose, visible, latency)


def _pose(message: Any) -> Pose:
    """From a ``geometry_msgs/Pose``, float64."""
    q, p = message.orientation, message.position
    rotation = so3.matrix_from_quat_wxyz(torch.tensor([q.w, q.x, q.y, q.z], dtype=torch.float64))
    return Pose(rotation, torch.tensor([p.x, p.y, p.z], dtype=torch.float64))


def _stamp_ns(header: Any) -> int:
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def write_pictures(result: RunResult, package: ObjectPackage, bag: Path, image: str, rate: float, out: Path) -> None:
    """``overlay.mp4`` with every picture of the bag, and ``contact_sheet.png`` with some of them.

    Green is a valid pose, orange an uncertain one.
    """
    overlay = MeshOverlay(package.mesh)
    chosen = set(np.linspace(0, len(result.records) - 1, _SHEET_CELLS).round().astype(int).tolist())
    cells = []
    with BagReader(bag, message_types(resource("msg"))) as reader, VideoWriter(out / "overlay.mp4", rate) as video:
        pictures = tqdm(reader.pictures(image), total=len(result.records), desc="overlay", unit="picture")
        for index, picture in enumerate(pictures):
            record = result.records[picture.stamp_ns]
            drawn = picture.rgb
            if record.estimate is not None and picture.camera_info is not None:
                colour = GREEN if record.state == VALID else ORANGE
                drawn = overlay.draw(drawn, record.estimate, picture.camera_info.camera(), colour)
            drawn = write_caption(drawn, f"{index}  {record.state}")
            video.write(drawn)
            if index in chosen:
                cells.append(drawn)
    write_picture(out / "contact_sheet.png", contact_sheet(cells))
