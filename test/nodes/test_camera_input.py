"""An image and its CameraInfo must be of one camera."""

import time

import pytest

pytest.importorskip("rclpy")

import rclpy
from sensor_msgs.msg import CameraInfo, Image

from pnp_ros.nodes.camera_input import CameraOf, take_waiting
from pnp_ros.nodes.ros_compat import LATCHED


def _pair(image_frame: str = "left", info_frame: str = "left", focal: float = 300.0) -> tuple[Image, CameraInfo]:
    image, info = Image(), CameraInfo(width=320, height=240, distortion_model="plumb_bob", d=[0.0] * 5)
    image.header.frame_id, info.header.frame_id = image_frame, info_frame
    info.k = [focal, 0.0, 160.0, 0.0, focal, 120.0, 0.0, 0.0, 1.0]
    info.p = [focal, 0.0, 160.0, 0.0, 0.0, focal, 120.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    return image, info


def test_another_cameras_info_is_refused_naming_both() -> None:
    with pytest.raises(ValueError, match=r"camera_info\.header\.frame_id: expected the image's, 'left', got 'right'"):
        CameraOf(print)(*_pair(info_frame="right"), rectified=False)


@pytest.mark.parametrize("info_frame", ["left", "/left", ""])
def test_one_frame_in_several_spellings_is_one(info_frame: str) -> None:
    assert CameraOf(print)(*_pair(info_frame=info_frame), rectified=False).width == 320


def test_a_changed_calibration_is_told_once() -> None:
    said: list[str] = []
    camera_of = CameraOf(said.append)
    first = camera_of(*_pair(), rectified=False)
    assert camera_of(*_pair(), rectified=False) is first
    assert camera_of(*_pair(focal=310.0), rectified=False).intrinsics[0] == 310.0
    camera_of(*_pair(focal=310.0), rectified=False)
    (line,) = said
    assert "fx 300.00" in line
    assert "fx 310.00" in line


def test_a_topic_named_as_rectified_images_are_is_doubted_where_the_lens_distorts() -> None:
    said: list[str] = []
    image, info = _pair()
    for topic, bend, rectified in (("/image_rect", 0.0, False), ("/image_raw", 0.1, False), ("/image_rect", 0.1, True)):
        info.d = [bend, 0.0, 0.0, 0.0, 0.0]
        CameraOf(said.append, topic)(image, info, rectified)
    assert not said
    CameraOf(said.append, "/image_rect")(image, info, rectified=False)
    assert said == ["/image_rect: by its name rectified, but K and D are taken; where P holds, say so (rectified)"]


def test_what_has_arrived_is_taken_without_the_executor() -> None:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("takes", context=context, start_parameter_services=False)
    try:
        publisher = node.create_publisher(CameraInfo, "info", LATCHED)
        subscription, taken = node.create_subscription(CameraInfo, "info", print, LATCHED), list[CameraInfo]()
        publisher.publish(CameraInfo(width=320))
        deadline = time.monotonic() + 20.0
        while not taken and time.monotonic() < deadline:
            take_waiting(subscription, taken.append)
            time.sleep(0.01)
        assert [message.width for message in taken] == [320]
        take_waiting(subscription, taken.append)
        node.destroy_subscription(subscription)
        take_waiting(subscription, taken.append)
        assert len(taken) == 1
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
