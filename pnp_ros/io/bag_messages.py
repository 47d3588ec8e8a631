"""What is in bags: message types, time stamps, quality of service; and the one error about bags."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
_INFINITE = QosTime(sec=9223372036, nsec=854775807)  # as rmw spells it


class BagError(ValueError):
    """A bag cannot be read or written; the message names it."""


def message_types(folder: Path | str | None = None, package: str = "pnp_ros") -> Typestore:
    """The message types of ROS 2 Jazzy, and those of a folder of ``.msg`` files as ``<package>/msg/<name>``.

    Raises:
        BagError: if the folder holds no ``.msg`` file or one that cannot be parsed.
    """
    types = get_typestore(Stores.ROS2_JAZZY)
    if folder is None:
        return types
    files = sorted(Path(folder).glob("*.msg"))
    if not files:
        raise BagError(f"{folder}: no .msg file in this folder")
    names = {f"{package}/msg/{file.stem}": file for file in files}
    definitions: dict[str, Any] = {}
    for name, file in names.items():
        with explained(file):
            definitions.update(get_types_from_msg(file.read_text(), name))
    types.register(definitions)
    for name, file in names.items():
        with explained(file):
            types.hash_rihs01(name)  # fails where a field's type is unknown
    return types


def offered_qos(latched: bool) -> Qos:
    """What publishers offer by default; ``latched``: transient-local, as /tf_static."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_INFINITE,
        lifespan=_INFINITE,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_INFINITE,
        avoid_ros_namespace_conventions=False,
    )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Whatever rosbags raises becomes a :class:`BagError` that names the file.

    A damaged file can break its parsers anywhere (struct, sqlite3, YAML, assertions), so every exception counts.
    """
    try:
        yield
    except (BagError, GeneratorExit):
        raise
    except Exception as error:
        raise BagError(f"{path}: {error or type(error).__name__}") from error
