from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import SetBool, Trigger

from pnp_ros.nodes import conversions
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator

NUM_IMAGES = 8


@pytest.fixture(scope="module")
def estimator(start_estimator: Any, package: ObjectPackage) -> Iterator[None]:
    """One process for the tests of this file: starting one takes seconds."""
    with start_estimator(package.root):
        yield


@pytest.fixture
def talking(estimator: None, probe: Any) -> Any:
    """A probe that the estimator listens to, and that starts with a reset."""
    probe.wait_until_connected()
    probe.call(Trigger, "reset", Trigger.Request())
    return probe


def test_poses_are_those_of_the_library(talking: Any, package: ObjectPackage, open_gates: EstimatorConfig) -> None:
    for index in range(NUM_IMAGES):
        talking.send(talking.image(index), talking.camera_info(index))
    talking.wait(lambda: len(talking.received["objects"]) == NUM_IMAGES, what="all images")
    talking.wait(lambda: len(talking.received["tf"]) == NUM_IMAGES, what="transforms")
    library = PoseEstimator(package, open_gates)
    camera = conversions.camera_from_message(talking.camera_info(0))
    for index, published in enumerate(talking.received["poses"]):
        expected = library.estimate(talking.pixels(index), camera, conversions.seconds(talking.header(index).stamp))
        assert expected.estimate is not None
        assert published == conversions.stamped_pose(talking.header(index), expected.estimate)  # to the last bit
        shown = talking.received["objects"][index]
        assert shown.header == talking.header(index)
        assert shown.objects == [conversions.object_pose(expected, package.name)]
        (transform,) = talking.received["tf"][index].transforms
        assert transform == conversions.transform(talking.header(index), package.name, expected.estimate.pose)
    assert len(talking.received["poses"]) == NUM_IMAGES


def test_latency_and_correspondences_come_with_the_objects(talking: Any) -> None:
    talking.send(talking.image(0), talking.camera_info(0))
    talking.wait(lambda: talking.received["correspondences"], what="correspondences")
    talking.wait(lambda: talking.received["objects"], what="objects")
    assert len(talking.received["correspondences"][0].image_points) >= 2 * 8
    stages = {stage.stage: stage.seconds for stage in talking.received["objects"][0].latency}
    assert {"decode", "detect", "look", "solve", "total"} <= stages.keys()
    assert sum(seconds for stage, seconds in stages.items() if stage != "total") <= stages["total"]


def test_overlay_is_drawn_while_somebody_listens(talking: Any) -> None:
    overlays: list[Image] = []
    subscription = talking.node.create_subscription(Image, "/pose_estimator/overlay", overlays.append, 10)
    talking.wait(lambda: talking.node.count_subscribers("/pose_estimator/overlay"), what="the overlay's subscription")
    talking.status()  # the estimator knows of it, too
    talking.send(talking.image(0), talking.camera_info(0))
    talking.wait(lambda: overlays, what="the overlay")
    assert overlays[0].header == talking.header(0)
    drawn, pixels = conversions.rgb_from_image(overlays[0], None), talking.pixels(0)
    changed = (drawn != pixels).any(axis=-1).mean()
    assert 0.0 < changed < 0.5
    talking.node.destroy_subscription(subscription)


def _uncalibrated(image: Image, info: CameraInfo) -> None:
    info.k = [0.0] * 9


def _nan_in_k(image: Image, info: CameraInfo) -> None:
    info.k[2] = float("nan")


def _unknown_distortion(image: Image, info: CameraInfo) -> None:
    info.distortion_model = "mystery"


def _unknown_encoding(image: Image, info: CameraInfo) -> None:
    image.encoding = "rgb9"


def _truncated(image: Image, info: CameraInfo) -> None:
    image.data = image.data[:-100]


def _zero_size(image: Image, info: CameraInfo) -> None:
    image.width, image.height, image.step, image.data = 0, 0, 0, b""


def _other_size(image: Image, info: CameraInfo) -> None:
    info.width, info.height = 640, 480


def _without_frame(image: Image, info: CameraInfo) -> None:
    image.header.frame_id = ""


