import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("moderngl")

from pnp_ros.io.bag_messages import message_types
from pnp_ros.io.bag_reader import BagReader
from pnp_ros.io.images import write_image
from pnp_ros.io.resources import resource
from pnp_ros.msg import ObjectPose
from pnp_ros.nodes import conversions
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.rendering.domain_shift import ShiftedScene, strong_shift
from pnp_ros.rendering.simulation import SimulationConfig

TOPICS = ["/camera/image_raw", "/camera/camera_info", "/camera/simulated_camera/truth", "/tf"]
PATIENCE_S = 300.0  # the machine may be busy


def _node(name: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"pnp_ros.nodes.{name}_node", "--ros-args", "-r", "__ns:=/camera"]
    return subprocess.Popen(command + [word for argument in arguments for word in ("-p", argument)], text=True)


def _record(bag: Path, topics: list[str], *camera: str) -> dict[str, list[Any]]:
    """Play a camera into a bag; the messages by topic."""
    # The camera waits for who listens to its images and CameraInfos: these are subscribed to last.
    recorder = _node("bag_recorder", f"output:={bag}", f"topics:=[{', '.join(reversed(topics))}]")
    simulated = _node("simulated_camera", "wait_for_subscribers:=1", "rate:=20.0", "reliable:=true", *camera)
    try:
        assert simulated.wait(PATIENCE_S) == 0
        time.sleep(0.5)
    finally:
        simulated.kill()
        recorder.send_signal(signal.SIGINT)
        assert recorder.wait(PATIENCE_S) == 0
    found: dict[str, list[Any]] = {topic: [] for topic in topics}
    with BagReader(bag, message_types(resource("msg"))) as reader:
        for topic, _, message in reader.messages():
            found[topic].append(message)
    return found


@pytest.mark.usefixtures("ros")
def test_every_rendered_image_comes_with_info_and_truth(package: ObjectPackage, tmp_path: Path) -> None:
    found = _record(tmp_path / "bag", TOPICS, f"object:={package.root}", "frames:=12")
    images, infos, truths, transforms = (found[topic] for topic in TOPICS)
    assert [len(messages) for messages in found.values()] == [12] * 4
    for image, info, truth, tf in zip(images, infos, truths, transforms):
        (transform,) = tf.transforms
        stamps = {str(message.header.stamp) for message in (image, info, truth, transform)}
        assert len(stamps) == 1
        assert image.header.frame_id == info.header.frame_id == transform.header.frame_id == "camera_optical_frame"
        assert (image.width, image.height, image.encoding) == (640, 480, "rgb8")
        (true,) = truth.objects
        assert (true.state, true.object_name) == (ObjectPose.VALID, "demo")
        assert true.score == 1.0
        assert transform.child_frame_id == "object_truth"
        assert transform.transform.translation.z == true.pose.pose.position.z > 0.0
    assert not np.array_equal(images[0].data, images[-1].data)


@pytest.mark.usefixtures("ros")
def test_a_shift_is_that_of_the_library(package: ObjectPackage, tmp_path: Path) -> None:
    found = _record(tmp_path / "bag", TOPICS[:3], f"object:={package.root}", "frames:=2", "shift:=3", "seed:=5")
    image, info, truth = (found[topic][1] for topic in TOPICS[:3])
    camera = conversions.camera_from_message(info)
    expected = ShiftedScene(package.mesh, camera, strong_shift(3), SimulationConfig(seed=5)).frame(1, 20.0)
    assert np.array_equal(np.frombuffer(image.data, np.uint8), expected.rgb.ravel())
    assert expected.pose is not None
    assert truth.objects[0].pose.pose.position.z == float(expected.pose.translation[2])


@pytest.mark.usefixtures("ros")
def test_images_of_a_folder_are_played_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(5):
        write_image(folder / f"{i}.png", np.full((480, 640, 3), 40 * i, np.uint8))
    topics = ["/camera/image_raw/compressed", "/camera/camera_info"]
    found = _record(tmp_path / "bag", topics, f"source:={folder}", "compressed:=true")
    with BagReader(tmp_path / "bag") as reader:
        levels = [recorded.rgb.mean() for recorded in reader.images(topics[0], topics[1])]
    np.testing.assert_allclose(levels, [0, 40, 80, 120, 160], atol=2.0)
    assert len(found[topics[1]]) == 5


@pytest.mark.usefixtures("ros")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_cleanly_while_it_publishes(package: ObjectPackage, number: signal.Signals) -> None:
    camera = subprocess.Popen(
        [sys.executable, "-m", "pnp_ros.nodes.simulated_camera_node", "--ros-args"]
        + [word for value in (f"object:={package.root}", "rate:=100.0", "frames:=0") for word in ("-p", value)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert camera.stderr is not None
    assert "image 200" in camera.stderr.readline()
    camera.send_signal(number)
    assert camera.wait(PATIENCE_S) == 0
    assert "Traceback" not in camera.stderr.read()


@pytest.mark.usefixtures("ros")
def test_wrong_source_is_said_in_one_line() -> None:
    command = [sys.executable, "-m", "pnp_ros.nodes.simulated_camera_node", "--ros-args", "-p", "object:=/nowhere"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 1
    assert "/nowhere: no such object package" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("images", "1.png: image.data: "),
        ("nothing", "nothing: no image in this folder"),
        ("junk.mp4", "junk.mp4: not a readable video"),
        ("", "parameter object: expected the folder of an object package"),
    ],
)
def test_what_cannot_be_shown_ends_it_in_one_line(ros: None, tmp_path: Path, source: str, expected: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "nothing").mkdir()
    write_image(tmp_path / "images/0.png", np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "images/1.png").write_bytes((tmp_path / "images/0.png").read_bytes()[:40])
    (tmp_path / "junk.mp4").write_bytes(b"junk")
    words = ["-p", f"source:={tmp_path / source}", "-p", "rate:=50.0"] if source else []
    command = [sys.executable, "-m", "pnp_ros.nodes.simulated_camera_node", "--ros-args", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 1
    assert expected in ended.stderr
    assert ended.stderr.count("[FATAL]") == 1
    assert "Traceback" not in ended.stderr
