"""Parameters are bounded, whenever and however they are set."""

import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.node import Node
from rclpy.parameter import Parameter

from pnp_ros.nodes.parameters import Parameters, check_topics, device_of
from pnp_ros.pipeline.config import EstimatorConfig


@pytest.fixture
def made(ros: None) -> Iterator[Any]:
    """Makes a node with parameters, started with the values that are given."""
    nodes = []

    def make(**given: Any) -> tuple[Node, Parameters]:
        overrides = [Parameter(name.replace("__", "."), value=value) for name, value in given.items()]
        nodes.append(rclpy.create_node("bounded", parameter_overrides=overrides))
        parameters = Parameters(nodes[-1])
        parameters.declare("share", 0.5, "A share", low=0.0, high=1.0)
        parameters.declare("count", 3, "A count", low=1, high=9, live=True)
        parameters.declare("way", "raw", "A way", choices=("raw", "compressed"), live=True)
        parameters.declare("device", "cpu", "A device", check=device_of, live=True)
        parameters.declare_config("estimator", EstimatorConfig)
        return nodes[-1], parameters

    yield make
    for node in nodes:
        node.destroy_node()


WRONG = [
    ("share", math.nan),
    ("share", -1.0),
    ("share", math.inf),
    ("share", "half"),
    ("count", 2**62),
    ("count", 0),
    ("way", "carrier pigeon"),
    ("device", "toaster"),
    ("device", "cuda:77"),
    ("device", "meta"),
    ("estimator.max_passes", 2**62),
    ("estimator.max_distance", math.nan),
    ("estimator.settled", -1.0),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_wrong_values_are_refused_at_run_time(made: Any, name: str, value: Any) -> None:
    node, _ = made()
    before = node.get_parameter(name).value
    (result,) = node.set_parameters([Parameter(name, value=value)])
    assert not result.successful
    assert name in result.reason or "type" in result.reason
    assert node.get_parameter(name).value == before


def test_a_parameter_without_a_name_is_refused(made: Any) -> None:
    node, _ = made()
    (result,) = node.set_parameters([Parameter("", value=math.nan)])
    assert "expected a name" in result.reason
    assert not node.has_parameter("")


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_wrong_values_at_the_start_are_told_until_they_are_mended(made: Any, name: str, value: Any) -> None:
    node, parameters = made(**{name.replace(".", "__"): value})
    with pytest.raises(ValueError, match=f"parameter {name}: "):
        parameters.check()
    (result,) = node.set_parameters([Parameter(name, value=node.get_parameter(name).value)])
    assert result.successful
    parameters.check()


def test_a_whole_number_will_do_for_a_float(made: Any) -> None:
    node, parameters = made(share=1)
    parameters.check()
    assert node.get_parameter("share").value == 1.0


def test_what_a_configuration_says_of_two_fields_holds(made: Any) -> None:
    node, _ = made()
    low, high = Parameter("estimator.valid_presence", value=0.05), Parameter("estimator.lost_presence", value=0.01)
    assert "at least lost_presence" in node.set_parameters([low])[0].reason
    assert node.set_parameters_atomically([low, high]).successful


def test_locked_parameters_say_when_they_count(made: Any) -> None:
    node, parameters = made()
    parameters.settle()
    assert "is read when the node starts" in node.set_parameters([Parameter("share", value=0.6)])[0].reason
    assert node.set_parameters([Parameter("count", value=4)])[0].successful
    parameters.lock("")
    assert node.set_parameters([Parameter("share", value=0.6)])[0].successful


def test_unknown_parameters_are_told_with_the_nearest(made: Any) -> None:
    _, parameters = made(shar=0.3, estimator__max_pases=3)
    assert parameters.unknown() == [
        "estimator.max_pases (did you mean estimator.max_passes?)",
        "shar (did you mean share?)",
    ]


@pytest.mark.parametrize(
    "module", ["pose_estimator", "fine_tuning", "simulated_camera", "bag_player", "bag_recorder", "pose_fusion"]
)
def test_every_number_of_every_node_has_a_range(
    ros: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the recorder makes its bag where it is started
    nodes = importlib.import_module(f"pnp_ros.nodes.{module}_node")
    (kind,) = [
        value for name, value in vars(nodes).items() if name.endswith("Node") and value.__module__ == nodes.__name__
    ]
    declared: dict[str, dict[str, Any]] = {}
    declare = Parameters.declare

    def note(self: Parameters, name: str, default: Any, description: str, **bounds: Any) -> Any:
        declared[name] = {"default": default, "description": description, **bounds}
        return declare(self, name, default, description, **bounds)

    monkeypatch.setattr(Parameters, "declare", note)
    try:
        node = kind()
    except ValueError:  # it needs an object, or a bag; its parameters are declared by then
        node = None
    if node is not None:
        node.destroy_node()
    assert declared
    for name, entry in declared.items():
        assert entry["description"]
        if isinstance(entry["default"], (int, float)) and not isinstance(entry["default"], bool):
            assert entry.get("low") is not None, name
            assert entry.get("high") is not None, name


def test_an_empty_list_in_a_file_is_an_empty_list(ros: None, tmp_path: Path) -> None:
    file = tmp_path / "parameters.yaml"
    file.write_text("/**: {ros__parameters: {objects: [], 'estimator.sources': []}}")
    node = rclpy.create_node("listing", cli_args=["--ros-args", "--params-file", str(file)])
    try:
        parameters = Parameters(node)
        assert not any(parameters.declare("objects", [""], "Folders"))
        parameters.check()
        parameters.declare_config("estimator", EstimatorConfig)
        with pytest.raises(ValueError, match=r"parameter estimator\.sources: expected some of"):
            parameters.check()
    finally:
        node.destroy_node()


@pytest.mark.parametrize("name", ["foo bar", "/tür", "/tf/", "a//b", "1a", "/" + 300 * "a"])
def test_what_no_topic_can_be_called_is_named(name: str) -> None:
    check_topics(["", "/tf", "~/pose", "camera/image_raw"])
    with pytest.raises(ValueError, match="expected names of topics") as refused:
        check_topics(["/tf", name])
    assert repr(name) in str(refused.value)
