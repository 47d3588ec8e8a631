"""``pnp-ros bag record|play|info|convert``: what ``ros2 bag`` does, where ROS is not fully installed too."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
from tqdm import tqdm

from pnp_ros.cli.progress import add_part, part_of
from pnp_ros.cli.requirements import need_ros
from pnp_ros.evaluation.frames import is_bag, open_bag
from pnp_ros.io.bag_messages import COMPRESSED_IMAGE, IMAGE, message_types
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.camera_info import read_camera_info
from pnp_ros.io.encodings import ENCODINGS
from pnp_ros.io.images import RgbImage, count_images, decode_compressed, decode_raw, read_images
from pnp_ros.io.window import ALL

_FRAME = "camera_optical_frame"
_IMAGE, _CAMERA_INFO = "/camera/image_raw", "/camera/camera_info"
_DEFAULT_TOPICS = (
    [_IMAGE, _CAMERA_INFO, "/tf", "/tf_static", "/diagnostics"]
    + [f"/pose_estimator/{topic}" for topic in ("pose", "objects", "correspondences")]
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="record|play|info|convert", required=True)
    record = actions.add_parser("record", help="record topics until interrupted (needs ROS 2)")
    record.add_argument("bag", type=Path, help="folder of the new bag")
    record.add_argument("topics", nargs="*", help=f"default: {' '.join(_DEFAULT_TOPICS)}")
    _add_storage(record)
    play = actions.add_parser("play", help="publish a bag's messages (needs ROS 2)")
    play.add_argument("bag", type=Path, help="bag of ROS 2 or ROS 1")
    play.add_argument("topics", nargs="*", help="default: all")
    play.add_argument("--rate", type=float, default=1.0, help="speed (default %(default)s)")
    play.add_argument(
        "--clock", type=float, nargs="?", const=100.0, default=0.0, help="publish /clock, HZ times a second"
    )
    play.add_argument("--loop", action="store_true", help="begin again at the end")
    play.add_argument("--wait", type=int, default=0, metavar="N", help="begin when each topic has N subscribers")
    info = actions.add_parser("info", help="what is in a bag")
    info.add_argument("bag", type=Path)
    info.add_argument("--json", action="store_true", help="for programs")
    convert = actions.add_parser("convert", help="a bag (also of ROS 1, also cut short), video or images to a new bag")
    convert.add_argument("input", type=Path)
    convert.add_argument("bag", type=Path, help="folder of the new bag")
    convert.add_argument("--topics", nargs="+", help="keep these alone")
    convert.add_argument("--camera", type=Path, help="camera_info YAML of a video or images")
    convert.add_argument("--rate", type=float, help="images a second of a folder; default: the video's own, or 30")
    convert.add_argument("--compress", choices=("jpeg", "png"), help="images to sensor_msgs/CompressedImage")
    convert.add_argument("--raw", action="store_true", help="compressed images to sensor_msgs/Image")
    _add_storage(convert)
    add_part(convert, "part of a video or of images")


def _add_storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="default %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked for.

    Raises:
        ValueError: if a bag cannot be read or written, or ROS is needed and absent.
    """
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "record": _record,
        "play": _play,
        "info": _info,
        "convert": _convert,
    }
    return actions[arguments.action](arguments)


# --- with ROS ---------------------------------------------------------------------------------------------------------


def _record(arguments: argparse.Namespace) -> int:
    topics = arguments.topics or _DEFAULT_TOPICS
    parameters = {"output": str(arguments.bag), "topics": topics, "storage": arguments.storage}
    return _run_node("bag_recorder_node", parameters)


def _play(arguments: argparse.Namespace) -> int:
    with open_bag(arguments.bag) as bag:  # refuse here, before ROS starts
        if missing := [topic for topic in arguments.topics if topic not in bag.topics]:
            raise ValueError(f"{arguments.bag}: no topic {', '.join(missing)}")
    parameters = {"bag": str(arguments.bag), "rate": arguments.rate, "clock": arguments.clock, "loop": arguments.loop}
    parameters |= {"topics": arguments.topics or [""], "wait_for_subscribers": arguments.wait}
    return _run_node("bag_player_node", parameters)


def _run_node(node: str, parameters: dict[str, object]) -> NoReturn:
    """This process becomes the node: whatever signal ends the command ends the node."""
    need_ros()
    words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={json.dumps(value)}")]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "pnp_ros.cli.entry", f"pnp_ros.nodes.{node}", "--ros-args", *words])


# --- without ----------------------------------------------------------------------------------------------------------


def _info(arguments: argparse.Namespace) -> int:
    with open_bag(arguments.bag) as bag:
        first_ns, last_ns = bag.span_ns
        topics = [{"topic": t, "type": bag.topics[t], "messages": count} for t, count in bag.counts.items()]
        content = {
            "path": str(arguments.bag),
            "ros": 1 if bag.is_ros1 else 2,
            "start": 1e-9 * first_ns,
            "seconds": 1e-9 * (last_ns - first_ns),
            "topics": topics,
        }
    if arguments.json:
        print(json.dumps(content, indent=1))
        return 0
    print(f"{content['path']}: ROS {content['ros']}, {content['seconds']:.3f} s from {content['start']:.3f}")
    width = max(len(str(topic["topic"])) for topic in topics)
    for topic in topics:
        print(f"  {topic['topic']:<{width}}  {topic['messages']:>7}  {topic['type']}")
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    if not arguments.input.exists():
        raise ValueError(f"{arguments.input}: no such bag, video or folder")
    if arguments.compress and arguments.raw:
        raise ValueError("--compress, --raw: expected at most one")
    if arguments.bag.exists():
        raise ValueError(f"{arguments.bag}: exists already")
    if is_bag(arguments.input) and (part_of(arguments) != ALL or arguments.max_frames is not None):
        raise ValueError("--start, --end, --every, --max-frames: choose images; of a bag all is kept")
    try:
        count = _rewrite(arguments) if is_bag(arguments.input) else _record_images(arguments)
    except BaseException:  # an interrupt, too, leaves no half of a bag
        shutil.rmtree(arguments.bag, ignore_errors=True)
        raise
    print(f"{arguments.bag}: {count} messages")
    return 0


