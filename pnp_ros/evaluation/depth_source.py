"""The depth images that belong to the images of a source: of a topic of the same bag, or files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pnp_ros.evaluation.frames import Frame, FrameSource, open_bag
from pnp_ros.io.bag_messages import IMAGE, BagError
from pnp_ros.io.depth_images import SUFFIXES, DepthImage, decode_depth, read_depth
from pnp_ros.io.images import ImageError, natural_order
from pnp_ros.io.stamps import nanoseconds

_TOLERANCE_NS = 50_000_000  # farther apart an image and a depth image do not show the same


def depths_of(frames: Sequence[Frame], source: FrameSource, depth: str, scale: float) -> list[DepthImage | None]:
    """The depth image of each image; None where the bag has none near its stamp.

    Args:
        frames: of the source.
        source: a bag, a video, images or an image.
        depth: a topic of the bag (Image, 16UC1 or 32FC1, registered to the images); else a folder with one file an
            image, in the same order, or the file of the one image.
        scale: metres of one step of an integer.

    Raises:
        ValueError: naming ``depth``, if there is none or it is not of the images' size.
    """
    found = _of_topic(frames, source.path, depth, scale) if source.kind == "bag" else _of_files(frames, depth, scale)
    for frame, image in zip(frames, found):
        if image is not None and image.shape != frame.rgb.shape[:2]:
            (height, width), (h, w) = frame.rgb.shape[:2], image.shape
            raise ValueError(
                f"depth: the images have {width}x{height} pixels, the depth {w}x{h}; expected depth that is registered "
                "to the images, as aligned_depth_to_color"
            )
    return found


def _of_topic(frames: Sequence[Frame], bag: Path, topic: str, scale: float) -> list[DepthImage | None]:
    nearest: list[tuple[int, Any]] = [(_TOLERANCE_NS + 1, None)] * len(frames)
    with open_bag(bag) as reader:
        if reader.topics.get(topic) != IMAGE:
            images = sorted(name for name, kind in reader.topics.items() if kind == IMAGE)
            raise BagError(f"depth: {topic} is no topic of images; the bag has {', '.join(images) or 'none'}")
        for _, _, message in reader.messages(topic):
            stamp_ns = nanoseconds(message.header.stamp)
            for index, frame in enumerate(frames):
                if (apart := abs(frame.stamp_ns - stamp_ns)) < nearest[index][0]:
                    nearest[index] = apart, message
    try:
        return [None if message is None else _decoded(message, scale) for _, message in nearest]
    except ImageError as error:
        raise BagError(f"{bag}: {topic}: {error}") from error


def _decoded(message: Any, scale: float) -> DepthImage:
    size = message.width, message.height
    return decode_depth(message.data, *size, message.encoding, message.step, bool(message.is_bigendian), scale)


def _of_files(frames: Sequence[Frame], depth: str, scale: float) -> list[DepthImage | None]:
    path = Path(depth)
    if not path.exists():
        raise ValueError(f"depth: no such folder or file: {path}")
    files = [path]
    if path.is_dir():
        files = sorted((file for file in path.iterdir() if file.suffix.lower() in SUFFIXES), key=natural_order)
    last = max(frame.image_id for frame in frames)
    if len(files) <= last:
        raise ValueError(f"depth: expected a depth image for each image, got {len(files)} and image number {last}")
    return [read_depth(files[frame.image_id], scale) for frame in frames]
