"""Writes ROS 2 bags without ROS, so that ``ros2 bag play`` plays them.

Messages are rosbags' plain dataclasses with the fields of the ROS messages; arrays are numpy. Serialised messages, as a
raw rclpy subscription delivers them, can be written unopened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer
from rosbags.typesys.store import Typestore

from pnp_ros.io.bag_messages import CAMERA_INFO, IMAGE, BagError, explained, message_types, offered_qos
from pnp_ros.io.images import RgbImage

if TYPE_CHECKING:  # a recorder needs no torch
    from pnp_ros.io.camera_info import CameraInfo

_STORAGE = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}


class BagWriter:
    """Writes a new bag; a context manager.

    Args:
        path: the bag's folder, which must not exist yet.
        storage: ``mcap`` or ``sqlite3``.
        types: as :func:`message_types` gives them; Jazzy's own by default.

    Raises:
        BagError: if the folder exists or cannot be made, or a message does not fit its type.
    """

    def __init__(
        self, path: Path | str, storage: Literal["mcap", "sqlite3"] = "mcap", types: Typestore | None = None
    ) -> None:
        self.path = Path(path)
        self.types = types or message_types()
        if storage not in _STORAGE:
            raise BagError(f"storage: expected mcap or sqlite3, got {storage!r}")
        self._topics: dict[str, Connection] = {}
        with explained(self.path):
            # Jazzy's rosbag2 writes version 9 and reads 8 too; that of Humble and Iron does not read 9
            self._writer = Writer(self.path, version=8, storage_plugin=_STORAGE[storage])
            self._writer.open()
            _name_as_rosbag2(self._writer)
        self._open = True

    def write_serialized(
        self,
        topic: str,
        message_type: str,
        data: bytes | memoryview,
        stamp_ns: int,
        latched: bool = False,
        offered: Sequence[Qos] = (),
    ) -> None:
        """Append a serialised (CDR) message.

        Args:
            topic: its name; one type a topic.
            message_type: for instance ``sensor_msgs/msg/Image``.
            data: CDR with its four-byte header.
            stamp_ns: when it was received, nanoseconds.
            latched: transient-local durability, for topics as /tf_static; the topic's first message decides.
            offered: quality of service of each of the topic's publishers, in place of ``latched`` where it is known.
        """
        connection = self._topics.get(topic)
        with explained(self.path):
            if connection is None:
                if message_type not in self.types.fielddefs:
                    raise BagError(f"{self.path}: {topic} has the unknown type {message_type}")
                connection = self._writer.add_connection(
                    topic, message_type, typestore=self.types, offered_qos_profiles=offered or [offered_qos(latched)]
                )
                self._topics[topic] = connection
            if connection.msgtype != message_type:
                raise BagError(f"{self.path}: {topic} holds {connection.msgtype}, got {message_type}")
            self._writer.write(connection, stamp_ns, data)

    def write(self, topic: str, message: Any, stamp_ns: int, latched: bool = False) -> None:
        """Append a message made by :meth:`message`; arguments as in :meth:`write_serialized`."""
        name = message.__msgtype__
        with explained(self.path):
            data = self.types.serialize_cdr(message, name)
        self.write_serialized(topic, name, data, stamp_ns, latched)

    def message(self, message_type: str, **fields: Any) -> Any:
        """A message of a type; every field must be given, arrays of numbers as numpy arrays."""
        with explained(self.path):
            return self.types.types[message_type](**fields)

    def write_image(self, topic: str, rgb: RgbImage, stamp_ns: int, frame_id: str) -> None:
        """Append an image (H, W, 3) uint8 as ``sensor_msgs/Image``."""
        height, width = rgb.shape[:2]
        header = self.header(stamp_ns, frame_id)
        fields = {"height": height, "width": width, "encoding": "rgb8", "is_bigendian": 0, "step": 3 * width}
        self.write(topic, self.message(IMAGE, header=header, data=rgb.reshape(-1), **fields), stamp_ns)

    def write_camera_info(self, topic: str, info: CameraInfo, stamp_ns: int, frame_id: str) -> None:
        """Append a ``sensor_msgs/CameraInfo``."""
        fields = {name: np.array(getattr(info, name), np.float64) for name in ("d", "k", "r", "p")}
        roi = self.message("sensor_msgs/msg/RegionOfInterest", **vars(info.roi))
        message = self.message(
            CAMERA_INFO,
            header=self.header(stamp_ns, frame_id),
            height=info.height,
            width=info.width,
            distortion_model=info.distortion_model,
            binning_x=info.binning_x,
            binning_y=info.binning_y,
            roi=roi,
            **fields,
        )
        self.write(topic, message, stamp_ns)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """A ``std_msgs/Header``."""
        sec, nanosec = divmod(stamp_ns, 1_000_000_000)
        stamp = self.message("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
        return self.message("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def close(self) -> None:
        """Finish the bag; safe to call twice."""
        if self._open:
            self._open = False
            with explained(self.path):
                self._writer.close()

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _name_as_rosbag2(writer: Writer) -> None:
    """``X/X_0.mcap``, not ``X/X.mcap``: ``ros2 bag reindex`` looks for the number. Before anything is written."""
    storage = writer.storage
    assert storage is not None
    if isinstance(storage, Sqlite3Writer):  # an open database must not be renamed
        storage.conn.close()
    storage.path = storage.path.rename(storage.path.with_stem(f"{storage.path.stem}_0"))
    if isinstance(storage, Sqlite3Writer):
        storage.conn = sqlite3.connect(storage.path, check_same_thread=False)  # a recorder writes on its own thread
        storage.cursor = storage.conn.cursor()
