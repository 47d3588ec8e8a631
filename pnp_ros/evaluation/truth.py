"""What is known beforehand: true poses, and poses that were estimated when a bag was recorded."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pnp_ros.evaluation.frames import VISIBLE, Frame, by_stamp, open_bag
from pnp_ros.evaluation.pose_source import DEFAULT_TRUTH_FRAME, PoseSource, PoseSourceKind, truth_frame
from pnp_ros.geometry import se3, so3
from pnp_ros.io.bag_reader import BagReader
from pnp_ros.io.stamps import nanoseconds
from pnp_ros.io.transforms import PoseSeries, TransformTree, pose_from_fields
from pnp_ros.pipeline.result import FrameResult, Hypothesis, ObjectState
from pnp_ros.types import Pose

_OBJECTS = "pnp_ros/msg/ObjectPoseArray"
_RECORDED = PoseSourceKind.TF, PoseSourceKind.TOPIC, PoseSourceKind.FILE
_ESTIMATED = PoseSourceKind.TOPIC, PoseSourceKind.FILE
_FILE_TOLERANCE_NS = 1_000_000  # stamps in files are decimal seconds


@dataclass(frozen=True, eq=False)
class Truth:
    """The true pose in one image: None and not visible where the object is absent; None and None if not known."""

    pose: Pose | None = None
    visible: bool | None = None

    @classmethod
    def seen(cls, pose: Pose | None) -> Truth:
        """Of a source that says nothing where it does not see the object."""
        return cls() if pose is None else cls(pose, True)


TruthOf = Callable[[Frame], Truth]
TruthsOf = Callable[[Frame], Mapping[str, Truth] | None]  # by instance; None where nothing is known of the image


def load_truth(source: str | PoseSource, bag: Path | None) -> TruthOf:
    """The true pose by image.

    Args:
        source: ``file:FILE`` (JSON or CSV as ``pnp-ros run`` writes), ``topic:/NAME`` of the bag (ObjectPoseArray,
            PoseStamped, PoseWithCovarianceStamped, TransformStamped or Odometry), or ``tf:FRAME``; see
            :class:`~pnp_ros.evaluation.pose_source.PoseSource`.
        bag: that topic and TF are in.

    Raises:
        ValueError: if the source is absent, empty, or of another kind.
    """
    if isinstance(source, str):
        source = PoseSource.parse(source, _RECORDED)
    if source.kind is PoseSourceKind.FILE:
        series = PoseSeries(tolerance_ns=_FILE_TOLERANCE_NS)
        for stamp_ns, told in read_pose_file(Path(source.name)).items():
            *_, last = told.values()
            if last.pose is not None and last.is_valid:
                series.add(stamp_ns, last.pose)
        return lambda frame: Truth.seen(series.at(frame.stamp_ns))
    if source.kind not in _RECORDED:
        raise ValueError(f"{source}: expected recorded poses: {', '.join(kind.value for kind in _RECORDED)}")
    if bag is None:
        raise ValueError(f"{source}: there is no bag that it could be in")
    if source.kind is PoseSourceKind.TF:
        return _tf_truth(bag, source.name)
    with open_bag(bag) as reader:
        topic = _topic(reader, source)
        return _object_truth(reader, topic) if reader.topics[topic] == _OBJECTS else _pose_truth(reader, topic)


def _object_truth(reader: BagReader, topic: str) -> TruthOf:
    """Of messages that also say when the object is absent, matched by stamp."""
    truths: dict[int, Truth] = {}
    for _, _, message in reader.messages(topic):
        stamp_ns = nanoseconds(message.header.stamp)
        if not len(message.objects):
            truths[stamp_ns] = Truth(visible=False)
            continue
        truth = _truth_of_message(message.objects[0])
        truths[stamp_ns] = truth if truth.visible else Truth(visible=False)
    return lambda frame: truths.get(frame.stamp_ns, Truth())


def load_truths(source: str, bag: Path | None, instances: Sequence[str]) -> TruthsOf:
    """The true poses of several instances by image.

    Args:
        source: ``file:FILE`` (with names), ``topic:/NAME`` (ObjectPoseArray, whose ``object_id`` is the instance's
            name), or ``tf``, for the frames ``NAME_truth``.
        bag: that topic and TF are in.
        instances: their names, for TF.

    Raises:
        ValueError: if the source is absent, empty, or of another kind.
    """
    parsed = PoseSource.parse(source, _RECORDED)
    if parsed.kind is PoseSourceKind.FILE:
        told = read_pose_file(Path(parsed.name))
        truths = {stamp: {name: _truth_of(record) for name, record in found.items()} for stamp, found in told.items()}
        return by_stamp(truths, _FILE_TOLERANCE_NS)  # its stamps are decimal seconds
    if bag is None:
        raise ValueError(f"{source}: there is no bag that it could be in")
    if parsed.kind is PoseSourceKind.TF:
        if parsed.name != DEFAULT_TRUTH_FRAME:
            raise ValueError(
                f"{parsed}: expected tf alone with several instances, for the frames {truth_frame('NAME')}"
            )
        each = {name: _tf_truth(bag, truth_frame(name)) for name in instances}
        return lambda frame: {name: truth_of(frame) for name, truth_of in each.items()}
    told_ns = {
        stamp_ns: {item.object_id: _truth_of_message(item) for item in message.objects}
        for stamp_ns, message in _object_arrays(parsed.name, bag)
    }
    return lambda frame: told_ns.get(frame.stamp_ns)


def _truth_of(record: FrameResult) -> Truth:
    """Of a file's row: what is not valid there is not there to be seen."""
    return Truth(record.pose, True) if record.is_valid else Truth(visible=False)


