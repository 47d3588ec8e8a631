"""Where images come from: a bag, a BOP scene, a video, a folder of images, an image, a webcam or a stream."""

from __future__ import annotations

import functools
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.io.bag_messages import BagError, message_types
from pnp_ros.io.bag_reader import BagReader
from pnp_ros.io.bop import BopScene
from pnp_ros.io.camera_info import CameraInfo, read_camera_info
from pnp_ros.io.images import count_images, read_images
from pnp_ros.io.live import is_live, live_images
from pnp_ros.io.resources import resource
from pnp_ros.io.window import ALL, Window
from pnp_ros.types import Pose

logger = logging.getLogger(__name__)
_BAG_SUFFIXES = {".mcap", ".db3", ".bag"}
VISIBLE = 0.1  # share of the object that must be seen for a miss to count, as in BOP


@dataclass(frozen=True, eq=False)
class Frame:
    """One image to be evaluated.

    Args:
        image_id: of the image; its place in a source that has no ids.
        stamp_ns: nanoseconds.
        rgb: (H, W, 3) uint8.
        camera: that took it.
        frame_id: the camera's optical frame; empty where the source has none.
        scene_id: of a BOP scene, else 0.
        truths: the true poses that the source itself knows, one an instance; None where it does not tell.
    """

    image_id: int
    stamp_ns: int
    rgb: NDArray[np.uint8]
    camera: Camera
    frame_id: str = ""
    scene_id: int = 0
    truths: tuple[Pose, ...] | None = None


T = TypeVar("T")


class Time:
    """Where the time of images jumps back, as where a recording begins anew: what follows images begins anew, too."""

    def __init__(self) -> None:
        self._last_ns: int | None = None

    def jumps_back(self, stamp_ns: int) -> bool:
        """Whether the next image, of this time, is earlier than the one before it."""
        before, self._last_ns = self._last_ns, stamp_ns
        return before is not None and stamp_ns < before


def by_stamp(values: Mapping[int, T], tolerance_ns: int) -> Callable[[Frame], T | None]:
    """What is known of an image: the value of the nearest stamp, nanoseconds, unless that is too far from its own."""
    stamps = np.array(sorted(values), dtype=np.int64)

    def value_of(frame: Frame) -> T | None:
        if not len(stamps):
            return None
        nearest = int(stamps[np.abs(stamps - frame.stamp_ns).argmin()])
        return values[nearest] if abs(nearest - frame.stamp_ns) <= tolerance_ns else None

    return value_of


@dataclass(frozen=True)
class FrameSource:
    """Images that can be gone through more than once.

    Args:
        path: of the bag, scene, video or folder; of something live, its name.
        kind: ``bag``, ``bop``, ``images`` or ``live``, which cannot be gone through again.
        frames: begins anew at each call.
        count: how many images there are; None where that is not known beforehand.
    """

    path: Path
    kind: str
    frames: Callable[[], Iterator[Frame]]
    count: Callable[[], int | None] = lambda: None


def open_source(
    path: Path | str,
    *,
    camera: Path | None = None,
    image_topic: str | None = None,
    camera_info_topic: str | None = None,
    object_id: int | None = None,
    window: Window = ALL,
    rectified: bool = False,
) -> FrameSource:
    """The source that lies at ``path``.

    Args:
        path: bag (folder or file), BOP scene folder, video, folder of images, or image; as text also a webcam (``0``,
            ``/dev/video0``) or the address of a stream.
        camera: camera_info YAML; needed for videos and folders, and for bags without CameraInfo.
        image_topic: of a bag with several.
        camera_info_topic: of a bag, where it is not beside the image topic.
        object_id: of a BOP scene with several objects.
        window: the part of it that is looked at.
        rectified: the images are: P of the CameraInfo holds, not K and D.

    Raises:
        ValueError: if there is nothing to read, or the camera is not known.
    """
    live = str(path) if is_live(str(path)) else None
    path = Path(path)
    if live is None and not path.exists():
        raise ValueError(f"{path}: no such bag, scene, video or folder")
    info = read_camera_info(camera) if camera is not None else None
    if live is None and BopScene.is_scene(path):
        if window != ALL:
            raise ValueError(f"{path}: a BOP scene has no time, so that no part of it can be chosen")
        if rectified:
            raise ValueError("rectified: expected none of a BOP scene, which has K alone")
        scene = BopScene(path)
        return FrameSource(path, "bop", partial(_bop_frames, scene, _object_id(scene, object_id)))
    if live is None and is_bag(path):
        frames = partial(_bag_frames, path, image_topic, camera_info_topic, info, window, rectified)
        return FrameSource(
            path, "bag", partial(_within, window, frames), partial(_bag_count, path, image_topic, window)
        )
    if info is None:
        raise ValueError(
            f"{live or path}: camera: expected the camera_info YAML of a video, of images or of a webcam, got none"
        )
    if live is not None:
        return FrameSource(
            Path(re.sub(r"\W+", "_", live)), "live", partial(_live_frames, live, info, window, rectified)
        )
    frames = partial(_image_frames, path, info, window, rectified)
    return FrameSource(path, "images", partial(_within, window, frames), partial(count_images, path, window))