def _rewrite(arguments: argparse.Namespace) -> int:
    count = 0
    kept: dict[str, str] = {}
    with open_bag(arguments.input) as bag:
        topics, offered = tuple(arguments.topics or ()), bag.offered()
        if missing := [topic for topic in topics if topic not in bag.topics]:
            raise ValueError(f"{arguments.input}: no topic {', '.join(missing)}; there are {', '.join(bag.topics)}")
        messages = bag.serialized(*topics)
        total = sum(bag.counts[topic] for topic in topics or bag.topics)
        with BagWriter(arguments.bag, arguments.storage, bag.types) as writer:
            for topic, kind, stamp_ns, cdr in tqdm(messages, total=total, unit=" messages"):
                count += 1
                if (kind == IMAGE and arguments.compress) or (kind == COMPRESSED_IMAGE and arguments.raw):
                    message, target = writer.types.deserialize_cdr(cdr, kind), _recoded_name(topic, arguments.compress)
                    is_taken = target != topic and target in (topics or bag.topics)
                    why = f"{target} is there" if is_taken else _why_kept(message, kind)
                    if not why:
                        _write_recoded(writer, target, message, stamp_ns, arguments.compress)
                        continue
                    kept[topic] = why
                writer.write_serialized(topic, kind, cdr, stamp_ns, offered=offered[topic])
    if kept:
        print(f"kept as they are: {', '.join(f'{topic} ({why})' for topic, why in sorted(kept.items()))}")
    return count


def _recoded_name(topic: str, suffix: str | None) -> str:
    return f"{topic}/compressed" if suffix else topic.removesuffix("/compressed")


def _why_kept(message: Any, kind: str) -> str:
    """Why an image would not survive as one of 8 bits a channel, as depth; empty where it does."""
    if kind == IMAGE:
        layout = ENCODINGS.get(message.encoding)
        return "" if layout is not None and layout.dtype == "u1" else str(message.encoding)
    is_deep = bytes(message.data[:4]) == b"\x89PNG" and bytes(message.data[24:25]) == b"\x10"  # bits in its header
    return str(message.format).strip() if is_deep or "compressedDepth" in message.format else ""


def _write_recoded(writer: BagWriter, topic: str, message: Any, stamp_ns: int, suffix: str | None) -> None:
    header = message.header
    if suffix:
        big = bool(message.is_bigendian)
        rgb = decode_raw(message.data, message.width, message.height, message.encoding, message.step, big)
        fields = {"header": header, "format": suffix, "data": _encoded(rgb, suffix)}
        writer.write(topic, writer.message(COMPRESSED_IMAGE, **fields), stamp_ns)
        return
    rgb = decode_compressed(message.data, form=message.format)
    height, width = rgb.shape[:2]
    raw = {"height": height, "width": width, "encoding": "rgb8", "is_bigendian": 0, "step": 3 * width}
    writer.write(topic, writer.message(IMAGE, header=header, data=rgb.reshape(-1), **raw), stamp_ns)


def _encoded(rgb: RgbImage, suffix: str) -> np.ndarray:
    options = (cv2.IMWRITE_JPEG_QUALITY, 95) if suffix == "jpeg" else ()
    return cv2.imencode(f".{suffix}", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)[1].reshape(-1)


def _record_images(arguments: argparse.Namespace) -> int:
    """A video or images as if a camera had recorded them: images and their CameraInfo."""
    if arguments.camera is None:
        raise ValueError(f"{arguments.input}: a video or images need --camera with their camera_info YAML")
    info, window, limit, count = read_camera_info(arguments.camera), part_of(arguments), arguments.max_frames, 0
    known = [most for most in (count_images(arguments.input, window), limit) if most is not None]
    images = islice(read_images(arguments.input, arguments.rate, window), limit)
    with BagWriter(arguments.bag, arguments.storage, message_types()) as writer:
        for stamp, rgb in tqdm(images, total=min(known, default=None), unit=" images"):
            if rgb.shape[:2] != (info.height, info.width):
                raise ValueError(
                    f"{arguments.camera}: is for {info.width}x{info.height} pixels, got {rgb.shape[1::-1]}"
                )
            stamp_ns = 1_000_000_000 + round(1e9 * stamp)  # a stamp of 0 means: none
            writer.write_camera_info(_CAMERA_INFO, info, stamp_ns, _FRAME)
            if arguments.compress:
                fields = {
                    "header": writer.header(stamp_ns, _FRAME),
                    "format": arguments.compress,
                    "data": _encoded(rgb, arguments.compress),
                }
                writer.write(f"{_IMAGE}/compressed", writer.message(COMPRESSED_IMAGE, **fields), stamp_ns)
            else:
                writer.write_image(_IMAGE, rgb, stamp_ns, _FRAME)
            count += 2
    if not count:
        raise ValueError(f"--start: the recording has no image from {window.start:g} s after its first one")
    return count