def _object_arrays(topic: str, bag: Path) -> Iterator[tuple[int, Any]]:
    """Stamp and message of each ObjectPoseArray."""
    with open_bag(bag) as reader:
        if reader.topics.get(topic) != _OBJECTS:
            kinds = ", ".join(sorted(name for name, kind in reader.topics.items() if kind == _OBJECTS))
            raise ValueError(f"{topic}: expected a topic of ObjectPoseArray in the bag, which are {kinds or 'none'}")
        for _, _, message in reader.messages(topic):
            yield nanoseconds(message.header.stamp), message


def _truth_of_message(item: Any) -> Truth:
    if ObjectState.of_rank(item.state) is not ObjectState.VALID:
        return Truth(visible=False)
    return Truth(pose_from_fields(item.pose.pose.position, item.pose.pose.orientation), item.score >= VISIBLE)


def _pose_truth(reader: BagReader, topic: str) -> TruthOf:
    """Of stamped poses in any frame that TF connects to the camera, interpolated."""
    series, frames = PoseSeries(), set()
    for _, _, message in reader.messages(topic):
        series.add(nanoseconds(message.header.stamp), _pose_of(message, topic))
        frames.add(message.header.frame_id.lstrip("/"))
    if len(frames) != 1:
        raise ValueError(f"{topic}: expected one frame_id, found {sorted(frames)}")
    (frame_id,), tree = frames, _tree(reader)

    def truth(frame: Frame) -> Truth:
        pose = series.at(frame.stamp_ns)
        if pose is None or frame_id in ("", frame.frame_id.lstrip("/")):
            return Truth.seen(pose)
        to_camera = tree.lookup(frame.frame_id, frame_id, frame.stamp_ns)
        if to_camera is None and {frame_id, frame.frame_id.lstrip("/")} - tree.frames:
            raise ValueError(f"{topic}: is in {frame_id}, and TF does not lead to {frame.frame_id}")
        return Truth() if to_camera is None else Truth.seen(se3.compose(to_camera, pose))

    return truth


def _pose_of(message: Any, topic: str) -> Pose:
    if hasattr(message, "transform"):
        return pose_from_fields(message.transform.translation, message.transform.rotation)
    pose = getattr(message, "pose", None)
    pose = getattr(pose, "pose", pose)
    if pose is None or not hasattr(pose, "orientation"):
        raise ValueError(f"{topic}: {type(message).__name__} holds no pose of one object")
    return pose_from_fields(pose.position, pose.orientation)


def _tree(reader: BagReader) -> TransformTree:
    tree = TransformTree()
    topics = [topic for topic in ("/tf", "/tf_static") if topic in reader.topics]
    for topic, _, message in reader.messages(*topics) if topics else ():
        tree.add_message(message, static=topic == "/tf_static")
    return tree


def _tf_truth(bag: Path, child: str) -> TruthOf:
    with open_bag(bag) as reader:
        tree = _tree(reader)
    if child not in tree.frames:
        raise ValueError(f"tf:{child}: no such frame; TF has {', '.join(sorted(tree.frames)) or 'none'}")
    frames = tree.frames

    def truth(frame: Frame) -> Truth:
        if frame.frame_id.lstrip("/") not in frames:
            raise ValueError(
                f"tf:{child}: the images are in {frame.frame_id or 'no frame'}, and TF has {', '.join(sorted(frames))}"
            )
        return Truth.seen(tree.lookup(frame.frame_id, child, frame.stamp_ns))

    return truth


