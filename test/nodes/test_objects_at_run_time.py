"""Objects come and go by services; several views make one pose by an action: one process for both."""

import math
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy")

from action_msgs.msg import GoalStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from rclpy.validate_topic_name import validate_topic_name
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from pnp_ros.action import Localize
from pnp_ros.nodes import conversions
from pnp_ros.nodes.pose_estimator_node import PoseEstimatorNode
from pnp_ros.nodes.pose_outputs import topics_of
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.srv import AddObject, RemoveObject

NAME, TOPIC = "kühlkörper", "k_hlk_rper"


@pytest.fixture(scope="module")
def other(package: ObjectPackage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that differs from the demo's by its name, which no topic may have."""
    folder = Path(shutil.copytree(package.root, tmp_path_factory.mktemp("objects") / "other"))
    settings = yaml.safe_load((folder / "object.yaml").read_text())
    (folder / "object.yaml").write_text(yaml.safe_dump(settings | {"name": NAME}))
    return folder


def test_any_name_has_a_topic_of_its_own() -> None:
    names = ["mug_1", "mug-1", "mug 1", "1mug", "object_1mug", "kühlkörper", "кружка", "чашка", "_hidden", "x" * 128]
    topics = topics_of(names)
    assert topics == topics_of(names)
    assert list(topics) == names
    assert len(set(topics.values())) == len(names)
    for topic in topics.values():
        validate_topic_name(f"/pose_estimator/{topic}/pose")
        assert not topic.startswith("_")  # ROS lists no such topics
    assert [topics[name] for name in names[:5]] == ["mug_1", "mug_1_2", "mug_1_3", "object_1mug_2", "object_1mug"]
    assert topics["kühlkörper"] == "k_hlk_rper"
    assert topics_of(["mug 1", "mug-1"], {"mug 1": "mug_1", "gone": ""}) == {"mug 1": "mug_1", "mug-1": "mug_1_2"}
    assert topics_of(["кружка"]) == {"кружка": ""}


def test_an_object_whose_outputs_cannot_be_changed_stays_as_it_was(
    ros: None, package: ObjectPackage, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PoseEstimatorNode, "autostart", lambda self: None)
    monkeypatch.setattr("pnp_ros.nodes.pose_estimator_node.rehearse", lambda scene: None)
    node = PoseEstimatorNode()
    try:
        node.set_parameters([Parameter("object", value=str(package.root))])
        node.configure()
        describe, refused = node._odometry.describe, [{"demo", NAME}]

        def fail(topics: Any) -> None:
            if set(topics) in refused:
                raise RuntimeError("no publisher")
            describe(topics)

        monkeypatch.setattr(node._odometry, "describe", fail)
        answer = _added(node, other)
        assert (answer.success, answer.message) == (False, "RuntimeError: no publisher")
        assert list(node.scene.estimators) == list(node._topics) == ["demo"]
        refused[0] = {"demo"}
        assert _added(node, other).success
        request = RemoveObject.Request(object_name=NAME)
        answer = node._object_services._on_remove(request, RemoveObject.Response())
        assert (answer.success, answer.message) == (False, "RuntimeError: no publisher")
        assert list(node.scene.estimators) == list(node._topics) == ["demo", NAME]
    finally:
        node.destroy_node()


def _added(node: PoseEstimatorNode, folder: Path) -> AddObject.Response:
    """What the service answers, without an executor."""
    answering = node._object_services._on_add(AddObject.Request(folder=str(folder)), AddObject.Response())
    while True:
        try:
            answering.send(None)
        except StopIteration as end:
            answer: AddObject.Response = end.value
            return answer
        time.sleep(0.01)


def test_objects_and_views(start_estimator: Any, probe: Any, package: ObjectPackage, other: Path) -> None:
    with start_estimator("", objects=[str(package.root)]):
        probe.wait_until_connected()
        _localize(probe, package)
        _come_and_go(probe, package, other)


def _send(probe: Any, index: int) -> Any:
    """Image ``index``, and what was said of it."""
    count = len(probe.received["objects"])
    probe.send(probe.image(index), probe.camera_info(index))
    probe.wait(lambda: len(probe.received["objects"]) > count, what="an image")
    return probe.received["objects"][-1]


def _localize(probe: Any, package: ObjectPackage) -> None:
    """The frame `cell` is the object's own: each view then says the identity, and TF comes after the pose."""
    client = ActionClient(probe.node, Localize, "/pose_estimator/localize")
    assert client.wait_for_server(timeout_sec=30.0)
    transforms = probe.node.create_publisher(TFMessage, "/tf", 100)
    remarks: list[str] = []

    def begin(**goal: Any) -> Any:
        sent = client.send_goal_async(Localize.Goal(**goal), lambda m: remarks.append(m.feedback.message))
        probe.wait(sent.done, what="the goal")
        assert sent.result().accepted
        return sent.result()

    def end(handle: Any) -> Any:
        result = handle.get_result_async()
        probe.wait(result.done, what="the result")
        return result.result()

    for goal, reason in (
        ({"object_id": "nobody", "fixed_frame": "cell"}, "object_id: expected one of demo"),
        ({}, "fixed_frame: expected"),
        ({"fixed_frame": "cell", "views": 1}, "views: expected 2"),
        ({"fixed_frame": "cell", "timeout": math.nan}, "timeout: expected"),
        ({"fixed_frame": "cell", "timeout": 0.2}, "0 of 5 views"),
    ):
        answer = end(begin(**goal))
        assert answer.status == GoalStatus.STATUS_ABORTED
        assert reason in answer.result.message
    handle = begin(fixed_frame="cell", views=3)
    probe.wait(transforms.get_subscription_count, what="the listener to TF")
    again = client.send_goal_async(Localize.Goal(fixed_frame="cell"))
    probe.wait(again.done, what="the second goal")
    assert not again.result().accepted
    result, index = handle.get_result_async(), 0
    while not result.done():
        assert index < 90, remarks  # of eight sides; ten times a second the node looks whether it has enough
        (found,) = _send(probe, index).objects
        camera = conversions.pose_from_message(found.pose.pose).inverse()
        at = Header(frame_id="cell", stamp=probe.header(index).stamp)
        transforms.publish(TFMessage(transforms=[conversions.transform(at, "camera_optical_frame", camera)]))
        _send(probe, index)  # the same image is no view of its own
        index += 1
        probe.wait(lambda: result.done() or remarks[-1:], what="the result or a remark")
    answer = result.result()
    assert answer.status == GoalStatus.STATUS_SUCCEEDED, answer.result.message
    assert answer.result.success
    assert (answer.result.used, answer.result.refused) == (3, 0)
    assert answer.result.pose.header.frame_id == "cell"
    pose = conversions.pose_from_message(answer.result.pose.pose.pose)
    assert float(pose.translation.norm()) < 0.01 * package.diameter
    assert any("move on" in remark for remark in remarks)
    handle = begin(fixed_frame="cell")
    probe.wait(handle.cancel_goal_async().done, what="the cancelling")
    assert end(handle).status == GoalStatus.STATUS_CANCELED
    client.destroy()


def _come_and_go(probe: Any, package: ObjectPackage, other: Path) -> None:
    for folder, count, reason in (
        ("", 0, "folder: expected"),
        ("/nowhere", 0, "/nowhere"),
        (str(package.root), 0, "demo twice"),
        (str(other), 200, "instances: expected 64"),
    ):
        answer = probe.call(AddObject, "add_object", AddObject.Request(folder=folder, instances=count))
        assert not answer.success
        assert reason in answer.message
    poses: list[PoseWithCovarianceStamped] = []
    probe.node.create_subscription(PoseWithCovarianceStamped, f"/pose_estimator/{TOPIC}_1/pose", poses.append, 10)
    for turn in range(2):  # it may come again
        answer = probe.call(AddObject, "add_object", AddObject.Request(folder=str(other), instances=2))
        assert answer.success, answer.message
        assert answer.object_ids == [f"{NAME}_0", f"{NAME}_1"]
        assert answer.topics == [f"{TOPIC}_0", f"{TOPIC}_1"]
        count = len(probe.received["poses"])
        ids = [item.object_id for item in _send(probe, 100 + 10 * turn).objects]
        assert ids == ["demo", f"{NAME}_0", f"{NAME}_1"]
        probe.wait(lambda: probe.node.count_publishers(f"/pose_estimator/{TOPIC}_1/pose"), what="its topic")
        for index in range(2):
            _send(probe, 101 + 10 * turn + index)
        probe.wait(lambda: len(probe.received["poses"]) > count, what="poses of the first object, on its old topic")  # noqa: B023
        answer = probe.call(RemoveObject, "remove_object", RemoveObject.Request(object_name="nobody"))
        assert f"object_name: expected one of demo, {NAME}, got 'nobody'" in answer.message
        assert probe.call(RemoveObject, "remove_object", RemoveObject.Request(object_name=NAME)).success
        probe.wait(lambda: not probe.node.count_publishers(f"/pose_estimator/{TOPIC}_1/pose"), what="its end")
        assert [item.object_id for item in _send(probe, 109 + 10 * turn).objects] == ["demo"]