def _of_another_camera(image: Image, info: CameraInfo) -> None:
    info.header.frame_id = "other_optical_frame"


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_uncalibrated, "uncalibrated"),
        (_nan_in_k, "camera_info.k"),
        (_unknown_distortion, "camera_info.distortion_model"),
        (_unknown_encoding, "image.encoding"),
        (_truncated, "image.data"),
        (_zero_size, "image.width"),
        (_other_size, "expected 640x480"),
        (_without_frame, "image.header.frame_id"),
        (_of_another_camera, "'camera_optical_frame', got 'other_optical_frame'"),
    ],
)
def test_bad_input_is_said_and_survived(
    talking: Any, spoil: Callable[[Image, CameraInfo], None], expected: str
) -> None:
    image, info = talking.image(0), talking.camera_info(0)
    spoil(image, info)
    talking.send(image, info)
    talking.wait(lambda: expected in talking.status().message, what=expected)
    assert talking.status().level == DiagnosticStatus.ERROR
    assert not talking.received["poses"]
    assert not talking.received["objects"]
    talking.send(talking.image(1), talking.camera_info(1))
    talking.wait(lambda: talking.received["poses"], what="the next good image")
    assert talking.received["poses"][0].header == talking.header(1)


def test_disabled_node_processes_only_what_is_asked_for(talking: Any) -> None:
    assert talking.call(SetBool, "enable", SetBool.Request(data=False)).success
    talking.send(talking.image(0), talking.camera_info(0))
    assert _values(talking.status())["state"] == "disabled"
    assert not talking.received["objects"]
    assert talking.call(Trigger, "detect_once", Trigger.Request()).success
    broken = talking.image(3)
    broken.data = broken.data[:-100]
    talking.send(broken, talking.camera_info(3))  # does not use the request up
    talking.wait(lambda: "image.data" in talking.status().message, what="the broken image")
    for index in (1, 2):
        talking.send(talking.image(index), talking.camera_info(index))
    talking.wait(lambda: talking.received["objects"], what="the one image")
    talking.status()
    assert [message.header for message in talking.received["objects"]] == [talking.header(1)]
    assert talking.call(SetBool, "enable", SetBool.Request(data=True)).success


def test_images_without_camera_info_are_counted(talking: Any) -> None:
    for index in range(100, 120):
        talking.send(talking.image(index), talking.camera_info(999))
    talking.wait(lambda: int(_values(talking.status())["images without CameraInfo"]) >= 10, what="the count")
    assert not talking.received["objects"]


def test_lifecycle_goes_down_and_up_again(talking: Any) -> None:
    for transition, state in (
        (Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE),
        (Transition.TRANSITION_CLEANUP, State.PRIMARY_STATE_UNCONFIGURED),
        (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
        (Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),
    ):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert talking.call(ChangeState, "change_state", request).success
        assert talking.call(GetState, "get_state", GetState.Request()).current_state.id == state
        if state != State.PRIMARY_STATE_ACTIVE:
            assert not talking.call(Trigger, "detect_once", Trigger.Request()).success
    talking.wait_until_connected()
    talking.send(talking.image(0), talking.camera_info(0))
    talking.wait(lambda: talking.received["poses"], what="a pose after the restart")


@pytest.mark.parametrize("transition", [0, 1, 2, 3, 5, 6, 8, 10, 20, 60, 255])
def test_a_request_that_the_state_does_not_allow_is_refused(talking: Any, transition: int) -> None:
    request = ChangeState.Request(transition=Transition(id=transition))
    assert not talking.call(ChangeState, "change_state", request).success
    assert talking.call(GetState, "get_state", GetState.Request()).current_state.id == State.PRIMARY_STATE_ACTIVE


def test_parameters_that_count_at_configure_are_read_only_while_configured(talking: Any) -> None:
    def set_one(name: str, value: Any) -> str:
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return str(talking.call(SetParameters, "set_parameters", request).results[0].reason)

    assert "clean it up first" in set_one("estimator.max_passes", 3)
    assert "clean it up first" in set_one("device", "cpu")
    assert "type" in set_one("publish_tf", "no")
    assert set_one("publish_tf", True) == ""
    assert set_one("max_rate", 0.0) == ""


def test_diagnostics_name_the_camera(talking: Any) -> None:
    talking.send(talking.image(0), talking.camera_info(0))
    talking.wait(lambda: talking.received["objects"], what="a processed image")
    assert talking.status().hardware_id == "camera_optical_frame"
    assert talking.status().name == "pose_estimator: pose"


def _values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}