def load_recorded(
    source: str | PoseSource, bag: Path | None, since: str | None = None
) -> dict[int, dict[str, FrameResult]]:
    """The poses that were estimated when the bag was recorded, by stamp in nanoseconds and by the instance's name.

    Args:
        source: ``file:FILE`` (JSON or CSV as ``pnp-ros run`` writes), or ``topic:/NAME`` of the bag: ObjectPoseArray,
            or one pose without a name (PoseWithCovarianceStamped and others), which counts as valid.
        bag: that the topic is in.
        since: a topic of the same bag with the same stamps, such as the images: how much later than it the poses were
            received becomes a latency, ``image_to_pose_across_processes``.

    Raises:
        ValueError: if the source is absent, empty, or of another kind.
    """
    spec = PoseSource.parse(source, _ESTIMATED) if isinstance(source, str) else source
    if spec.kind is PoseSourceKind.FILE:
        return read_pose_file(Path(spec.name))
    if bag is None:
        raise ValueError(f"{source}: there is no bag that it could be in")
    with open_bag(bag) as reader:
        topic = _topic(reader, spec)
        begin_ns = {} if since is None else {nanoseconds(m.header.stamp): ns for _, ns, m in reader.messages(since)}
        found = {}
        for _, received_ns, message in reader.messages(topic):
            told, stamp_ns = _recorded(message, topic), nanoseconds(message.header.stamp)
            if stamp_ns in begin_ns:
                late = {"image_to_pose_across_processes": 1e-9 * (received_ns - begin_ns[stamp_ns])}
                told = {name: replace(each, latency={**each.latency, **late}) for name, each in told.items()}
            found[stamp_ns] = told
        return found


def _topic(reader: BagReader, spec: PoseSource) -> str:
    """The topic that is named, which must be in the bag."""
    if spec.name not in reader.topics:
        raise ValueError(
            f"{spec}: no such topic in the bag, and no such file; the topics are {', '.join(sorted(reader.topics))}"
        )
    return spec.name


def _recorded(message: Any, topic: str) -> dict[str, FrameResult]:
    if hasattr(message, "objects"):
        latency = {stage.stage: float(stage.seconds) for stage in message.latency}
        if not len(message.objects):
            return {"": FrameResult(ObjectState.LOST, latency=latency)}
        return {each.object_id: _recorded_object(each, latency) for each in message.objects}
    covariance = getattr(getattr(message, "pose", None), "covariance", None)
    told = None if covariance is None else _covariance(covariance)
    return {"": FrameResult(ObjectState.VALID, _pose_of(message, topic), told)}


def _recorded_object(item: Any, latency: Mapping[str, float]) -> FrameResult:
    """What an ObjectPose says."""
    found = FrameResult(ObjectState.of_rank(item.state), latency=latency, score=float(item.score), reason=item.reason)
    if found.state is ObjectState.LOST:
        return found
    pose = pose_from_fields(item.pose.pose.position, item.pose.pose.orientation)
    told = tuple(
        Hypothesis(
            pose_from_fields(h.pose.pose.position, h.pose.pose.orientation),
            _covariance(h.pose.covariance),
            float(h.probability),
        )
        for h in getattr(item, "hypotheses", ())  # of a bag that is older, none
    )
    return replace(found, pose=pose, covariance=_covariance(item.pose.covariance), hypotheses=told)


def _covariance(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, np.float64).reshape(6, 6))


def read_pose_file(path: Path) -> dict[int, dict[str, FrameResult]]:
    """Poses by stamp in nanoseconds and by name from ``poses.json`` or ``poses.csv``; the CSV has no full covariance.

    Raises:
        ValueError: if the file is not such a list; the message names it.
    """
    found: dict[int, dict[str, FrameResult]] = {}
    for stamp_ns, name, record in _rows(path):
        found.setdefault(stamp_ns, {})[name] = replace(record, name=name)
    return found


def _rows(path: Path) -> list[tuple[int, str, FrameResult]]:
    """Stamp, name and what was found."""
    try:
        if path.suffix == ".json":
            entries = json.loads(path.read_text("utf-8-sig"))
        else:
            with path.open(newline="", encoding="utf-8-sig") as file:
                entries = [_entry_from_row(row) for row in csv.DictReader(file)]
        found = [(round(1e9 * float(e["stamp"])), str(e.get("name") or ""), _from_entry(e)) for e in entries]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected poses as pnp-ros run writes them ({error!r})") from error
    if not found:
        raise ValueError(f"{path}: holds no pose")
    return found


def _entry_from_row(row: dict[str, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "stamp": row["stamp"],
        "state": row.get("state") or str(ObjectState.VALID),
        "reason": row.get("reason"),
        "name": row.get("name"),
    }
    if row.get("x"):
        entry["translation"] = [float(row[name]) for name in ("x", "y", "z")]
        entry["quat_wxyz"] = [float(row[name]) for name in ("qw", "qx", "qy", "qz")]
    return entry


def _from_entry(entry: dict[str, Any]) -> FrameResult:
    score, reason = float(entry.get("score") or 0.0), str(entry.get("reason") or "")
    found = FrameResult(ObjectState(str(entry["state"])), score=score, reason=reason)
    if "translation" not in entry:
        return found
    rotation = so3.matrix_from_quat_wxyz(torch.tensor(entry["quat_wxyz"], dtype=torch.float64))
    pose = Pose(rotation, torch.tensor(entry["translation"], dtype=torch.float64))
    return replace(found, pose=pose, covariance=_covariance(entry["covariance"]) if "covariance" in entry else None)
