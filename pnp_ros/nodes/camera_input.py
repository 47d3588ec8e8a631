"""The camera side of a node: its subscriptions, and the one camera that an image and its CameraInfo agree on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pnp_ros.cameras.camera import Camera
from pnp_ros.io.camera_info import CameraInfo as Calibration
from pnp_ros.nodes import conversions

_LOSSLESS = QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=ReliabilityPolicy.RELIABLE)
_PUBLISHED_ONCE = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


def subscribe(
    node: Node,
    *,
    compressed: bool,
    keep_all: bool,
    keep_info: bool,
    on_image: Callable[[Any], None],
    on_info: Callable[[Any], None],
    on_lost: Callable[[int], None],
) -> list[Any]:
    """Subscribe to ``image`` and ``camera_info``.

    Args:
        compressed: to ``image/compressed``.
        keep_all: reliably and without a limit, for replays; else with sensor-data quality of service.
        keep_info: also to a CameraInfo that was published once, before.
        on_lost: told how many messages the middleware says were lost.

    Returns:
        The subscriptions.
    """

    def told(event: Any) -> None:
        on_lost(event.total_count_change)

    image = node.resolve_topic_name("image") + ("/compressed" if compressed else "")
    quality = _LOSSLESS if keep_all else qos_profile_sensor_data

    def one(kind: type, topic: str, put: Callable[[Any], None], quality: QoSProfile, name: str | None = None) -> Any:
        return node.create_subscription(
            kind,
            topic,
            put,
            quality,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(entity_id=name),
            event_callbacks=SubscriptionEventCallbacks(message_lost=told),
        )

    def with_info(message: Any) -> None:
        on_image(message)
        take_waiting(info, on_info)

    info = one(CameraInfo, "camera_info", on_info, quality)
    made = [one(CompressedImage if compressed else Image, image, with_info, quality), info]
    if keep_info:
        made.append(one(CameraInfo, "camera_info", on_info, _PUBLISHED_ONCE, "once"))
    return made


def take_waiting(subscription: Any, put: Callable[[Any], None]) -> None:
    """Hand over a message that has arrived already: the executor's next turn, which would, takes a millisecond."""
    taken = None
    with contextlib.suppress(rclpy_implementation.InvalidHandle), subscription.handle:  # it may be destroyed by now
        taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
    if taken is not None:
        put(taken[0])


class CameraOf:
    """The camera of each image; remembers the last, which nearly always is the next one's too.

    Args:
        warn: told in words when the calibration of the running stream changes, or does not fit its topic's name.
        topic: of the images.
    """

    def __init__(self, warn: Callable[[str], None], topic: str = "") -> None:
        self._warn, self._topic = warn, topic
        self._key: tuple[Any, ...] = ()
        self._camera: Camera | None = None

    def __call__(self, image: Image | CompressedImage, info: CameraInfo, rectified: bool) -> Camera:
        """The camera that took ``image``.

        Raises:
            ValueError: naming the field: no frame, the CameraInfo of another camera, or a calibration that is wrong.
        """
        frame, of_info = image.header.frame_id.lstrip("/"), info.header.frame_id.lstrip("/")
        if not frame:
            raise ValueError("image.header.frame_id: expected the camera's optical frame, got nothing")
        if of_info and of_info != frame:
            raise ValueError(f"camera_info.header.frame_id: expected the image's, {frame!r}, got {of_info!r}")
        roi = info.roi
        key = (frame, rectified, info.width, info.height, info.distortion_model, *info.d, *info.k, *info.p)
        key += (info.binning_x, info.binning_y, roi.x_offset, roi.y_offset, roi.width, roi.height)
        if key == self._key and self._camera is not None:
            return self._camera
        camera = conversions.camera_from_message(info, rectified)
        if not rectified and (doubt := Calibration.from_message(info).doubt(self._topic)):
            self._warn(doubt)
        if self._camera is not None:
            before, now = self._camera, camera
            self._warn(f"the calibration changed: {_describe(self._key[0], before)} became {_describe(frame, now)}")
        self._key, self._camera = key, camera
        return camera


def _describe(frame: str, camera: Camera) -> str:
    fx, fy, cx, cy = camera.intrinsics.tolist()
    return f"{frame} {camera.width}x{camera.height} fx {fx:.2f} fy {fy:.2f} cx {cx:.2f} cy {cy:.2f}"
