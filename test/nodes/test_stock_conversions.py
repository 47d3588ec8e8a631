"""cv_bridge and tf_transformations give what our own code gives, and are used where they are installed."""

from __future__ import annotations

import array

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")

from sensor_msgs.msg import Image

from pnp_ros.geometry import so3
from pnp_ros.io.encodings import ENCODINGS
from pnp_ros.io.images import ImageError, decode_raw
from pnp_ros.nodes import conversions, ros_compat
from pnp_ros.types import Pose

HEIGHT, WIDTH = 48, 64


def _image(encoding: str, padding: int = 0) -> Image:
    channels = ENCODINGS[encoding].channels
    step = WIDTH * channels + padding
    data = np.random.default_rng(3).integers(0, 256, HEIGHT * step, np.uint8)
    message = Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=step)
    message.data = array.array("B", data.tobytes())
    return message


def _ours(message: Image) -> np.ndarray:
    return decode_raw(message.data, message.width, message.height, message.encoding, message.step)


@pytest.mark.ros
@pytest.mark.parametrize("encoding", sorted(conversions.BRIDGED))
def test_cv_bridge_gives_the_same_bytes(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if ros_compat.image_bridge() is None:
        pytest.skip("cv_bridge is not installed")
    for pixels in (0, 4):
        message = _image(encoding, pixels * ENCODINGS[encoding].channels)
        expected = _ours(message)
        with monkeypatch.context() as patch:
            patch.setattr(conversions, "decode_raw", None)  # it is cv_bridge that decodes
            found = conversions.rgb_from_image(message, None)
        np.testing.assert_array_equal(found, expected)
        assert found.flags.owndata
        assert found.flags.writeable


@pytest.mark.ros
def test_rows_that_cv_bridge_reads_wrongly_are_ours() -> None:
    bridge = ros_compat.image_bridge()
    if bridge is None:
        pytest.skip("cv_bridge is not installed")
    message = _image("rgb8", padding=1)
    expected = _ours(message)
    np.testing.assert_array_equal(conversions.rgb_from_image(message, None), expected)
    assert (bridge.imgmsg_to_cv2(message, "rgb8") != expected).any()  # else the exception could go


@pytest.mark.ros
def test_tf_transformations_gives_the_same_quaternions(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = ros_compat.transformations()
    if theirs is None:
        pytest.skip("tf_transformations is not installed")
    generator = torch.Generator().manual_seed(1)
    rotations = [*so3.random_rotation(200, generator=generator, dtype=torch.float64)]
    rotations += [
        so3.exp(torch.tensor(turn, dtype=torch.float64)) for turn in ([0.0, 0, 0], [3.1, 0, 0], [0, -1e-7, 0])
    ]
    for rotation in rotations:
        used = conversions.message_from_pose(Pose(rotation, torch.zeros(3, dtype=torch.float64))).orientation
        with monkeypatch.context() as patch:
            patch.setattr(conversions, "transformations", lambda: None)
            alone = conversions.message_from_pose(Pose(rotation, torch.zeros(3, dtype=torch.float64))).orientation
        found, expected = ([q.x, q.y, q.z, q.w] for q in (used, alone))
        np.testing.assert_allclose(found, expected, atol=1e-12)
        np.testing.assert_allclose(theirs.quaternion_matrix(found)[:3, :3], rotation, atol=1e-12)


class _Bridge:
    """Stands in for cv_bridge where that is not installed."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def imgmsg_to_cv2(self, message: Image, encoding: str) -> np.ndarray:
        self.asked.append(f"{message.encoding} {encoding}")
        return np.frombuffer(message.data, np.uint8).reshape(HEIGHT, -1, 3)[:, :WIDTH]


def test_cv_bridge_is_asked_for_what_it_knows_and_only_sound_images(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = _Bridge()
    monkeypatch.setattr(conversions, "image_bridge", lambda: bridge)
    found = conversions.rgb_from_image(_image("rgb8"), None)
    np.testing.assert_array_equal(found, _ours(_image("rgb8")))
    assert found.flags.owndata
    assert bridge.asked == ["rgb8 rgb8"]
    for message in (_image("rgb8", padding=1), _image("8UC3")):
        np.testing.assert_array_equal(conversions.rgb_from_image(message, None), _ours(message))
    short = _image("rgb8")
    short.data = short.data[:-1]
    with pytest.raises(ImageError, match=r"image\.data"):
        conversions.rgb_from_image(short, None)
    assert bridge.asked == ["rgb8 rgb8"]


def test_tf_transformations_may_choose_the_other_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    class Theirs:
        @staticmethod
        def quaternion_from_matrix(matrix: np.ndarray) -> np.ndarray:
            assert matrix.shape == (4, 4)
            return np.array([0.0, 0.0, -0.6, -0.8])

    monkeypatch.setattr(conversions, "transformations", lambda: Theirs)
    assert conversions.quat_xyzw_from_matrix(torch.eye(3, dtype=torch.float64)) == (0.0, 0.0, 0.6, 0.8)
