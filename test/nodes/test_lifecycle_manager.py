"""The estimator under a lifecycle manager like nav2's: it sends transitions by id, retries, and may run twice."""

import gc
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from pnp_ros.nodes.lifecycle import ManagedNode
from pnp_ros.nodes.pose_estimator_node import PoseEstimatorNode
from pnp_ros.objects.object_package import ObjectPackage

START_S = 120.0


class _Manager:
    """Brings a node up and down without looking at its state."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe

    def send(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self._probe.call(ChangeState, "change_state", request).success)

    def state(self) -> int:
        return int(self._probe.call(GetState, "get_state", GetState.Request()).current_state.id)

    def startup(self) -> list[bool]:
        return [self.send(Transition.TRANSITION_CONFIGURE), self.send(Transition.TRANSITION_ACTIVATE)]

    def set_object(self, folder: str) -> None:
        request = SetParameters.Request(parameters=[Parameter("object", value=folder).to_parameter_msg()])
        assert self._probe.call(SetParameters, "set_parameters", request).results[0].successful


@pytest.mark.parametrize("kind", [lambda: ManagedNode("managed"), PoseEstimatorNode], ids=["managed", "estimator"])
def test_the_graph_forgets_a_destroyed_node_at_once(kind: Any, probe: Any) -> None:
    gc.disable()  # which would take the rest of it at some time
    try:
        node = kind()
        name = node.get_name()
        assert name in probe.node.get_node_names()
        node.destroy_node()
        assert name not in probe.node.get_node_names()
    finally:
        gc.enable()


def test_what_the_library_warns_of_is_heard_where_nodes_are_heard(probe: Any) -> None:
    heard: list[str] = []
    subscription = probe.node.create_subscription(Log, "/rosout", lambda message: heard.append(message.msg), 100)
    node = ManagedNode("warned")
    logger = logging.getLogger("pnp_ros.kernels.lm_launch")
    probe.wait(lambda: node.count_subscribers("/rosout") and probe.node.count_publishers("/rosout") >= 2)

    def said() -> bool:
        logger.warning("compiled kernels are kept in %s", "/tmp")
        return "compiled kernels are kept in /tmp" in heard

    probe.wait(said, what="the warning on /rosout")
    node.destroy_node()
    assert not logging.getLogger("pnp_ros").handlers
    probe.node.destroy_subscription(subscription)


@pytest.fixture
def spoilt(package: ObjectPackage, tmp_path: Path) -> Any:
    """Copies of the object package with one field changed."""

    def spoil(**changes: Any) -> str:
        folder = tmp_path / next(iter(changes))
        folder.mkdir()
        for file in package.root.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        fields = yaml.safe_load((folder / "object.yaml").read_text())
        (folder / "object.yaml").write_text(yaml.safe_dump(fields | changes))
        return str(folder)

    return spoil


def test_a_manager_that_fails_retries_and_runs_twice(
    start_estimator: Any, probe: Any, package: ObjectPackage, spoilt: Any
) -> None:
    manager = _Manager(probe)
    with start_estimator(package.root, autostart=False):
        probe.wait(lambda: probe.received["diagnostics"], START_S, "diagnostics")
        for folder, told in (
            ("x" * 300, "name too long"),
            (spoilt(mesh=[1]), "mesh: expected"),
            (spoilt(diameter=10**400), "diameter: expected"),
            ("/nowhere/mug", "no such object package"),
        ):
            manager.set_object(folder)
            assert manager.startup() == [False, False]
            assert manager.state() == State.PRIMARY_STATE_UNCONFIGURED
            status = probe.status()
            assert status.level == DiagnosticStatus.ERROR
            assert told in status.message
        manager.set_object(str(package.root))
        assert manager.startup() == [True, True]
        assert manager.startup() == [False, False]  # a second manager
        assert manager.state() == State.PRIMARY_STATE_ACTIVE
        probe.wait_until_connected()
        probe.send(probe.image(0), probe.camera_info(0))
        probe.wait(lambda: probe.received["poses"], what="a pose")
        assert manager.send(Transition.TRANSITION_DEACTIVATE)
        assert not manager.send(Transition.TRANSITION_DEACTIVATE)
        assert manager.send(Transition.TRANSITION_CLEANUP)
        assert manager.startup() == [True, True]
        assert manager.send(Transition.TRANSITION_ACTIVE_SHUTDOWN)
        assert manager.startup() == [False, False]
        assert manager.state() == State.PRIMARY_STATE_FINALIZED
