"""The launch files hang together with the nodes: launch loads them where it is installed, else their text is read."""

import ast
import importlib.util
from pathlib import Path

import pytest
import yaml

from pnp_ros.io.resources import resource

LAUNCH_FILES = ["pose.launch.py", "demo.launch.py", "cameras.launch.py"]
HAS_LAUNCH = importlib.util.find_spec("launch_ros") is not None


def _calls(name: str, function: str) -> list[ast.Call]:
    tree = ast.parse((resource("launch") / name).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == function]


def _text(call: ast.Call, keyword: str) -> str:
    (value,) = [entry.value for entry in call.keywords if entry.arg == keyword]
    assert isinstance(value, ast.Constant)
    return str(value.value)


@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_every_argument_is_declared_and_described(name: str) -> None:
    declared = {ast.literal_eval(call.args[0]) for call in _calls(name, "DeclareLaunchArgument")}
    assert all(_text(call, "description") for call in _calls(name, "DeclareLaunchArgument"))
    used = {ast.literal_eval(call.args[0]) for call in _calls(name, "value") if isinstance(call.args[0], ast.Constant)}
    assert used
    assert used <= declared


@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_names_are_relative(name: str) -> None:
    """So that a namespace holds for them; no name is put together with a slash before it."""
    defaults = [entry.value for call in _calls(name, "DeclareLaunchArgument") for entry in call.keywords]
    texts = [value.value for value in defaults if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    assert not [text for text in texts if text.startswith("/")]
    tree = ast.parse((resource("launch") / name).read_text())
    lists = [node.elts for node in ast.walk(tree) if isinstance(node, ast.List) and node.elts]
    assert not [first for first, *_ in lists if isinstance(first, ast.Constant) and first.value == "/"]


def test_no_file_of_parameters_undoes_what_a_launch_file_sets_for_its_nodes() -> None:
    """SetParameter is the weakest: whatever a node's own file says goes before it."""
    file = yaml.safe_load((resource("config") / "pose_estimator.yaml").read_text())
    set_by_launch = {ast.literal_eval(call.args[0]) for call in _calls("cameras.launch.py", "SetParameter")}
    assert "publish_tf" in set_by_launch
    assert not set_by_launch & file["/**"]["ros__parameters"].keys()


@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_executables_are_installed(name: str) -> None:
    installed = (Path(__file__).parents[2] / "CMakeLists.txt").read_text()
    for call in _calls(name, "Node"):
        if _text(call, "package") == "pnp_ros":
            executable = _text(call, "executable")
            assert importlib.util.find_spec(f"pnp_ros.nodes.{executable}") is not None
            assert executable in installed


@pytest.mark.parametrize("view", sorted(resource("config").glob("*.rviz")))
def test_view_shows_covariance_about_fixed_axes(view: Path) -> None:
    displays = yaml.safe_load(view.read_text())["Visualization Manager"]["Displays"]
    (pose,) = [display for display in displays if display["Class"].endswith("PoseWithCovariance")]
    assert pose["Covariance"]["Orientation"]["Frame"] == "Fixed"


@pytest.mark.ros
@pytest.mark.skipif(not HAS_LAUNCH, reason="launch is not installed")
@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_launch_loads_them(name: str) -> None:
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    description = get_launch_description_from_python_launch_file(str(resource("launch") / name))
    assert all(argument.description for argument in description.get_launch_arguments())
