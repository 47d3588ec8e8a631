"""Reads bags of ROS 2 and ROS 1 without ROS, with whatever message types they carry."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rosbags.convert.converter import migrate_bytes
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, Qos, QosDurability
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from pnp_ros.io.bag_files import bag_files
from pnp_ros.io.bag_messages import COMPRESSED_IMAGE, IMAGE, BagError, explained, message_types, offered_qos
from pnp_ros.io.camera_info import CameraInfo
from pnp_ros.io.images import ImageError, RgbImage, decode_compressed, decode_raw
from pnp_ros.io.stamps import nanoseconds
from pnp_ros.io.window import ALL, Window

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class BagImage:
    """One image of a bag.

    Args:
        stamp_ns: of acquisition, from the message's header, nanoseconds.
        frame_id: the camera's optical frame.
        rgb: (H, W, 3) uint8.
        camera_info: the one of the same stamp, else the last before it, else the first; None without such a topic.
    """

    stamp_ns: int
    frame_id: str
    rgb: RgbImage
    camera_info: CameraInfo | None


class BagReader:
    """Reads a bag folder, or a single ``.mcap``, ``.db3`` or (ROS 1) ``.bag`` file; a context manager.

    The bag's own type definitions are used; ``types`` serves where it has none. Of an mcap bag that was cut short the
    whole chunks are read, and a warning says how much is missing; a bag without its ``metadata.yaml``, or with a wrong
    one, is read too.

    Raises:
        BagError: if the bag is absent, damaged, holds no message, or is of another format.
    """

    def __init__(self, path: Path | str, types: Typestore | None = None) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise BagError(f"{self.path}: no such bag")
        self._scratch = ExitStack()
        try:
            with explained(self.path):
                files = bag_files(self.path, self._scratch)
                self._reader = AnyReader(files, default_typestore=types or message_types())
                self._reader.open()
        except BagError:
            self._scratch.close()
            raise
        formats = {getattr(c.ext, "serialization_format", "cdr") for c in self._reader.connections} - {"cdr"}
        if self._reader.message_count == 0 or formats:
            self.close()
            wrong = f"serialised as {', '.join(formats)}, expected cdr" if formats else "the bag holds no message"
            raise BagError(f"{self.path}: {wrong}")

    @property
    def is_ros1(self) -> bool:
        """Whether this is a bag of ROS 1."""
        return not self._reader.is2

    @property
    def counts(self) -> dict[str, int]:
        """How many messages each topic has."""
        return {topic: info.msgcount for topic, info in sorted(self._reader.topics.items())}

    @property
    def span_ns(self) -> tuple[int, int]:
        """Time of recording of the first and the last message, nanoseconds."""
        return self._reader.start_time, self._reader.end_time - 1

    @property
    def topics(self) -> dict[str, str]:
        """The type of each topic."""
        return {connection.topic: connection.msgtype for connection in self._reader.connections}

    def messages(self, *topics: str) -> Iterator[tuple[str, int, Any]]:
        """Topic, time of recording (ns) and message, in the order of recording; of all topics if none is named.

        Raises:
            BagError: if a topic is absent, or the bag is damaged.
        """
        connections = self._connections(topics)
        with explained(self.path):
            for connection, stamp_ns, data in self._raw(connections):
                yield connection.topic, stamp_ns, self._reader.deserialize(data, connection.msgtype)

    def _raw(self, connections: list[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """The messages unopened; a warning if the bag counts more of them than it gives."""
        count = 0
        for connection, stamp_ns, data in self._reader.messages(connections=connections):
            count += 1
            yield connection, stamp_ns, data
        expected = sum(connection.msgcount for connection in connections)
        if count < expected:
            logger.warning("%s: %d of %d messages can be read", self.path, count, expected)

    def _connections(self, topics: tuple[str, ...]) -> list[Connection]:
        if missing := [topic for topic in topics if topic not in self.topics]:
            raise BagError(f"{self.path}: no topic {', '.join(missing)}; there are {', '.join(sorted(self.topics))}")
        return [c for c in self._reader.connections if not topics or c.topic in topics]

    def offered(self) -> dict[str, list[Qos]]:
        """The quality of service of each topic's publishers, as far as the bag tells; ROS 1 knows latched alone."""
        found: dict[str, list[Qos]] = {}
        for c in self._reader.connections:
            profiles = getattr(c.ext, "offered_qos_profiles", None)
            found.setdefault(c.topic, []).extend([offered_qos(_is_latched(c))] if profiles is None else profiles)
        return found

    def latched(self) -> set[str]:
        """Topics whose publishers offered transient-local durability (ROS 1: latched)."""
        return {c.topic for c in self._reader.connections if _is_latched(c)}

    def serialized(self, *topics: str) -> Iterator[tuple[str, str, int, memoryview]]:
        """Topic, type, time of recording (ns) and CDR of each message, in the order of recording.

        What a ROS 1 bag holds is rewritten for ROS 2, where the message still exists.

        Raises:
            BagError: if a topic is absent, a message cannot be rewritten, or the bag is damaged.
        """
        chosen = self._connections(topics)
        types = message_types()
        cache: dict[Any, Any] = {}
        with explained(self.path):
            for connection, stamp_ns, data in self._raw(chosen):
                kind, cdr = connection.msgtype, memoryview(data)
                if self.is_ros1:
                    source = self._reader.typestore
                    cdr = migrate_bytes(source, types, kind, kind, cache, data, src_is2=False, dst_is2=True)
                yield connection.topic, kind, stamp_ns, cdr

    @property
    def types(self) -> Typestore:
        """The types of :meth:`serialized` messages, and Jazzy's others."""
        jazzy = message_types()
        if self.is_ros1:
            return jazzy
        types = get_typestore(Stores.EMPTY)
        types.register({**jazzy.fielddefs, **self._reader.typestore.fielddefs})
        return types

    def images(
        self,
        image_topic: str | None = None,
        camera_info_topic: str | None = None,
        skip_broken: bool = False,
        camera: CameraInfo | None = None,
        window: Window = ALL,
    ) -> Iterator[BagImage]:
        """The decoded images of a topic, with their camera.

        Args:
            image_topic: of Image or CompressedImage; may be left out where there is only one.
            camera_info_topic: by default ``camera_info`` beside the image topic, where there is one.
            skip_broken: leave out, with a warning, an image that cannot be decoded.
            camera: takes the place of the recorded ones.
            window: the others are not decoded.

        Raises:
            BagError: if a topic is absent or ambiguous, or an image cannot be decoded; one that is compressed is not,
                where its header names another size than the camera's.
        """
        image_topic, camera_info_topic = self.camera_topics(image_topic, camera_info_topic)
        infos = self._camera_infos(camera_info_topic) if camera_info_topic and camera is None else {}
        stamps = np.array(sorted(infos), dtype=np.int64)
        first_ns: int | None = None
        takes = window.taking()
        for _, _, message in self.messages(image_topic):
            stamp_ns = nanoseconds(message.header.stamp)
            first_ns = stamp_ns if first_ns is None else first_ns
            if not takes(1e-9 * (stamp_ns - first_ns)):
                continue
            info = camera
            if infos:
                info = infos[int(stamps[max(0, int(np.searchsorted(stamps, stamp_ns, side="right")) - 1)])]
            try:
                rgb = self._decode(image_topic, message, info)
            except BagError as error:
                if not skip_broken:
                    raise
                logger.warning("left out: %s", error)
                continue
            yield BagImage(stamp_ns, message.header.frame_id, rgb, info)

    def camera_topics(
        self, image_topic: str | None = None, camera_info_topic: str | None = None
    ) -> tuple[str, str | None]:
        """The topics of the images and of their CameraInfo; arguments as of :meth:`images`.

        Raises:
            BagError: if a topic is absent or ambiguous.
        """
        image_topic = image_topic or self._only_image_topic()
        if camera_info_topic is None:
            sibling = image_topic.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"
            camera_info_topic = sibling if sibling in self.topics else None
        self._connections((image_topic, *((camera_info_topic,) if camera_info_topic else ())))
        return image_topic, camera_info_topic

    def _only_image_topic(self) -> str:
        found = [topic for topic, kind in self.topics.items() if kind in (IMAGE, COMPRESSED_IMAGE)]
        if len(found) != 1:
            raise BagError(
                f"{self.path}: expected one image topic, found {', '.join(sorted(found)) or 'none'}; name one"
            )
        return found[0]

    def _camera_infos(self, topic: str) -> dict[int, CameraInfo]:
        return {
            nanoseconds(message.header.stamp): CameraInfo.from_message(message)
            for _, _, message in self.messages(topic)
        }

    def _decode(self, topic: str, message: Any, info: CameraInfo | None) -> RgbImage:
        try:
            if self.topics[topic] == COMPRESSED_IMAGE:
                return decode_compressed(message.data, info.image_size if info else None, message.format)
            big = bool(message.is_bigendian)
            return decode_raw(message.data, message.width, message.height, message.encoding, message.step, big)
        except ImageError as error:
            raise BagError(f"{self.path}: {topic} at {nanoseconds(message.header.stamp)} ns: {error}") from error

    def close(self) -> None:
        """Close the bag."""
        if self._reader.stack is not None:
            self._reader.close()
        self._scratch.close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_latched(connection: Connection) -> bool:
    profiles = getattr(connection.ext, "offered_qos_profiles", None)
    if profiles is None:
        return bool(getattr(connection.ext, "latching", False))
    return any(profile.durability == QosDurability.TRANSIENT_LOCAL for profile in profiles)