def is_bag(path: Path) -> bool:
    """Whether a path looks like a bag: by its suffix, or a folder that has one inside."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or any(f.suffix in _BAG_SUFFIXES for f in path.iterdir())
    return path.suffix in _BAG_SUFFIXES


def open_bag(path: Path) -> BagReader:
    """A reader that knows this package's own messages, should the bag not carry their definitions."""
    return BagReader(path, message_types(resource("msg")))


def _within(window: Window, frames: Callable[[], Iterator[Frame]]) -> Iterator[Frame]:
    """The images; an error that names the window where it leaves none of them."""
    is_empty = True
    for frame in frames():
        is_empty = False
        yield frame
    if is_empty and window != ALL:
        until = "" if window.end == math.inf else f" and before {window.end:g} s"
        raise ValueError(f"start: the recording has no image from {window.start:g} s{until} after its first one")


@functools.cache  # once, however often the images are gone through
def doubt_distortion(image_topic: str, info: CameraInfo) -> None:
    """Warn where images that are taken as raw ones seem to be rectified."""
    if said := info.doubt(image_topic):
        logger.warning("%s", said)


def _bag_frames(
    path: Path,
    image_topic: str | None,
    camera_info_topic: str | None,
    info: CameraInfo | None,
    window: Window,
    rectified: bool,
) -> Iterator[Frame]:
    cameras: dict[CameraInfo, Camera] = {}
    with open_bag(path) as reader:
        topic = reader.camera_topics(image_topic, camera_info_topic)[0]
        for index, recorded in enumerate(reader.images(image_topic, camera_info_topic, True, info, window)):
            calibration = recorded.camera_info
            if calibration is None:
                raise BagError(
                    f"{path}: no CameraInfo beside the images; camera: expected the calibration's file, got none"
                )
            if calibration not in cameras:
                cameras[calibration] = calibration.camera(rectified)
                if not rectified:
                    doubt_distortion(topic, calibration)
            yield Frame(index, recorded.stamp_ns, recorded.rgb, cameras[calibration], recorded.frame_id)


def _bag_count(path: Path, image_topic: str | None, window: Window) -> int:
    with open_bag(path) as reader:
        first_ns, last_ns = reader.span_ns
        return window.count(reader.counts[reader.camera_topics(image_topic)[0]], 1e-9 * (last_ns - first_ns))


def _image_frames(path: Path, info: CameraInfo, window: Window, rectified: bool) -> Iterator[Frame]:
    camera = info.camera(rectified)
    for index, (stamp, rgb) in enumerate(read_images(path, window=window)):
        yield Frame(index, round(1e9 * stamp), rgb, camera)


def _live_frames(source: str, info: CameraInfo, window: Window, rectified: bool) -> Iterator[Frame]:
    camera, takes = info.camera(rectified), window.taking()
    began: float | None = None
    for index, (stamp, rgb) in enumerate(live_images(source)):
        began = stamp if began is None else began
        if stamp - began > window.end:
            return
        if takes(stamp - began):
            yield Frame(index, round(1e9 * stamp), rgb, camera)


def _object_id(scene: BopScene, wanted: int | None) -> int:
    found = scene.object_ids
    if wanted is None and len(found) != 1:
        raise ValueError(f"{scene.folder}: object_id: expected one of {sorted(found)}, got none")
    chosen = wanted if wanted is not None else next(iter(found))
    if chosen not in found:
        raise ValueError(f"{scene.folder}: no object {chosen}; there are {sorted(found)}")
    return chosen


def _bop_frames(scene: BopScene, object_id: int) -> Iterator[Frame]:
    for image in scene.images():
        seen = [i for i in image.instances if i.object_id == object_id and i.visible >= VISIBLE]
        seen.sort(key=lambda instance: -instance.visible)
        truths = tuple(instance.pose for instance in seen)
        stamp_ns = image.image_id * 1_000_000_000
        yield Frame(image.image_id, stamp_ns, image.rgb, image.camera, "", image.scene_id, truths)
